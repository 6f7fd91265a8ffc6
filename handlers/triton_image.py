"""The two small models around an archive in an image ensemble: encoded pictures to tensors, and scores to a class name.

Which of the two this is, the manifest beside it says (`settings.role`: "decode" or "label").
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
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
    """Decodes pictures or names classes."""

    def initialize(self, args):
        """Check the files.

        Raises:
            TritonModelException: One is not as packaged.
        """
        folder = Path(__file__).resolve().parent.parent
        try:
            manifest = runtime.verified_manifest(folder)
            self.settings = manifest["settings"]
            self.names = runtime.class_names(folder, self.settings)
        except runtime.Broken as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.work = {"decode": self._decode, "label": self._label}[self.settings["role"]]

    def execute(self, requests):
        """Answer requests, one response each, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, self.settings["input"])
        try:
            if tensor is None:
                raise runtime.BadRow(f"input {self.settings['input']!r} is missing")
            outputs = self.work(tensor.as_numpy())
        except (runtime.BadRow, runtime.Broken) as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(name, array) for name, array in outputs.items()]
        )

    def _decode(self, encoded):
        rows = [runtime.row_from_picture(bytes(each), self.settings["spec"]) for each in encoded.reshape(-1)]
        if len({row.shape for row in rows}) != 1:
            raise runtime.BadRow("pictures of different sizes cannot share one request to a model of dynamic size")
        return {self.settings["output"]: np.stack(rows)}

    def _label(self, scores):
        rows = scores.reshape(-1, scores.shape[-1])
        classes = np.array([runtime.best(row) for row in rows], np.int64)
        shape = scores.shape[:-1] if self.settings["batch"] == 0 else (*scores.shape[:-1], 1)
        words = [f"{index}:{self.names[index]}" if self.names else str(index) for index in classes]
        labels = np.array([word.encode() for word in words], np.object_)
        return {"label": labels.reshape(shape), "class": classes.reshape(shape)}
