"""Packaging, serving, registry and command line of the PTYNet plugin."""
