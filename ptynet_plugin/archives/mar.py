"""TorchServe's archive: a zip with `MAR-INF/MANIFEST.json` and, at its top, the handler, the model and its files.

The stock archiver dates its files, deletes a folder of the model's name in TMPDIR and drops one of two files with equal base
names; this one does not, and the real server and the stock tools read what it writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.manifest import strict_json
from ptynet_plugin.archives.names import member_problem
from ptynet_plugin.errors import ArchiveError

__all__ = [
    "CONFIG_NAME",
    "MAR_MANIFEST",
    "MarSettings",
    "mar_manifest",
    "parse_yaml",
    "print_yaml",
    "read_mar_settings",
]

MAR_MANIFEST = "MAR-INF/MANIFEST.json"
CONFIG_NAME = "model-config.yaml"
_LIMIT = 1 << 20
_CREATED = "01/01/1980 00:00:00"


@dataclass(frozen=True)
class MarSettings:
    """What `MAR-INF/MANIFEST.json` tells TorchServe.

    Attributes:
        name: Model name.
        version: Its version.
        model: Member that holds the weights ("serializedFile").
        handler: Member that holds the handler, or a built-in handler's name; may end in ":function".
        config: Member with worker and batch settings, None for none.
        model_file: Member with the architecture of an eager model, None for none.
        extra: Fields this project does not know, kept as they were.
    """

    name: str
    version: str
    model: str
    handler: str
    config: str | None = None
    model_file: str | None = None
    extra: tuple[tuple[str, Any], ...] = ()


def mar_manifest(settings: MarSettings) -> bytes:
    """Write the server's manifest; the date is fixed, as the zip's are."""
    model = {
        "modelName": settings.name,
        "modelVersion": settings.version,
        "serializedFile": settings.model,
        "handler": settings.handler,
        "configFile": settings.config,
        "modelFile": settings.model_file,
        **dict(settings.extra),
    }
    content = {
        "createdOn": _CREATED,
        "runtime": "python",
        "model": {key: value for key, value in model.items() if value is not None},
        "archiverVersion": "0.12.0",
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def read_mar_settings(archive: Archive) -> MarSettings:
    """Read the server's manifest of any `.mar`.

    Raises:
        ArchiveError: It has none, or one that points outside the archive or at a missing member.
    """
    where = f"{archive.path}: {MAR_MANIFEST}"
    content = strict_json(archive.read(MAR_MANIFEST, limit=_LIMIT), where=where)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("modelName"), str):
        raise ArchiveError(f"{where}: names no model; it is not TorchServe's manifest")
    fields = ("serializedFile", "handler", "configFile", "modelFile", "modelVersion")
    if not all(isinstance(model.get(field, ""), str) for field in fields):
        raise ArchiveError(f"{where}: one of {', '.join(fields)} is no text")
    for field in ("serializedFile", "configFile", "modelFile"):
        _require_member(archive, model.get(field), field, where)
    handler = str(model.get("handler", ""))
    if ".py" in handler or "/" in handler:
        _require_member(archive, handler.partition(":")[0], "handler", where)
    known = {"modelName", *fields}
    extra = tuple(sorted((key, value) for key, value in model.items() if key not in known))
    for key, value in extra:
        if key.endswith("File"):
            _require_member(archive, value, key, where)
    return MarSettings(
        name=model["modelName"],
        version=model.get("modelVersion", "1.0"),
        model=model.get("serializedFile", ""),
        handler=handler,
        config=model.get("configFile"),
        model_file=model.get("modelFile"),
        extra=extra,
    )


def parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    """Read a model-config file that may be hostile: one mapping, no aliases, no tags.

    Raises:
        ArchiveError: It is not that; names the line where YAML does.
    """
    if len(text) > _LIMIT:
        raise ArchiveError(f"{where}: {len(text)} characters of YAML, at most {_LIMIT} are read")
    try:
        if any(isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ArchiveError(f"{where}: uses YAML anchors, aliases or tags; refused, write the values out")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ArchiveError(f"{where}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ArchiveError(f"{where}: a YAML mapping is expected at the top, like 'minWorkers: 1'")
    return content


def print_yaml(content: dict[str, Any]) -> bytes:
    """Write YAML with sorted keys."""
    return str(yaml.safe_dump(content, sort_keys=True, default_flow_style=False)).encode()


def _require_member(archive: Archive, name: object, field: str, where: str) -> None:
    if name is None:
        return
    if not isinstance(name, str) or member_problem(name) or name not in archive.names():
        raise ArchiveError(f"{where}: {field} is {name!r}, which is no member of this archive; refused")
