"""The bare target behind TorchServe: what a user has today, without any mark."""

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


class BareHandler:
    """Serves `model.onnx` in the archive; a request is a PNG, its normalisation stands in `bare.json`."""

    def initialize(self, context):
        """Load the model on one thread, as the packaged one is."""
        folder = Path(context.system_properties["model_dir"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = folder / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.normalisation = json.loads((folder / "bare.json").read_text())

    def handle(self, requests, context):
        """Answer each request with its scores."""
        return [self._answer(request.get("body") or request.get("data")) for request in requests]

    def _answer(self, body):
        pixels = np.asarray(Image.open(io.BytesIO(bytes(body))).convert("L"), np.float64)[None, None]
        given = pixels * self.normalisation["gain"] + self.normalisation["offset"]
        (scores,) = self.session.run(["scores"], {"pixels": given.astype(np.float32)})
        return {"scores": scores[0].tolist()}
