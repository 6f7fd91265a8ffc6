"""Prove, over the network, that an endpoint serves your model."""

__version__ = "0.1.0"
