"""Real model servers on this machine: installed in environments of their own, started on loopback, stopped for sure.

This package's root imports nothing: `python -m model_store_tools.serving.preflight` runs before anything is installed.
"""
