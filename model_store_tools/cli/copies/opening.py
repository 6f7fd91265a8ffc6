"""What the verbs on a registry share: its address, and which claim's copy is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from model_store_tools.registry import Registry

__all__ = [
    "DEFAULT_REGISTRY",
    "REGISTRY_VARIABLE",
    "ClaimOption",
    "NumberArgument",
    "RegistryOption",
    "chosen_claim",
    "chosen_claim_or_none",
]

REGISTRY_VARIABLE = "PTYNET_REGISTRY"
RegistryOption = Annotated[
    str,
    typer.Option(metavar="URL", envvar=REGISTRY_VARIABLE, help="sqlite:///FILE or postgresql://USER@HOST/DATABASE."),
]
ClaimOption = Annotated[
    str | None, typer.Option(metavar="DIGEST", help="The claim's digest or its beginning, where there are several.")
]
DEFAULT_REGISTRY = "sqlite:///copies.db"
NumberArgument = Annotated[int, typer.Argument(metavar="NUMBER", help="The copy's number.", min=1)]
SHORTEST = 4


def chosen_claim(registry: Registry, given: str | None) -> str:
    """Give the digest of the claim that is meant.

    Raises:
        UsageError: The registry has none, or several and it is not said which.
    """
    there = registry.claims()
    fitting = there if given is None else [digest for digest in there if digest.startswith(given.lower())]
    if len(fitting) == 1 and (given is None or len(given) >= SHORTEST):
        return fitting[0]
    if not there:
        raise UsageError(f"{registry.shown}: holds no copies yet; `ptynet copies issue` makes them")
    listed = ", ".join(f"{digest[:16]}..." for digest in there[:8])
    asked = "no claim was named" if given is None else f"--claim {given[:64]} fits {len(fitting)} of them"
    raise UsageError(
        f"{registry.shown}: holds copies of {len(there)} claim(s) ({listed}) and {asked}; say --claim DIGEST"
    )


def chosen_claim_or_none(registry: Registry, given: str | None) -> str | None:
    """Give the digest of the claim that was named; None where none was."""
    return None if given is None else chosen_claim(registry, given)
