"""TorchServe's handler for an archive made by package-model.

It reads JPEG and PNG bytes, a picture as nested JSON lists, KServe v1 (`instances`) and Open Inference Protocol v2 (`inputs`)
bodies itself, since the server's envelopes break under batching. A bad request gets a 400 of its own; no other request of its
batch notices.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np


def _sibling(name):
    """Import a file that lies beside this one in the archive, whatever else sys.path offers under its name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


runtime = _sibling("ptynet_runtime")

_NUMPY_TYPES = {
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "UINT8": "uint8",
    "INT8": "int8",
}
_PROTOCOL_TYPES = {name: code for code, name in _NUMPY_TYPES.items()}


class PTYNetHandler:
    """Serves one archive. The server builds it once per worker and calls `initialize`, then `handle` per batch."""

    def __init__(self):
        self.manifest = None

    def initialize(self, context):
        """Check the archive, load the model, run it once.

        Raises:
            Broken: Anything is not as packaged; the worker then dies and the model never becomes ready.
        """
        properties = context.system_properties
        folder = Path(properties["model_dir"])
        manifest = runtime.verified_manifest(folder)
        gpu = properties.get("gpu_id")
        self.model = runtime.open_model(folder, manifest, gpu=None if gpu is None else int(gpu))
        self.names = runtime.class_names(folder, manifest)
        self.spec = manifest["spec"]
        self.manifest = manifest
        shape = [side or 64 for side in runtime.row_shape(self.spec)]
        self._run([np.zeros(shape, self.spec["dtype"])])

    def handle(self, requests, context):
        """Answer a batch.

        Args:
            requests: One dict per request; the body is under "body" or "data".
            context: The server's; a refused request's status is set on it.

        Returns:
            One answer per request, in order.
        """
        if self.manifest is None:
            raise runtime.Broken("the handler was not initialized; not serving")
        parsed = [self._parsed(request) for request in requests]
        good = [(index, row) for index, (rows, _) in enumerate(parsed) for row in rows]
        scores = self._scores([row for _, row in good])
        answers = []
        for index, (_, finish) in enumerate(parsed):
            own = [row for (owner, _), row in zip(good, scores) if owner == index]
            failed = next((row for row in own if isinstance(row, runtime.BadRow)), None)
            make = finish if failed is None else _refusal(str(failed))
            answers.append(make(own, context, index))
        return answers

    def _parsed(self, request):
        """Give (rows, finish): `finish(scores, context, index)` makes the answer."""
        try:
            return self._rows(_body(request))
        except runtime.BadRow as error:
            return [], _refusal(str(error))

    def _rows(self, body):
        if isinstance(body, (bytes, bytearray)):
            if bytes(body[:8]).startswith(runtime.PICTURE_MAGIC):
                return [runtime.row_from_picture(bytes(body), self.spec)], self._plain
            body = _json(body)
        if isinstance(body, str):
            body = _json(body)
        if isinstance(body, dict) and "instances" in body:
            return [self._instance(each) for each in _nonempty(body["instances"], "instances")], self._version_one
        if isinstance(body, dict) and "inputs" in body:
            return self._tensor_rows(body["inputs"]), self._version_two(body.get("id"))
        if isinstance(body, (list, dict)):
            return [self._instance(body)], self._plain
        raise runtime.BadRow("send a JPEG or PNG, a picture as JSON lists, {'instances': [...]} or {'inputs': [...]}")

    def _instance(self, value):
        if isinstance(value, dict):
            if set(value) != {"b64"}:
                raise runtime.BadRow(
                    "an instance is a picture as lists of numbers, or {'b64': base64 of a JPEG or PNG}"
                )
            return runtime.row_from_picture(runtime.picture_from_base64(value["b64"]), self.spec)
        return runtime.row_from_values(value, self.spec)

    def _tensor_rows(self, inputs):
        tensor = _nonempty(inputs, "inputs")[0]
        if not isinstance(tensor, dict) or not {"shape", "datatype", "data"} <= set(tensor):
            raise runtime.BadRow("inputs[0] needs name, shape, datatype and data")
        if tensor.get("datatype") == "BYTES":
            pictures = [runtime.picture_from_base64(each) for each in _nonempty(tensor["data"], "data")]
            return [runtime.row_from_picture(each, self.spec) for each in pictures]
        if _NUMPY_TYPES.get(tensor.get("datatype")) != self.spec["dtype"]:
            wanted = _PROTOCOL_TYPES[self.spec["dtype"]]
            raise runtime.BadRow(f"inputs[0] has datatype {tensor.get('datatype')!r}, this model takes {wanted}")
        values = _reshaped(tensor["data"], tensor["shape"])
        return [runtime.row_from_values(row, self.spec) for row in values]

    def _scores(self, rows):
        """Run all rows, those of one shape together where the model takes more than one; gives scores or a `BadRow` each."""
        answers = [None] * len(rows)
        for group in _groups(rows, self.manifest["batch"] or 1):
            for index, answer in zip(group, self._tried([rows[index] for index in group])):
                answers[index] = answer
        return answers

    def _tried(self, rows):
        """Run rows together; if that fails, each alone, so that one cannot take the others down."""
        try:
            return self._run(rows)
        except runtime.Broken:
            raise
        except Exception as error:  # noqa: BLE001 -- an engine raises what it likes; the row's sender gets it as a 400
            if len(rows) > 1:
                return [self._tried([row])[0] for row in rows]
            return [runtime.BadRow(f"the model cannot answer this input ({type(error).__name__}: {error})")]

    def _run(self, rows):
        scores = self.model({self.manifest["input"]: np.stack(rows)})[self.manifest["scores"]]
        if len(scores) != len(rows):
            raise runtime.Broken(
                f"the model answered {len(scores)} rows to {len(rows)}; package it as a batch-1 target"
            )
        return [np.asarray(row).reshape(-1) for row in scores]

    def _plain(self, scores, _context, _index):
        return self._answer(scores[0])

    def _version_one(self, scores, _context, _index):
        return {"predictions": [self._answer(row) for row in scores]}

    def _version_two(self, request_id):
        def finish(scores, _context, _index):
            table = np.stack(scores)
            output = {
                "name": self.manifest["scores"],
                "shape": list(table.shape),
                "datatype": _PROTOCOL_TYPES.get(str(table.dtype), "FP32"),
                "data": _clean(table.reshape(-1)),
            }
            answer = {
                "model_name": self.manifest["name"],
                "model_version": self.manifest["version"],
                "outputs": [output],
            }
            return {**answer, "id": request_id} if isinstance(request_id, str) else answer

        return finish

    def _answer(self, scores):
        index = runtime.best(scores)
        label = {"label": self.names[index]} if self.names else {}
        return {"class": index, **label, "scores": _clean(scores)}


def _body(request):
    body = request.get("body")
    if body is None:
        body = request.get("data")
    if isinstance(body, memoryview):
        body = body.tobytes()
    if body is None or (isinstance(body, (str, bytes, bytearray)) and not body):
        form = (
            " (it is a form; with curl: -H 'Content-Type: application/json')" if set(request) - {"body", "data"} else ""
        )
        raise runtime.BadRow(f"the request has no body{form}; send a JPEG, a PNG or JSON")
    return body


def _json(octets):
    try:
        return json.loads(octets)
    except (ValueError, RecursionError):
        raise runtime.BadRow("the body is neither JPEG, PNG nor JSON") from None


def _nonempty(value, name):
    if not isinstance(value, list) or not value:
        raise runtime.BadRow(f"{name!r} must be a list with at least one entry")
    return value


def _reshaped(data, shape):
    sides = shape if isinstance(shape, list) else []
    if not sides or not all(isinstance(side, int) and side > 0 for side in sides):
        raise runtime.BadRow("inputs[0].shape must be a list of whole numbers above 0")
    try:
        values = np.asarray(data).reshape(-1)
    except (ValueError, OverflowError):
        raise runtime.BadRow("inputs[0].data is ragged") from None
    if values.size != math.prod(sides):
        raise runtime.BadRow(f"inputs[0] has {values.size} values, its shape {sides} needs {math.prod(sides)}")
    return values.reshape(sides)


def _groups(rows, most):
    by_shape = {}
    for index, row in enumerate(rows):
        by_shape.setdefault(row.shape, []).append(index)
    for members in by_shape.values():
        for start in range(0, len(members), most):
            yield members[start : start + most]


def _clean(scores):
    return [float(score) if math.isfinite(score) else None for score in scores]


def _refusal(message):
    def finish(_scores, context, index):
        context.set_response_status(400, "BadInput", index)
        return {"code": 400, "type": "BadInput", "message": message}

    return finish
