"""What an attack is: a stolen artefact and a share of data in, another artefact and what it cost out.

    Artefact    a model file, its input spec, and what the thief does to pictures before the model sees them
    Share       the thief's pictures, with labels where somebody knows them
    Attack      name, heading, source, what is promised about it, and `run`
    Outcome     the artefact that results, pictures used, a note

An attack sees neither key nor claim nor the owner's pictures. Other marks than ours can be attacked through the same
contract: whoever can write his marked model as an ONNX file can hand it in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import PtynetError
from ptynet_plugin.spec import InputSpec

__all__ = [
    "HEADINGS",
    "Artefact",
    "Attack",
    "AttackRefused",
    "Filter",
    "Form",
    "Heading",
    "Outcome",
    "Pictures",
    "Run",
    "Share",
]

Pictures = NDArray[np.uint8]
"""Shape (pictures, height, width, channels), uint8, RGB order or one grey channel."""

Filter = Callable[[Pictures], Pictures]
"""What is done to pictures on their way to the model; shape and dtype stay, and every picture is treated by itself."""

Form = Literal["onnx", "torchscript", "pt2", "openvino"]
Heading = Literal["input", "weights", "extraction", "structure", "inversion"]
HEADINGS: tuple[Heading, ...] = ("input", "weights", "extraction", "structure", "inversion")


class AttackRefused(PtynetError):  # noqa: N818 -- reads as the state it names, as in `errors`
    """The attack does not apply to this artefact, or lacks something; the message says which and what would help."""


@dataclass(frozen=True)
class Artefact:
    """What somebody serves.

    Attributes:
        model: The model's file; external data lies beside it. Attacks read it and never write to it.
        spec: What it reads and answers, complete: classes, dtype, layout and size are filled in.
        form: How the file is written.
        filters: Applied to every picture in this order before the model.
    """

    model: Path
    spec: InputSpec
    form: Form = "onnx"
    filters: tuple[Filter, ...] = ()

    def behind(self, filter_: Filter) -> Self:
        """Give the same model with one more filter, the first a picture meets."""
        return replace(self, filters=(filter_, *self.filters))

    def with_model(self, model: Path, *, form: Form | None = None) -> Self:
        """Give another model behind the same filters."""
        return replace(self, model=model, form=form or self.form)

    def require(self, *forms: Form, attack: str) -> None:
        """Make sure that an attack can read the file.

        Raises:
            AttackRefused: It is written in another form.
        """
        if self.form not in forms:
            hint = "; package the model with --to onnx to run it" if "onnx" in forms else ""
            raise AttackRefused(f"{attack} reads {' or '.join(forms)}, this is {self.form}{hint}")


@dataclass(frozen=True)
class Share:
    """Pictures with labels.

    Attributes:
        pictures: Of the size the artefact reads.
        labels: int64, shape (pictures,): true classes, or what the stolen model itself answers.
        true: Whether the labels are true classes.
        source: Where they come from, for the report.
    """

    pictures: Pictures = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    true: bool
    source: str

    def __len__(self) -> int:
        return len(self.pictures)

    def first(self, count: int) -> Share:
        """Give the first `count`, or all where there are fewer."""
        return replace(self, pictures=self.pictures[:count], labels=self.labels[:count])


@dataclass(frozen=True)
class Outcome:
    """What an attack made.

    Attributes:
        artefact: What the thief serves now.
        pictures: How many of his pictures it took.
        note: What else is worth knowing, in a few words; "" where nothing.
        won: Whether the attack reached an aim of its own, other than that the mark is not shown: found a key that is heard, say.
    """

    artefact: Artefact
    pictures: int = 0
    note: str = ""
    won: bool = False


class Run(Protocol):
    """Carries an attack out."""

    def __call__(self, stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        """Attack.

        Args:
            stolen: What was stolen.
            share: The thief's pictures.
            folder: Exists and is empty; new files go here.
            seed: The only source of randomness: the same arguments give the same outcome on the same machine.

        Raises:
            AttackRefused: It does not apply.
        """
        ...


@dataclass(frozen=True)
class Attack:
    """One attack with its settings.

    Attributes:
        name: Unique, as the table prints it.
        heading: Under which part of the table it stands.
        source: Paper or tool.
        run: Carries it out.
        promised: Whether `docs/proving-ground.md` promises that the mark is shown afterwards.
        quick: Whether the quick suite holds it.
        needs_data: Whether it makes sense with real pictures only; without them it is left out.
        answer: What the owner can do about it where it succeeds.
        view: What it does to pictures, where the owner can undo that in what he asks: as `verify --view`; "" elsewhere.
    """

    name: str
    heading: Heading
    source: str
    run: Run
    promised: bool = False
    quick: bool = False
    needs_data: bool = False
    answer: str = ""
    view: str = ""
