"""Published watermarks for classifiers, re-implemented from their papers behind one contract, to be measured beside ours.

One file a rival, its paper on top; where a paper leaves something open the file says what was chosen. See `contract`.
"""
