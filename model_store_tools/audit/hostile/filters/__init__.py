"""Filters of inputs that do not look like the thief's own data; each detector a file with its paper on top.

A detector maps a picture to a number, higher for stranger. `filtered` puts one before a model, at a threshold that turns away a
stated share of benign pictures, and answers what it turns away in one of three ways.
"""

from model_store_tools.audit.hostile.filters.gate import Detector, filtered, threshold

__all__ = ["Detector", "filtered", "threshold"]
