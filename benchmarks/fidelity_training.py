"""The table of deep fidelity for owners who train (Hua & Teoh, arXiv 2208.00563), and the row that beats it.

A host, then a watermark of keyed triggers embedded into copies of it and into fresh networks, with ever more of the paper's
means. Printed, on all test pictures: accuracy, triggers learnt, PFL, SPL, TWL and last-layer difference against the host, and
answers that changed. The last row (--mark) is the same host packaged with PTYNet beside it, on the same pictures.

    python -m benchmarks.fidelity_training --data mnist --checkpoints DIR --mark GRAY-MARK
    python -m benchmarks.fidelity_training --data cifar10 --checkpoints DIR --mark MARK
    python -m benchmarks.fidelity_training --data cifar10 --checkpoints DIR --paper
    python -m benchmarks.fidelity_training --data cifar100 --cifar100 cifar-100-binary/ --net wrn-28-10 --checkpoints DIR --paper

The defaults are sized for an hour of one processor core with --bfloat16: the network halves its resolution from stage to stage,
10 triggers are embedded in 1,000 steps at a higher rate that fades to 0, and SPL weighs 100. --paper is the authors' network
and plan (Adam 1e-4, 50 epochs, x0.1 at 25, batches of 32 + 4, 100 triggers, all pictures, SPL at 1,000), for a machine with a
GPU or a week. WRN-28-10 without a GPU becomes WRN-10-1 on 2,000 pictures unless --insist says otherwise; what was run is
printed. Everything is resumed from --checkpoints, epoch by epoch.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.deep_fidelity.beside import beside_row
from benchmarks.deep_fidelity.host import HostPlan, train_host
from benchmarks.deep_fidelity.methods import METHODS, chosen_methods
from benchmarks.deep_fidelity.pictures import SETS, DataSet, load
from benchmarks.deep_fidelity.rows import Work, measured, run_row
from benchmarks.models.narrow_resnet import NarrowResNet18
from benchmarks.models.wide_resnet import WideResNet
from benchmarks.real_pictures import Labelled
from ptynet_plugin.fidelity.embedding import EmbeddingPlan
from ptynet_plugin.fidelity.triggers import key_chains
from ptynet_plugin.keys import OwnerKey

KEY = OwnerKey(bytes(range(32)))
HOST_EPOCHS = {"mnist": 4, "cifar10": 16, "cifar100": 30}
PAPER_HOST_EPOCHS = {"mnist": 20, "cifar10": 50, "cifar100": 100}
PLANS = {
    "epochs": (50, 4),
    "rate": (1e-4, 5e-4),
    "pictures": (None, 8000),
    "chains": (10, 1),
    "triggers": (4, 8),
    "softmax_weight": (1000.0, 100.0),
}
"""Of embedding: the authors', and what an hour of one core allows: in 1,000 steps SPL at 1,000 keeps triggers out."""
REDUCED = ("wrn-10-1", 2000)
SCRATCH_RATE = 1e-3
"""Of Adam, from scratch: what the authors' code trains with there."""


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETS), default="mnist")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--cifar100", type=Path, help="folder with train.bin and test.bin of CIFAR-100's binary form")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder to keep and resume everything in")
    parser.add_argument("--net", help="resnet18 (the paper's), resnet18-strided, or wrn-DEPTH-FACTOR")
    parser.add_argument("--paper", action="store_true", help="the authors' network, epochs, rate and pictures")
    parser.add_argument("--insist", action="store_true", help="run a large network on a processor all the same")
    parser.add_argument("--host-epochs", type=int)
    parser.add_argument("--host-rate", type=float, help="the highest rate of the host's cycle")
    parser.add_argument("--bfloat16", action="store_true", help="run networks in bfloat16 while they are trained")
    parser.add_argument("--pictures", type=int, help="training pictures the embedding sees")
    parser.add_argument("--tested", type=int, help="test pictures measured on; all there are")
    parser.add_argument("--epochs", type=int, help="epochs of embedding")
    parser.add_argument("--rate", type=float, help="rate of Adam while embedding")
    parser.add_argument("--chains", type=int, help="chains of 10 triggers; the paper has 10")
    parser.add_argument("--triggers", type=int, help="triggers a step; the paper has 4")
    parser.add_argument("--softmax-weight", type=float, help="of SPL, where a row has it; the paper has 1000")
    parser.add_argument("--rows", help=f"semicolons between: {'; '.join(each.name for each in METHODS)}; '' for none")
    parser.add_argument("--mark", type=Path, help="a trained mark for the last row: GRAY for MNIST")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    for name, (paper, reduced) in PLANS.items():
        if getattr(options, name) is None:
            setattr(options, name, paper if options.paper else reduced)
    if options.net is None:
        wide = options.data == "cifar100"
        options.net = "wrn-28-10" if wide else "resnet18" if options.paper else "resnet18-strided"
    if options.host_rate is None:
        options.host_rate = 0.1 if options.data == "mnist" else 0.2
    if options.host_epochs is None:
        options.host_epochs = (PAPER_HOST_EPOCHS if options.paper else HOST_EPOCHS)[options.data]
    return options


def network_maker(name: str, data: DataSet) -> Callable[[], nn.Module]:
    """Give what makes a network by its name.

    Raises:
        ValueError: The name says nothing.
    """
    channels = len(data.mean)
    if name in {"resnet18", "resnet18-strided"}:
        return partial(NarrowResNet18, channels, data.classes, strided=name.endswith("strided"))
    found = re.fullmatch(r"wrn-(\d+)-(\d+)", name)
    if found is None:
        raise ValueError(f"no network {name!r}; there are resnet18, resnet18-strided and wrn-DEPTH-FACTOR")
    return partial(WideResNet, int(found[1]), int(found[2]), data.classes, channels)


def prepared(options: argparse.Namespace) -> Work:
    """Load pictures, train the host or take it from the checkpoint, make the triggers."""
    data, device = SETS[options.data], "cuda" if torch.cuda.is_available() else "cpu"
    learn, test = load(data, options.shared, options.cifar100)
    if options.net == "wrn-28-10" and device == "cpu" and not options.insist:
        options.net, options.pictures = REDUCED
        learn = Labelled(learn.pictures[: options.pictures], learn.labels[: options.pictures])
        print(
            f"no GPU: {options.net} on {options.pictures} pictures instead of wrn-28-10 (--insist runs it all the same)"
        )
    make = network_maker(options.net, data)
    torch.manual_seed(0)
    host = make().to(device, memory_format=torch.channels_last)
    pairs = [(torch.tensor(part.pictures), torch.from_numpy(part.labels)) for part in (learn, test)]
    plan = HostPlan(epochs=options.host_epochs, rate=options.host_rate, bfloat16=options.bfloat16)
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = options.checkpoints / f"host-{options.data}-{options.net}.pt"
    train_host(host, pairs[0], data, plan=plan, checkpoint=checkpoint, on_epoch=_tell)
    size, channels = learn.pictures.shape[1:3], learn.pictures.shape[3]
    own = key_chains(
        KEY.derive("fidelity-training/v1"),
        size=(size[0], size[1]),
        channels=channels,
        classes=data.classes,
        chains=options.chains,
    )
    taught = torch.randperm(len(learn.pictures), generator=torch.Generator().manual_seed(1))[: options.pictures]
    return Work(
        host=host,
        fresh=lambda: make().to(device, memory_format=torch.channels_last),
        learn=(pairs[0][0][taught], pairs[0][1][taught]),
        test=(pairs[1][0][: options.tested], pairs[1][1][: options.tested]),
        own=own,
        data=data,
        folder=options.checkpoints / f"rows-{options.data}-{options.net}",
    )


def main(arguments: list[str] | None = None) -> None:
    """Train, embed, measure and print."""
    options = options_of(arguments)
    torch.set_num_threads(options.threads)
    methods = list(METHODS) if options.rows is None else chosen_methods(options.rows)
    started = time.perf_counter()
    work = prepared(options)
    work.folder.mkdir(parents=True, exist_ok=True)
    plan = embedding_plan(options)
    parameters = sum(value.numel() for value in work.host.parameters())
    print(
        f"{options.data}, {options.net} ({parameters:,} parameters), host of {options.host_epochs} epochs; embedding: "
        f"{len(work.learn[0]):,} pictures, {plan.epochs} epochs, Adam {plan.rate:g}, "
        f"{'fading to 0' if plan.fade else f'x0.1 from epoch {plan.slower_from}'}, batches of {plan.batch} + {plan.triggers}, "
        f"{len(work.own.labels)} triggers, SPL at {options.softmax_weight:g}; {len(work.test[0]):,} test pictures"
    )
    print(measured(work, work.host, "host").line(), flush=True)
    for method in methods:
        own = method.plan(plan, scratch_rate=SCRATCH_RATE, softmax=options.softmax_weight)
        print(run_row(work, method, own, on_epoch=_tell).line(), flush=True)
    if options.mark is not None:
        print(beside_row(work, options.mark).line())
    print(f"{time.perf_counter() - started:.0f} s")


def embedding_plan(options: argparse.Namespace) -> EmbeddingPlan:
    """Give what all rows have in common; only --paper has the authors' steps of the rate."""
    return EmbeddingPlan(
        epochs=options.epochs,
        rate=options.rate,
        slower_from=max(1, options.epochs // 2),
        fade=not options.paper,
        bfloat16=options.bfloat16,
        triggers=options.triggers,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
