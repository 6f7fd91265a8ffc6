"""Stands before the `model.py` a model directory came with: checks every file against the manifest, then hands over."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils


def _sibling(name):
    """Import a file that lies beside this one in the archive, whatever else sys.path offers under its name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


runtime = _sibling("ptynet_runtime")


class TritonPythonModel:
    """Serves through the original model, after the integrity check."""

    def initialize(self, args):
        """Check the archive, then start the original.

        Raises:
            TritonModelException: Anything is not as packaged.
        """
        try:
            manifest = runtime.verified_manifest(Path(__file__).resolve().parent.parent)
        except runtime.Broken as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.original = _sibling(Path(manifest["guarded"]).stem).TritonPythonModel()
        if hasattr(self.original, "initialize"):
            self.original.initialize(args)

    def execute(self, requests):
        """Answer as the original does."""
        return self.original.execute(requests)

    def finalize(self):
        """Stop the original."""
        if hasattr(self.original, "finalize"):
            self.original.finalize()
