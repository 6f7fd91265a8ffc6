"""The manifest: what an archive holds, and the SHA-256 of every file and of every tensor of the target.

`ptynet-manifest.json` lies in every archive and has one byte form: JSON with sorted keys, two blanks of indent, and a last line
feed, in which `digest` is the SHA-256 of the same text without that line. A changed byte is thus noticed without any other file.
It carries a claim's *commitment* and nothing that two archives of one owner would share.

Invariant: `parse_manifest(m.to_json()) == m`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptynet_plugin.archives.names import MODEL_NAME, member_problem
from ptynet_plugin.errors import ArchiveError, IntegrityError
from ptynet_plugin.spec import InputSpec

__all__ = [
    "MANIFEST_LIMIT",
    "MANIFEST_NAME",
    "Companion",
    "FileRecord",
    "Manifest",
    "PortRecord",
    "TargetRecord",
    "TensorSum",
    "parse_companion",
    "parse_manifest",
    "seal",
    "strict_json",
    "unseal",
]

MANIFEST_NAME = "ptynet-manifest.json"
MANIFEST_LIMIT = 64 << 20
"""Most bytes a manifest may have; one of 100,000 tensors has 20 MiB."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=f"^{MODEL_NAME}$")]
Engine = Literal["onnx", "torchscript", "pt2"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileRecord(_Record):
    """Size in bytes and sum of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


class TensorSum(_Record):
    """One tensor of the target: what it is, and the sum of its raw little-endian bytes in row order."""

    dtype: str
    shape: tuple[int, ...]
    sha256: Sha256


class TargetRecord(_Record):
    """The target as it was before the mark, and as it must still be inside the archive."""

    kind: str
    digest: Sha256
    tensors: dict[str, TensorSum]


class PortRecord(_Record):
    """One input or output of the served model; -1 stands for a dimension left open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Manifest(_Record):
    """What an archive is.

    Attributes:
        batch: Most rows in one request; 0 for a model that takes exactly one row, whose dimensions include it.
        model: Path of the served model inside the archive.
        labels: Path of the class names inside the archive, one a line.
        claim: Hex digest of the claim's commitment, salted; tells nothing to who does not hold the claim.
        files: Every file of the archive but the manifest itself.
        companions: For an archive with models beside it (an ensemble): folder name to archive digest.
        guarded: The handler the archive had before it was marked, which runs behind the integrity check.
    """

    schema_: Literal["ptynet-archive/v1"] = Field(default="ptynet-archive/v1", alias="schema")
    name: Name
    version: Name
    format: Literal["triton", "torchserve"]
    backend: Literal["onnxruntime", "python", "torchserve"]
    engine: Engine
    model: str
    batch: int = Field(ge=0)
    classes: int = Field(ge=2)
    spec: InputSpec
    inputs: tuple[PortRecord, ...] = Field(min_length=1)
    outputs: tuple[PortRecord, ...] = Field(min_length=1)
    input: str
    scores: str
    labels: str | None = None
    claim: Sha256 | None = None
    target: TargetRecord
    files: dict[str, FileRecord]
    companions: dict[Name, Sha256] = Field(default_factory=dict)
    guarded: str | None = None

    @model_validator(mode="after")
    def _names_files_it_lists(self) -> Self:
        _require_plain_files(self.files)
        for field, name in (("model", self.model), ("labels", self.labels)):
            if name is not None and name not in self.files:
                raise ValueError(f"{field} is {name!r}, which is not among its files")
        return self

    def to_json(self) -> bytes:
        """Give the file's bytes."""
        return seal(self.model_dump(mode="json", by_alias=True, exclude_none=True))


class Companion(_Record):
    """Manifest of a model that stands beside an archive and holds no target: a decoder, an ensemble."""

    schema_: Literal["ptynet-companion/v1"] = Field(default="ptynet-companion/v1", alias="schema")
    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _lists_plain_files(self) -> Self:
        _require_plain_files(self.files)
        return self

    def to_json(self) -> bytes:
        """Give the file's bytes."""
        return seal(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def seal(content: Mapping[str, Any]) -> bytes:
    """Write JSON in its one byte form, with the digest of everything else in it."""
    digest = hashlib.sha256(_text(content)).hexdigest()
    return _text({**content, "digest": digest})


def unseal(octets: bytes, *, where: str) -> dict[str, Any]:
    """Read what `seal` wrote.

    Raises:
        ArchiveError: Not JSON, or JSON made to exhaust.
        IntegrityError: Another byte form than the one, or a digest that differs.
    """
    content = strict_json(octets, where=where)
    if not isinstance(content, dict) or not isinstance(content.get("digest"), str):
        raise ArchiveError(f"{where}: not a manifest: a JSON object with a 'digest' is expected")
    expected = content.pop("digest")
    try:
        found = hashlib.sha256(_text(content)).hexdigest()
        whole = _text({**content, "digest": expected})
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{where}: holds a value that no manifest has ({error})") from error
    if found != expected:
        raise IntegrityError(
            f"{where}: content has sha256 {found}, it says {expected}; it was altered, package the model again"
        )
    if whole != octets:
        raise IntegrityError(
            f"{where}: not in canonical form; it was written or altered by another tool, package the model again"
        )
    return content


def parse_manifest(octets: bytes, *, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        ArchiveError: It is none, or of a version this release does not know.
        IntegrityError: It was altered.
    """
    content = unseal(octets, where=where)
    _require_schema(content, "ptynet-archive/v1", where=where)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ArchiveError(f"{where}: {_first_problem(error)}") from None


def parse_companion(octets: bytes, *, where: str) -> Companion:
    """Read a companion's manifest; errors as `parse_manifest`."""
    content = unseal(octets, where=where)
    _require_schema(content, "ptynet-companion/v1", where=where)
    try:
        return Companion.model_validate(content)
    except ValidationError as error:
        raise ArchiveError(f"{where}: {_first_problem(error)}") from None


def strict_json(octets: bytes, *, where: str) -> Any:
    """Parse JSON that may be hostile: UTF-8, no duplicate key, no NaN, bounded depth.

    Raises:
        ArchiveError: It is not such JSON.
    """
    try:
        return json.loads(octets.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{where}: not clean JSON ({error})") from None


def _require_plain_files(files: Mapping[str, FileRecord]) -> None:
    for name in files:
        problem = member_problem(name)
        if problem is not None:
            raise ValueError(f"lists {name!r}, {problem}")


def _text(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _require_schema(content: Mapping[str, Any], schema: str, *, where: str) -> None:
    if content.get("schema") != schema:
        raise ArchiveError(
            f"{where}: schema is {content.get('schema')!r}, this release reads {schema!r}; update ptynet-plugin"
        )


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"field '{place}': {problem['msg'].removeprefix('Value error, ')}"
