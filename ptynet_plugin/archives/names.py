"""Which names an archive and its members may have.

Archives are hostile input: a member's name is used as a path when a server unpacks it, so that a name which is absolute, climbs
out, differs from another by case alone, or reads differently than it is spelled is refused, here and for every format.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ptynet_plugin.errors import ArchiveError, UsageError

__all__ = ["MODEL_NAME", "member_problem", "require_members", "require_model_name"]

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What a model may be called, as a regular expression."""

_FORBIDDEN = set('\\:*?"<>|')
_MAX_PART, _MAX_NAME, _MAX_DEPTH = 255, 1024, 16


def require_model_name(name: str) -> str:
    """Give `name` back if a server, a file system and a URL can all carry it.

    Raises:
        UsageError: It is no plain name.
    """
    if re.fullmatch(MODEL_NAME, name) is None or name.endswith("."):
        raise UsageError(
            f"name {name!r} is not usable: 1 to 100 of A-Z a-z 0-9 . _ -, a letter or digit first; choose another with --name"
        )
    return name


def member_problem(name: str) -> str | None:
    """Tell what is wrong with a member's name, or None where nothing is.

    Args:
        name: Path inside the archive, POSIX separators, no trailing slash.
    """
    parts = name.split("/")
    found = {
        "an absolute or empty name": name.startswith("/") or not name,
        "a name that leaves its folder or has an empty part": any(part in ("", ".", "..") for part in parts),
        "a name with a control, invisible or reserved character": any(map(_unwanted, name)),
        "a name that is not in Unicode normal form": name != unicodedata.normalize("NFKC", name),
        "a name with a blank at an end or a final dot": any(
            part != part.strip() or part.endswith(".") for part in parts
        ),
        "a name too long or too deep": _too_long(name, parts),
    }
    return next((problem for problem, holds in found.items() if holds), None)


def require_members(names: Iterable[str], *, where: str) -> None:
    """Refuse a list of member names of which one is unsafe or two would land on one file.

    Raises:
        ArchiveError: Names the archive and the first bad member.
    """
    seen: dict[str, str] = {}
    for name in names:
        problem = member_problem(name)
        if problem is not None:
            raise ArchiveError(f"{where}: member {name!r} has {problem}; refused, ask its sender for a clean archive")
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise ArchiveError(
                f"{where}: members {seen[folded]!r} and {name!r} would be one file; refused as duplicate entries"
            )
        seen[folded] = name
    for folded, name in seen.items():
        above = folded.rpartition("/")[0]
        while above:
            if above in seen:
                raise ArchiveError(
                    f"{where}: member {seen[above]!r} is a file and also the folder of {name!r}; refused"
                )
            above = above.rpartition("/")[0]


def _unwanted(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character)[0] == "C"


def _too_long(name: str, parts: list[str]) -> bool:
    longest = max(len(part.encode(errors="replace")) for part in parts)
    return len(name.encode(errors="replace")) > _MAX_NAME or len(parts) > _MAX_DEPTH or longest > _MAX_PART
