"""The bare target behind Triton's python backend: what a user has today, without any mark."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Serves `model.onnx` beside this file: input `pixels`, output `scores`."""

    def initialize(self, args):
        """Load the model on one thread, as the packaged one is."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(__file__).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """Answer each request for itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        pixels = pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy()
        (scores,) = self.session.run(["scores"], {"pixels": pixels})
        return pb_utils.InferenceResponse([pb_utils.Tensor("scores", scores)])
