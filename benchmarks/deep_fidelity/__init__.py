"""The experiments of Hua & Teoh (arXiv 2208.00563): hosts, methods and what they cost, for `benchmarks.fidelity_training`."""
