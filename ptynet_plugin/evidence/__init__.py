"""Evidence for third parties: time stamps, bindings, signed bundles, and the checkers of all three."""
