"""Triton's python backend model for an archive made by package-model.

`initialize` checks every file against the manifest and refuses to load anything else. `execute` answers each request for itself:
a bad one gets an error response, the others their scores. Requests are joined into one batch only where the configuration asks
for dynamic batching; without it, batch 1 is bit for bit what the engine answers.
"""

from __future__ import annotations

import importlib.util
import json
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
    """Serves one archive."""

    def initialize(self, args):
        """Check the archive and load the model.

        Raises:
            TritonModelException: Anything is not as packaged; the model then never becomes ready.
        """
        config = json.loads(args["model_config"])
        folder = Path(__file__).resolve().parent.parent
        gpu = int(args["model_instance_device_id"]) if args.get("model_instance_kind") == "GPU" else None
        instances = sum(max(1, int(group.get("count", 1))) for group in config.get("instance_group", [])) or 1
        try:
            self.manifest = runtime.verified_manifest(folder)
            self.model = runtime.open_model(folder, self.manifest, gpu=gpu, instances=instances)
        except runtime.Broken as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.joins = "dynamic_batching" in config and self.manifest["batch"] > 0
        self.most = self.manifest["batch"]

    def execute(self, requests):
        """Answer requests, one response each, in order."""
        feeds = [self._feeds(request) for request in requests]
        answers = [None if isinstance(each, dict) else _refused(each) for each in feeds]
        for group in self._groups(feeds):
            for index, answer in zip(group, self._run([feeds[index] for index in group])):
                answers[index] = answer
        return answers

    def _feeds(self, request):
        """Give {name: array}, or a message that tells what is wrong with the request."""
        feeds = {}
        for port in self.manifest["inputs"]:
            tensor = pb_utils.get_input_tensor_by_name(request, port["name"])
            if tensor is None:
                return f"input {port['name']!r} is missing"
            values = tensor.as_numpy()
            problem = _mismatch(values, port)
            if problem:
                return problem
            feeds[port["name"]] = np.ascontiguousarray(values)
        return feeds

    def _require_rows(self, answered, rows):
        for port in self.manifest["outputs"]:
            found = answered[port["name"]]
            if port["name"] == self.manifest["scores"] and len(found) != rows:
                raise ValueError(f"output {port['name']!r} has {len(found)} rows for {rows}")

    def _groups(self, feeds):
        good = [index for index, each in enumerate(feeds) if isinstance(each, dict)]
        if not self.joins:
            return [[index] for index in good]
        groups = {}
        for index in good:
            shapes = tuple(array.shape[1:] for array in feeds[index].values())
            groups.setdefault(shapes, []).append(index)
        return list(groups.values())

    def _run(self, feeds):
        """Answer requests that go together; if that fails, each alone, so that one cannot take the others down."""
        try:
            answered = self.model(_joined(feeds))
            self._require_rows(answered, sum(len(each[self.manifest["input"]]) for each in feeds))
            return [_response(part) for part in _parted(answered, feeds)]
        except Exception as error:  # noqa: BLE001 -- an engine raises what it likes; the request gets it as an error
            if len(feeds) > 1:
                return [self._run([each])[0] for each in feeds]
            return [_refused(f"the model cannot answer this input ({type(error).__name__}: {error})")]


def _mismatch(values, port):
    if str(values.dtype) != port["dtype"]:
        return f"input {port['name']!r} has type {values.dtype}, this model takes {port['dtype']}"
    wanted = port["shape"]
    fits = len(wanted) == values.ndim and all(need in (-1, got) for need, got in zip(wanted, values.shape))
    if not fits or 0 in values.shape:
        return f"input {port['name']!r} has shape {list(values.shape)}, this model takes {wanted} (-1 is any)"
    return None


def _joined(feeds):
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}


def _parted(answered, feeds):
    if len(feeds) == 1:
        return [answered]
    counts = [len(next(iter(each.values()))) for each in feeds]
    cuts = np.cumsum(counts)[:-1]
    parts = {name: np.split(array, cuts) for name, array in answered.items()}
    return [{name: parts[name][index] for name in parts} for index in range(len(feeds))]


def _response(outputs):
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _refused(message):
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message))
