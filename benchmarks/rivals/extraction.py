"""What is left of each scheme in a clone that was trained on the service's answers?

The thief asks the *service* (DAWN answers some pictures wrongly there; no file is stolen) about his own pictures once, and trains
a student from scratch: on the top classes (Knockoff, Orekondy et al., CVPR 2019) or by distillation (Hinton et al.,
arXiv 1503.02531). Student, pictures and order are the same for all. DAWN asks the clone the thief's pictures that it answered
wrongly, as its paper does; every other scheme its own triggers. Schemes whose answers to the thief are the same to the last bit
share one student.

    python -m benchmarks.rivals.extraction [--mark MARK --key OWNER.key] [--data DIR] [--only NAME ...] [--json F]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.marked_targets import owner
from benchmarks.real_pictures import Labelled, cifar_train
from benchmarks.rivals.adi import ADI
from benchmarks.rivals.contract import Ask, Pictures, Rival, Task
from benchmarks.rivals.dawn import DAWN
from benchmarks.rivals.deep_fidelity import DEEP_FIDELITY
from benchmarks.rivals.measuring import asked, probabilities
from benchmarks.rivals.none import NONE
from benchmarks.rivals.ours import ours
from benchmarks.rivals.published_ptynet import PUBLISHED_PTYNETS
from benchmarks.rivals.tasks import cifar_task
from benchmarks.rivals.trojannet import TROJANNET
from benchmarks.rivals.zhang import CONTENT, NOISE
from model_store_tools.audit.attacks.distillation import softened
from model_store_tools.audit.attacks.knockoff import hard
from model_store_tools.audit.attacks.students import Student
from model_store_tools.audit.training import Schedule, fit, seeded

RIVALS = (PUBLISHED_PTYNETS[0], TROJANNET, ADI, CONTENT, NOISE, DEEP_FIDELITY, DAWN, NONE)
ATTACKS = ("Knockoff, labels", "distillation")
COLUMNS = 3


@dataclass(frozen=True)
class Row:
    """One clone: accuracy on test pictures, agreement with the thief's answers, and what the scheme's verification says."""

    rival: str
    attack: str
    accuracy: float
    learnt: float
    hits: int
    queries: int
    accepted: bool
    log10_p: float
    to_alpha: float | None


class Clones:
    """Trains students, one for every different set of answers.

    Args:
        task: What the pictures are encoded for.
        thief: The thief's pictures and their true classes.
        schedule: Of the training.
    """

    def __init__(self, task: Task, thief: Labelled, schedule: Schedule) -> None:
        self._task, self._thief, self._schedule = task, thief, schedule
        self._made: dict[str, nn.Module] = {}
        self._makers = {ATTACKS[0]: hard, ATTACKS[1]: partial(softened, torch.from_numpy(thief.labels))}

    def of(self, answers: NDArray[np.float64], attack: str) -> nn.Module:
        """Give the student of some answers, probabilities of shape (pictures, classes)."""
        learnt = answers.argmax(axis=1) if attack == ATTACKS[0] else answers
        digest = attack + hashlib.sha256(learnt.tobytes()).hexdigest()
        if digest not in self._made:
            logs = torch.from_numpy(np.log(np.maximum(answers, 1e-12)).astype(np.float32))
            self._made[digest] = self._trained(logs, self._makers[attack])
        return self._made[digest]

    def _trained(self, logs: Tensor, make_loss: Callable[..., Callable[[Tensor, Tensor], Tensor]]) -> nn.Module:
        pixels, rows = self._task.tensor(self._thief.pictures), torch.arange(len(logs))
        with seeded(0) as generator:
            student = nn.Sequential(nn.AvgPool2d(2), Student(3, logs.shape[1], channels_last=False)).train()
            fit(
                list(student.parameters()),
                pixels,
                rows,
                make_loss(student, logs),
                schedule=self._schedule,
                generator=generator,
                columns=COLUMNS,
            )
        return student.eval()


def rows_of(
    rival: Rival,
    task: Task,
    test: Labelled,
    thief: Labelled,
    clones: Clones,
    *,
    attacks: Sequence[str] = ATTACKS,
) -> list[Row]:
    """Mark the target, let the thief ask, and ask his clones."""
    mark = rival.embed(task, 1)
    service = mark.service(asked(mark.graph(task), task))
    answers = probabilities(service(thief.pictures), rival.output)
    answers = answers / answers.sum(axis=1, keepdims=True)  # the published PTYNet's are no distribution
    rows = []
    for attack in attacks:
        ask = _asking(clones.of(answers, attack), task)
        found = mark.verify(ask)
        rows.append(
            Row(
                rival.name,
                attack,
                float((ask(test.pictures).argmax(axis=1) == test.labels).mean()),
                float((ask(thief.pictures).argmax(axis=1) == answers.argmax(axis=1)).mean()),
                found.hits,
                found.queries,
                found.accepted,
                found.log10_p,
                float(found.to_alpha) if np.isfinite(found.to_alpha) else None,
            )
        )
    return rows


def _asking(student: nn.Module, task: Task) -> Ask:
    def ask(pictures: Pictures) -> NDArray[np.floating]:
        with torch.inference_mode():
            parts = np.array_split(pictures, max(1, len(pictures) // 250))
            return np.concatenate([student(task.tensor(part)).numpy() for part in parts])

    return ask


def main() -> None:
    """Print a row per scheme and clone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--mark", type=Path, help="a trained mark; one is trained otherwise")
    parser.add_argument("--key", help="its owner's key file")
    parser.add_argument("--only", nargs="+", help="names of rivals")
    parser.add_argument("--thief", type=int, default=2000, help="pictures the thief asks about")
    parser.add_argument("--thief-epochs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, test = cifar_task(args.data, pictures=2000, epochs=4)
    train, rows = cifar_train(args.data), list[Row]()
    thief = Labelled(train.pictures[-args.thief :], train.labels[-args.thief :])
    clones = Clones(task, thief, Schedule(args.thief_epochs, rate=0.05, decay=0.0))
    print(f"{task.name}; the thief asks about {args.thief} pictures, {args.thief_epochs} epochs")
    print(f"{'rival':<28}{'attack':<18}{'accuracy':>9}{'learnt':>8}{'hits':>10}  verdict by its own rule")
    with tempfile.TemporaryDirectory() as name:
        mark, key = owner(Path(name), mark=args.mark, key=args.key)
        for rival in (*RIVALS, ours(mark, key)):
            if args.only and not any(each in rival.name for each in args.only):
                continue
            started = time.perf_counter()
            for row in rows_of(rival, task, test, thief, clones):
                rows.append(row)
                print(
                    f"{row.rival:<28}{row.attack:<18}{row.accuracy:>9.1%}{row.learnt:>8.1%}{row.hits:>5}/{row.queries:<4}"
                    f"  {'mine' if row.accepted else 'lost':<5} p = 10^{row.log10_p:.1f}",
                    flush=True,
                )
            print(f"{'':<28}{time.perf_counter() - started:.0f} s", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
