"""Everything that is measured of one rival on one target."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.latency import interleaved, session
from benchmarks.real_pictures import Labelled
from benchmarks.rivals.contract import Ask, Evidence, Mark, Rival, Task
from benchmarks.rivals.graphs import cost_of, exported
from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Share
from model_store_tools.audit.engines import open_engine
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.fidelity.metrics import max_difference, softmax_loss

__all__ = ["Measured", "Survival", "measured", "probabilities", "survivals"]

THREADS = 1


@dataclass(frozen=True)
class Survival:
    """One attack on one rival.

    Attributes:
        attack: Its name.
        accepted: Whether the rival's own rule still says "mine"; None where the attack failed or does not apply.
        hits: Share of triggers answered with their label.
        accuracy: On test pictures afterwards.
        seconds: The thief's.
        note: Why it failed, or what the attack says.
    """

    attack: str
    accepted: bool | None
    hits: float
    accuracy: float
    seconds: float
    note: str


@dataclass(frozen=True)
class Measured:
    """One rival on one target.

    Attributes:
        rival: Name.
        paper: Source.
        target: Name.
        seconds: Embedding took.
        accuracy: On test pictures, and the bare target's.
        bare_accuracy: See `accuracy`.
        shown: Evidence on the marked model.
        alone: Evidence on the bare target, with the same triggers.
        flips: Share of test pictures whose top class changed.
        difference: Largest |difference| of a probability.
        divergence: SPL: mean KL(bare || marked) in nats.
        sums: Largest |sum of the outputs - 1| on triggers' own suspect and test pictures, outputs as probabilities.
        parameters: Added beside the target, and as a share of the target's.
        operations: The same for one picture.
        target_parameters: The target's.
        target_operations: The target's.
        latency: Marked over bare, medians, interleaved; None where not measured.
        rate: Of the fine-tuning that marked the target's own weights; None where there was none.
        survival: Attacks.
    """

    rival: str
    paper: str
    target: str
    seconds: float
    accuracy: float
    bare_accuracy: float
    shown: Evidence
    alone: Evidence
    flips: float
    difference: float
    divergence: float
    sums: float
    parameters: int
    operations: int
    target_parameters: int
    target_operations: int
    latency: float | None
    rate: float | None = None
    survival: tuple[Survival, ...] = field(default=())


def measured(
    rival: Rival,
    task: Task,
    test: Labelled,
    *,
    seed: int = 1,
    latency_seconds: float = 0.0,
    attacks: Sequence[Attack] = (),
    share: Share | None = None,
) -> Measured:
    """Embed, ask, compare, time and attack.

    Args:
        rival: Which.
        task: Target and the owner's data.
        test: Pictures that neither owner nor thief trains on.
        seed: The owner's secret.
        latency_seconds: How long to time; 0 for not at all.
        attacks: Each is carried out on the served model.
        share: The thief's pictures.
    """
    started = time.perf_counter()
    mark = rival.embed(task, seed)
    seconds = time.perf_counter() - started
    bare_graph, graph = exported(task.target, task), mark.graph(task)
    bare_ask, ask = asked(bare_graph, task), mark.service(asked(graph, task))
    bare, own = probabilities(bare_ask(test.pictures), "logits"), probabilities(ask(test.pictures), rival.output)
    parameters, operations = mark.added(task)
    whole = cost_of(task.target, task.tensor(task.pictures[:1]))
    shown = mark.verify(ask)
    return Measured(
        rival=rival.name,
        paper=rival.paper,
        target=task.name,
        seconds=seconds,
        accuracy=float((own.argmax(axis=1) == test.labels).mean()),
        bare_accuracy=float((bare.argmax(axis=1) == test.labels).mean()),
        shown=shown,
        alone=mark.verify(bare_ask),
        flips=float((bare.argmax(axis=1) != own.argmax(axis=1)).mean()),
        difference=max_difference(bare, own),
        divergence=softmax_loss(bare, own, "probabilities"),
        sums=_sums(mark, ask, own, rival),
        parameters=parameters,
        operations=operations,
        target_parameters=whole[0],
        target_operations=whole[1],
        latency=_latency(bare_graph, graph, task, latency_seconds) if latency_seconds else None,
        rate=getattr(mark, "rate", None),
        survival=tuple(survivals(mark, task, test, graph, attacks=attacks, share=share)) if share is not None else (),
    )


def survivals(
    mark: Mark, task: Task, test: Labelled, graph: bytes, *, attacks: Sequence[Attack], share: Share
) -> list[Survival]:
    """Steal the model and attack it; a crash is a failed attack, never a survived one."""
    return [_survival(mark, task, test, graph, attack, share) for attack in attacks]


def _survival(mark: Mark, task: Task, test: Labelled, graph: bytes, attack: Attack, share: Share) -> Survival:  # noqa: PLR0917 -- all of one row
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "attacked").mkdir()
        stolen = folder / "stolen.onnx"
        stolen.write_bytes(graph)
        scores = onnx.load_from_string(graph).graph.output[0].name
        spec = task.spec.model_copy(update={"scores": scores})
        started = time.perf_counter()
        try:
            outcome = attack.run(Artefact(stolen, spec), share, folder=folder / "attacked", seed=0)
            seconds = time.perf_counter() - started
            engine = open_engine(outcome.artefact)
            try:
                evidence = mark.verify(engine.scores)
                accuracy = float((engine.scores(test.pictures).argmax(axis=1) == test.labels).mean())
            finally:
                engine.close()
        except AttackRefused as refusal:
            return Survival(attack.name, None, math.nan, math.nan, time.perf_counter() - started, f"n/a: {refusal}")
        except Exception as error:  # noqa: BLE001 -- what an attack breaks on is a row of the table
            failure = f"attack failed: {type(error).__name__}: {error}"[:200]
            return Survival(attack.name, None, math.nan, math.nan, time.perf_counter() - started, failure)
    share_of_hits = evidence.hits / max(evidence.queries, 1)
    return Survival(attack.name, evidence.accepted, share_of_hits, accuracy, seconds, outcome.note)


def asked(graph: bytes, task: Task) -> Ask:
    """Open a served model."""
    scores = onnx.load_from_string(graph).graph.output[0].name
    return OnnxEngine(graph, task.spec.model_copy(update={"scores": scores}), batch=50, threads=THREADS).scores


def probabilities(scores: NDArray[np.generic], output: str) -> NDArray[np.float64]:
    """Turn what a rival's model answers into probabilities, shape (n, classes); "sums" stay as they are."""
    exact = np.asarray(scores, np.float64)
    return np.asarray(softmax(exact, axis=1) if output == "logits" else exact)


def _sums(mark: Mark, ask: Ask, benign: NDArray[np.float64], rival: Rival) -> float:
    seen: list[NDArray[np.float64]] = [benign]

    def listening(pictures: NDArray[np.uint8]) -> NDArray[np.floating]:
        scores = ask(pictures)
        seen.append(probabilities(scores, rival.output))
        return scores

    mark.verify(listening)
    return float(max(np.abs(each.sum(axis=1) - 1).max() for each in seen))


def _latency(bare: bytes, graph: bytes, task: Task, seconds: float) -> float:
    sessions = [session(onnx.load_from_string(each), THREADS) for each in (bare, graph)]
    times = interleaved(sessions, {"pixels": task.tensor(task.pictures[:1]).numpy()}, seconds=seconds)
    plain, marked = np.median(times, axis=0)
    return float(marked / plain)
