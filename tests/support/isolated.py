"""Runs an unpacked archive's handler as a server would: in an empty directory, in a process where our package does not exist."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from ptynet_plugin.archives import open_archive
from ptynet_plugin.archives.checking import unpack_member
from tests.support.tiny_archives import clean_environment

PREAMBLE = """
import json, sys, types
sys.path.append({site!r})
try:
    import ptynet_plugin
except ImportError:
    pass
else:
    raise SystemExit("our package is visible: the test proves nothing")
import numpy as np
from pathlib import Path
ARCHIVE = Path({archive!r})

class Context:
    def __init__(self, folder, gpu=None):
        self.system_properties = {{"model_dir": str(folder), "gpu_id": gpu}}
        self.manifest = {{}}
        self.statuses = {{}}
    def set_response_status(self, code=200, phrase="", idx=0):
        self.statuses[idx] = code

class Tensor:
    def __init__(self, name, values):
        self.name, self.values = name, values
    def as_numpy(self):
        return self.values

class TritonError(Exception):
    def message(self):
        return str(self)

class Response:
    def __init__(self, output_tensors=(), error=None):
        self.outputs = {{tensor.name: tensor.values for tensor in output_tensors}}
        self.error = error

pb_utils = types.ModuleType("triton_python_backend_utils")
pb_utils.Tensor, pb_utils.TritonError, pb_utils.InferenceResponse = Tensor, TritonError, Response
pb_utils.TritonModelException = type("TritonModelException", (Exception,), {{}})
pb_utils.get_input_tensor_by_name = lambda request, name: request.get(name)
sys.modules["triton_python_backend_utils"] = pb_utils

def load(path):
    import importlib.util
    sys.path.append(str(Path(path).parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[Path(path).stem] = module
    spec.loader.exec_module(module)
    return module

def only_class(module):
    import inspect
    found = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    assert len(found) == 1, found
    return found[0]

def torchserve():
    context = Context(ARCHIVE)
    handler = only_class(load(ARCHIVE / HANDLER))()
    handler.initialize(context)
    def ask(*bodies):
        context.statuses.clear()
        return handler.handle([{{"body": body}} for body in bodies], context), context.statuses
    return ask

def triton(config, version="1", file="model.py"):
    model = load(ARCHIVE / version / file).TritonPythonModel()
    args = {{"model_config": json.dumps(config), "model_repository": str(ARCHIVE), "model_version": version}}
    model.initialize({{**args, "model_instance_kind": "CPU", "model_instance_device_id": "0"}})
    def ask(*feeds):
        requests = [{{name: Tensor(name, values) for name, values in each.items()}} for each in feeds]
        return model.execute(requests)
    return ask

HANDLER = "torchserve_handler.py"
"""


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack an archive the way a server does."""
    with open_archive(archive) as opened:
        for name in opened.names():
            unpack_member(opened, name, folder)
    return folder


def run_isolated(archive: Path, program: str, *, cwd: Path, fails: bool = False) -> object:
    """Run a program that sets `result`; gives it back, or the last line of stderr where the program is to fail.

    Args:
        archive: Unpacked archive.
        program: Python source; finds `torchserve()`, `triton(config)`, `np`, `json` and `ARCHIVE` at hand.
        cwd: Empty folder.
        fails: Whether an exception is expected.
    """
    preamble = PREAMBLE.format(site=sysconfig.get_path("purelib"), archive=str(archive))
    source = f"{preamble}\n{program}\nprint('RESULT', json.dumps(result))"
    done = subprocess.run(  # noqa: PLW1510 -- the return code is looked at below
        [sys.executable, "-I", "-S", "-B", "-c", source],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    if fails:
        assert done.returncode != 0, done.stdout
        return done.stderr.strip().splitlines()[-1]
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("RESULT ")[2])
