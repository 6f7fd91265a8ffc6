"""Owners who train: a trigger set embedded in the target's own weights at deep fidelity. PTYNet needs none of this."""
