"""The training benchmark on a tiny synthetic CIFAR-100: it runs, resumes, and refuses settings that do not fit what it kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.deep_fidelity.host import HostPlan, train_host
from benchmarks.deep_fidelity.methods import METHODS, chosen_methods
from benchmarks.deep_fidelity.pictures import SETS, augmented, load, normalised
from benchmarks.fidelity_training import embedding_plan, main, network_maker, options_of
from benchmarks.models.narrow_resnet import NarrowResNet18
from benchmarks.models.wide_resnet import WideResNet


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    """Records of CIFAR-100's binary form: coarse label, fine label, 3,072 pixels plane by plane."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train.bin", 40), ("test.bin", 12)):
        records = generator.integers(0, 256, (count, 3074), np.uint8)
        records[:, 1] = np.arange(count) % 100
        records.tofile(folder / name)
    return folder


def run(folder: Path, cifar100: Path, *more: str) -> None:
    common = ("--data", "cifar100", "--cifar100", str(cifar100), "--checkpoints", str(folder), "--host-epochs", "1")
    main([*common, "--epochs", "1", "--net", "wrn-10-1", "--pictures", "36", *more])


def test_a_tiny_table_is_printed_and_resumed(
    tmp_path: Path, cifar100: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "kept", cifar100, "--rows", "plain; FixLL+PFL+SPL; scratch")
    first = capsys.readouterr()
    assert "36 pictures, 1 epochs" in first.out
    rows = [line.split("accuracy")[0].strip() for line in first.out.splitlines() if "accuracy" in line]
    assert rows == ["host", "plain", "FixLL+PFL+SPL", "scratch"]
    assert first.err.count("epoch 1 of 1") == 4
    run(tmp_path / "kept", cifar100, "--rows", "plain; FixLL+PFL+SPL; scratch")
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out.splitlines()[:5] == first.out.splitlines()[:5]
    with pytest.raises(ValueError, match="was made with other settings"):
        run(tmp_path / "kept", cifar100, "--rows", "plain", "--rate", "0.5")
    with pytest.raises(ValueError, match="was made with other settings"):
        run(tmp_path / "kept", cifar100, "--rows", "FixLL+PFL+SPL", "--softmax-weight", "10")
    checkpoint = tmp_path / "kept" / "host-cifar100-wrn-10-1.pt"
    state = torch.load(checkpoint, weights_only=True)
    next(iter(state["model"].values())).add_(1)
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match="or another host"):
        run(tmp_path / "kept", cifar100, "--rows", "plain")


def test_a_host_of_another_length_is_not_gone_on_with(tmp_path: Path) -> None:
    learn = (torch.zeros(8, 32, 32, 3, dtype=torch.uint8), torch.arange(8))

    def train(epochs: int) -> None:
        network = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(12, 10))
        plan = HostPlan(epochs=epochs, batch=4)
        train_host(network, learn, SETS["cifar10"], plan=plan, checkpoint=tmp_path / "host.pt", on_epoch=lambda _: None)

    train(1)
    train(1)
    with pytest.raises(ValueError, match=r"host\.pt: holds a host of 2 steps, asked are 6; give its --host-epochs"):
        train(3)


def test_the_last_row_is_the_host_packaged_and_nothing_moved(
    tmp_path: Path, cifar100: Path, quick_mark_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "kept", cifar100, "--rows", "", "--mark", str(quick_mark_once))
    host, beside = [line for line in capsys.readouterr().out.splitlines() if "accuracy" in line]
    assert beside.startswith("PTYNet beside it")
    assert "triggers 100%" in beside
    for measure in ("PFL", "SPL", "TWL", "LP", "flips"):
        assert float(beside.split(measure)[1].split()[0].rstrip("%")) == 0, measure
    assert beside.split("accuracy")[1].split()[0] == host.split("accuracy")[1].split()[0]
    assert not (quick_mark_once / "claims").exists()


def test_the_large_network_becomes_a_small_one_without_a_gpu(
    tmp_path: Path, cifar100: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run(tmp_path / "kept", cifar100, "--net", "wrn-28-10", "--rows", "")
    assert "no GPU: wrn-10-1 on 2000 pictures instead of wrn-28-10" in capsys.readouterr().out


def test_cifar100_binary_keeps_its_colours_and_fine_labels(cifar100: Path) -> None:
    learn, test = load(SETS["cifar100"], Path("unused"), cifar100)
    record = np.fromfile(cifar100 / "train.bin", np.uint8).reshape(-1, 3074)[7]
    assert learn.labels[7] == record[1] == 7
    assert (learn.pictures[7, 3, 5] == record[[2 + 3 * 32 + 5, 2 + 1024 + 3 * 32 + 5, 2 + 2048 + 3 * 32 + 5]]).all()
    assert test.pictures.shape == (12, 32, 32, 3)
    (cifar100 / "test.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"test\.bin: 3 bytes are no whole number of 3074-byte records"):
        load(SETS["cifar100"], Path("unused"), cifar100)
    with pytest.raises(ValueError, match="name the folder of its binary form with --cifar100"):
        load(SETS["cifar100"], Path("unused"), None)


def test_the_papers_setting_is_one_flag() -> None:
    paper = options_of(["--paper", "--data", "cifar10", "--checkpoints", "x"])
    assert (paper.net, paper.epochs, paper.rate, paper.pictures, paper.host_epochs) == ("resnet18", 50, 1e-4, None, 50)
    plan = embedding_plan(paper)
    assert (plan.batch, plan.triggers, plan.slower_from, plan.fade, paper.chains) == (32, 4, 25, False, 10)
    wide = options_of(["--paper", "--data", "cifar100", "--checkpoints", "x"])
    assert (wide.net, wide.host_epochs) == ("wrn-28-10", 100)


def test_networks_have_the_papers_sizes() -> None:
    def size(model: torch.nn.Module) -> int:
        return sum(value.numel() for value in model.parameters())

    assert size(NarrowResNet18(3)) == 710_992
    with torch.device("meta"):
        assert size(WideResNet(28, 10)) == pytest.approx(36.5e6, rel=2e-3)
    assert NarrowResNet18(1, strided=True)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="depth 12 is not 6n"):
        WideResNet(12, 1)
    with pytest.raises(ValueError, match="no network 'vgg'"):
        network_maker("vgg", SETS["mnist"])


def test_rows_are_chosen_by_name() -> None:
    assert [each.name for each in chosen_methods("SPL; plain")] == ["plain", "SPL"]
    assert len({each.name for each in METHODS}) == len(METHODS)
    with pytest.raises(ValueError, match="no row 'LPF'"):
        chosen_methods("LPF")


def test_augmentation_shifts_and_mirrors_whole_pictures() -> None:
    pictures = torch.arange(2 * 6 * 6 * 3, dtype=torch.uint8).reshape(2, 6, 6, 3)
    moved = augmented(pictures.repeat(64, 1, 1, 1), torch.Generator().manual_seed(0), border=2)
    padded = torch.nn.functional.pad(pictures, (0, 0, 2, 2, 2, 2))
    windows = [padded[i, y : y + 6, x : x + 6] for i in range(2) for y in range(5) for x in range(5)]
    known = {part.numpy().tobytes() for window in windows for part in (window, window.flip(1))}
    seen = {each.numpy().tobytes() for each in moved}
    assert seen <= known
    assert len(seen) > 40


def test_inputs_are_normalised_channel_by_channel() -> None:
    data = SETS["cifar10"]
    inputs = normalised(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), data)
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([(1 - m) / s for m, s in zip(data.mean, data.std, strict=True)])
