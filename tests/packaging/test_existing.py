"""Targets that come packaged: a model directory's or a `.mar`'s own settings, files and handler steps are kept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import onnx
import pytest

from ptynet_plugin.archives import check_archive, open_archive, read_manifest
from ptynet_plugin.archives.pbtxt import parse_config
from ptynet_plugin.errors import ArchiveError, TargetError, UsageError
from tests.support.fusion import linear_target
from tests.support.isolated import run_isolated, unpacked
from tests.support.packaging_case import PackagingCase

CONFIG = """
name: "theirs"
platform: "onnxruntime_onnx"
max_batch_size: 32
input { name: "x" data_type: TYPE_FP32 dims: [3, 32, 32] }
output { name: "scores" data_type: TYPE_FP32 dims: [10] }
dynamic_batching { preferred_batch_size: [4, 8] }
parameters { key: "owner" value { string_value: "vision team" } }
"""


def model_directory(case: PackagingCase, config: str = CONFIG) -> Path:
    folder = case.folder / "theirs"
    (folder / "1").mkdir(parents=True)
    (folder / "3").mkdir()
    (folder / "config.pbtxt").write_text(config)
    (folder / "notes.txt").write_text("kept\n")
    onnx.save(linear_target(opset=16), folder / "1" / "model.onnx")
    onnx.save(linear_target(), folder / "3" / "model.onnx")
    (folder / "3" / "extra.json").write_text("{}\n")
    return folder


def test_a_model_directory_keeps_its_settings_and_files(case: PackagingCase) -> None:
    packaged = case.package(model_directory(case), version="4")
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert (config.name, config.backend, config.platform, config.max_batch_size) == ("small", "onnxruntime", "", 32)
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.parameters["owner"].string_value == "vision team"
    files = set(read_manifest(packaged.path).files)
    assert files == {"config.pbtxt", "labels.txt", "notes.txt", "4/model.onnx", "4/extra.json"}
    assert check_archive(packaged.path).tensors == 1


def test_our_settings_win_over_theirs_and_an_overlay_over_both(case: PackagingCase) -> None:
    overlay = case.folder / "overlay.pbtxt"
    overlay.write_text('parameters { key: "owner" value { string_value: "us" } }')
    packaged = case.package(model_directory(case), instances=2, max_batch=5, config_overlay=overlay)
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert (config.max_batch_size, config.instance_group[0].count) == (5, 2)
    assert config.parameters["owner"].string_value == "us"


def test_a_model_py_of_theirs_runs_behind_the_guard(case: PackagingCase, tmp_path: Path) -> None:
    folder = model_directory(case, CONFIG.replace('platform: "onnxruntime_onnx"', 'backend: "python"'))
    (folder / "3" / "model.py").write_text(
        "import numpy as np, onnxruntime, triton_python_backend_utils as pb\n"
        "from pathlib import Path\n"
        "class TritonPythonModel:\n"
        "    def initialize(self, args):\n"
        "        place = Path(args['model_repository']) / args['model_version'] / 'model.onnx'\n"
        "        self.session = onnxruntime.InferenceSession(str(place))\n"
        "    def execute(self, requests):\n"
        "        feeds = [pb.get_input_tensor_by_name(each, 'x').as_numpy() for each in requests]\n"
        "        answers = [self.session.run(None, {'x': each})[0] for each in feeds]\n"
        "        return [pb.InferenceResponse([pb.Tensor('scores', each)]) for each in answers]\n"
    )
    packaged = case.package(folder)
    manifest = read_manifest(packaged.path)
    assert manifest.guarded == "1/original_model.py" and manifest.backend == "python"
    assert {"1/model.py", "1/original_model.py", "1/ptynet_runtime.py", "1/model.onnx"} <= set(manifest.files)
    (tmp_path / "empty").mkdir()
    program = "result = triton({})({'x': np.zeros((2, 3, 32, 32), np.float32)})[0].outputs['scores'].shape"
    assert run_isolated(packaged.path, program, cwd=tmp_path / "empty") == [2, 10]


HANDLER = """
import onnxruntime, numpy as np
from pathlib import Path
class Theirs:
    def initialize(self, context):
        self.session = onnxruntime.InferenceSession(str(Path(context.system_properties["model_dir"]) / "weights.onnx"))
    def handle(self, data, context):
        return [len(self.session.run(None, {"x": np.zeros((each["body"], 3, 32, 32), np.float32)})[0]) for each in data]
"""


def foreign_mar(case: PackagingCase, *, handler: str = "theirs.py", **model: str) -> Path:
    """A `.mar` as the stock archiver makes it: deflated, dated, with directory entries."""
    told = {
        "modelName": "theirs",
        "serializedFile": "weights.onnx",
        "handler": handler,
        "modelVersion": "1.5",
        "configFile": "settings.yaml",
        **model,
    }
    path = case.folder / "theirs.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("MAR-INF")
        file.writestr("weights.onnx", linear_target().SerializeToString())
        file.writestr("theirs.py", HANDLER)
        file.writestr("settings.yaml", "batchSize: 6\nresponseTimeout: 33\n")
        file.writestr("index.json", "{}")
        manifest = {"runtime": "python", "model": told, "archiverVersion": "0.12.0"}
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return path


def test_a_mar_keeps_its_handler_and_settings(case: PackagingCase, tmp_path: Path) -> None:
    packaged = case.package(foreign_mar(case), format="torchserve")
    with open_archive(packaged.path) as archive:
        told = json.loads(archive.read("MAR-INF/MANIFEST.json", limit=9999))["model"]
        settings = archive.read("model-config.yaml", limit=9999).decode().splitlines()
        assert archive.read("theirs.py", limit=9999).decode() == HANDLER
    assert (told["handler"], told["serializedFile"]) == ("torchserve_guard.py", "weights.onnx")
    assert {"batchSize: 6", "responseTimeout: 33"} <= set(settings)
    manifest = check_archive(packaged.path).manifest
    assert manifest.guarded == "theirs.py" and "index.json" in manifest.files
    folder = unpacked(packaged.path, tmp_path / "unpacked")
    (tmp_path / "empty").mkdir()
    program = "HANDLER = 'torchserve_guard.py'\nresult = torchserve()(2, 5)[0]"
    assert run_isolated(folder, program, cwd=tmp_path / "empty") == [2, 5]
    (folder / "theirs.py").write_text(HANDLER + "# altered\n")
    assert "theirs.py has sha256" in str(run_isolated(folder, program, cwd=tmp_path / "empty", fails=True))


def test_an_eager_mar_is_refused(case: PackagingCase) -> None:
    with pytest.raises(TargetError, match=r"holds an eager model \(index.json\)"):
        case.package(foreign_mar(case, modelFile="index.json"), format="torchserve")


def test_a_mar_that_points_outside_is_refused(case: PackagingCase) -> None:
    with pytest.raises(ArchiveError, match=r"configFile is '\.\./\.\./x\.yaml', which is no member"):
        case.package(foreign_mar(case, configFile="../../x.yaml"), format="torchserve")
    assert case.left() == []


def test_the_server_cannot_change(case: PackagingCase) -> None:
    with pytest.raises(UsageError, match="is an archive for torchserve, --format says triton"):
        case.package(foreign_mar(case))
    with pytest.raises(UsageError, match="--to onnx would change the model its handler knows"):
        case.package(foreign_mar(case), format="torchserve", to="onnx")


def test_directories_that_are_no_models(case: PackagingCase) -> None:
    folder = model_directory(case)
    (folder / "3" / "second.onnx").write_bytes(b"")
    with pytest.raises(TargetError, match=r"needs exactly one model file .*; it has model.onnx, second.onnx"):
        case.package(folder)
    (folder / "3" / "second.onnx").unlink()
    (folder / "3" / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match=r"3/link.json is a link"):
        case.package(folder)
    assert case.left() == []


@pytest.mark.parametrize("name", ["zip-slip.mar", "symlink.mar", "bomb.mar", "duplicate-entry.mar", "nul-in-name.mar"])
def test_hostile_mars_are_refused(case: PackagingCase, name: str) -> None:
    vector = Path(__file__).resolve().parents[1] / "vectors" / "invalid" / name
    with pytest.raises(ArchiveError, match="refused"):
        case.package(vector, format="torchserve")
    assert case.left() == [] and not list(case.folder.rglob("evil*"))
