"""ONNX graphs as torch modules: what a thief needs to train an archive he stole.

    operators    what each operator of an inference graph does, in torch
    module       a graph as a module whose weights are parameters, and its way back into the same graph

`docs/decisions/our-own-onnx-executor.md` says why no converter serves.
"""
