"""The row that is not trained: the same host packaged with PTYNet beside it, measured on the same test pictures."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Literal, cast

import numpy as np
from torch import nn

from benchmarks.deep_fidelity.pictures import DataSet
from benchmarks.deep_fidelity.rows import Row, Work
from model_store_tools.packaging.benign import Benign
from model_store_tools.packaging.gate import full_gate, tensor_digests
from model_store_tools.packaging.package import Options, package
from model_store_tools.packaging.subjects import onnx_subjects
from model_store_tools.targets.convert import convert
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.module import ModuleTarget
from ptynet_plugin.archives.checking import model_on_disk
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.fidelity.comparison import Effort
from ptynet_plugin.spec import InputSpec, load_spec

__all__ = ["beside_row", "spec_text"]


def spec_text(data: DataSet, size: tuple[int, int]) -> str:
    """Write the SPEC.toml of a host."""
    color = "GRAY" if len(data.mean) == 1 else "RGB"
    numbers = {"mean": list(data.mean), "std": list(data.std), "size": list(size)}
    lines = [f'color = "{color}"', 'output = "logits"', f"classes = {data.classes}"]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in numbers.items())]) + "\n"


def beside_row(work: Work, mark: Path) -> Row:
    """Package the host as ONNX with a trained mark, and compare what was packed with the host on every test picture.

    Args:
        work: The host and the test pictures.
        mark: A trained mark of the right color; it is copied, nothing is written into it.

    Returns:
        The row; `triggers` is the share of 32 probes answered with their keyed label.
    """
    test = work.test[0].numpy()
    with TemporaryDirectory(prefix="ptynet-") as scratch:
        folder = Path(scratch)
        (folder / "SPEC.toml").write_text(spec_text(work.data, cast("tuple[int, int]", test.shape[1:3])))
        copytree(mark, folder / "MARK")
        bare = _as_onnx(work.host, load_spec(folder / "SPEC.toml"), folder)
        options = Options(
            mark=folder / "MARK",
            spec=folder / "SPEC.toml",
            format=cast("Literal['triton']", "triton"),
            out=folder,
            name="host",
        )
        packaged = package(str(bare), options)
        with open_archive(packaged.path) as archive:
            manifest = archive.manifest()
            with model_on_disk(archive, manifest) as model:
                report = full_gate(
                    *onnx_subjects(bare, model, manifest.spec),
                    manifest.spec,
                    host_tensors=tensor_digests(load_target(str(bare)).tensors()),
                    packaged_tensors=tensor_digests(target_sums(model, manifest.engine).tensors),
                    benign=Benign(test, work.test[1].numpy(), "test pictures"),
                    effort=Effort(answered=None, inner_pictures=len(test)),
                )
    values = {row.name: np.nan if row.value is None else row.value for row in report.rows}
    return Row(
        name="PTYNet beside it",
        accuracy=values["accuracy_packaged"],
        triggers=(packaged.probes or 0) / packaged.asked,
        pfl=values["feature_loss"],
        spl=values["softmax_loss"],
        twl=0.0 if values["tensors_changed"] == 0 else np.nan,
        last_layer=values["last_layer_difference"],
        flips=values["top1_flips"] / len(test),
    )


def _as_onnx(host: nn.Module, said: InputSpec, folder: Path) -> Path:
    target = ModuleTarget(host, where="the host")
    (folder / "bare").mkdir()
    made = convert(target, "onnx", target.complete_spec(said), folder / "bare").target
    assert made.path is not None
    return made.path
