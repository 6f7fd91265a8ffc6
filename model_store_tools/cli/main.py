"""Entry points `ptynet` and `package-model`: registers the verbs.

A verb's module stays light (no torch, no onnx at its top): `ptynet verify` must start where torch is not installed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from model_store_tools.cli.audit import audit
from model_store_tools.cli.check import check
from model_store_tools.cli.claim import CLAIM_VERBS
from model_store_tools.cli.copies import COPIES_VERBS
from model_store_tools.cli.demo import demo
from model_store_tools.cli.embed import embed
from model_store_tools.cli.extract import extract
from model_store_tools.cli.failures import with_exit_codes
from model_store_tools.cli.fidelity import fidelity
from model_store_tools.cli.inspect import inspect
from model_store_tools.cli.key import KEY_VERBS
from model_store_tools.cli.keygen import keygen
from model_store_tools.cli.package import package
from model_store_tools.cli.serve import serve
from model_store_tools.cli.share_covers import share_covers
from model_store_tools.cli.trace import trace
from model_store_tools.cli.train import train
from model_store_tools.cli.verify import verify
from ptynet_plugin import __version__

__all__ = ["app", "main", "package_model"]


COLLECT_AFTER = 100_000


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ptynet {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]


def _root(version: VersionOption = False) -> None:
    """Prove, over the network, that an endpoint serves your model."""


def _app(*verbs: Callable[..., Any], several: bool) -> typer.Typer:
    made = typer.Typer(add_completion=False, no_args_is_help=several, pretty_exceptions_enable=False)
    if several:
        made.callback()(_root)
    for verb in verbs:
        made.command(verb.__name__.rstrip("_").replace("_", "-"))(with_exit_codes(verb))
    return made


def _group(*verbs: Callable[..., Any]) -> typer.Typer:
    made = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    for verb in verbs:
        made.command(verb.__name__.rstrip("_").replace("_", "-"))(with_exit_codes(verb))
    return made


VERBS: tuple[Callable[..., int | None], ...] = (
    keygen,
    train,
    share_covers,
    package,
    inspect,
    check,
    serve,
    verify,
    trace,
    extract,
    fidelity,
    embed,
    audit,
    demo,
)

app = _app(*VERBS, several=True)
app.add_typer(_group(*KEY_VERBS), name="key", help="Split the owner key into shares, and join them.")
app.add_typer(_group(*CLAIM_VERBS), name="claim", help="Commit, stamp, bind: claims that survive a hostile expert.")

app.add_typer(_group(*COPIES_VERBS), name="copies", help="A copy for every customer: issue, list, revoke, certify.")


def _collect_seldom() -> None:
    """Look for cycles of garbage seldom: most of what a verb makes are modules and rows, which stay or free themselves.

    Python looks after every 700 new objects, a fifth of the time that SQLAlchemy or scipy take to load.
    """
    gc.set_threshold(COLLECT_AFTER)


def main() -> None:
    """Run `ptynet`."""
    _collect_seldom()
    app(prog_name="ptynet")


def package_model() -> None:
    """Run `package-model`."""
    if "--version" in sys.argv[1:]:
        typer.echo(f"package-model {__version__}")
        return
    _collect_seldom()
    _app(package, several=False)(prog_name="package-model")


if __name__ == "__main__":
    main()
