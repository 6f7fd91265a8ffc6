"""Turns failures into exit codes, once for all verbs.

0 shown / ok, 1 not shown / check failed, 2 could not be done, 3 inconclusive or evasion suspected.
"""

from __future__ import annotations

import errno
import functools
import os
import traceback
from collections.abc import Callable
from typing import Any

import typer

from ptynet_plugin.errors import IntegrityError, PtynetError

__all__ = ["EXIT_BY_VERDICT", "EXIT_FAILED", "EXIT_INCONCLUSIVE", "EXIT_NOT_SHOWN", "EXIT_OK", "with_exit_codes"]

EXIT_OK = 0
EXIT_NOT_SHOWN = 1
EXIT_FAILED = 2
EXIT_INCONCLUSIVE = 3

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EXIT_BY_VERDICT = {
    "shown": EXIT_OK,
    "not-shown": EXIT_NOT_SHOWN,
    "inconclusive": EXIT_INCONCLUSIVE,
    "evasion-suspected": EXIT_INCONCLUSIVE,
}


def with_exit_codes(verb: Callable[..., int | None]) -> Callable[..., None]:
    """Wrap a verb: the integer it returns is the exit code; failures print one line on stderr and exit 1 or 2.

    An unexpected exception exits 2, never Python's own 1, which would read "not shown".
    """

    @functools.wraps(verb)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            code = verb(*args, **kwargs) or EXIT_OK
        except typer.Exit:
            raise
        except IntegrityError as error:
            code = _complain(error, EXIT_NOT_SHOWN)
        except PtynetError as error:
            code = _complain(error, EXIT_FAILED)
        except (KeyboardInterrupt, typer.Abort):
            code = _complain("interrupted", EXIT_FAILED)
        except Exception as error:
            if isinstance(error, typer.BadParameter):
                raise
            code = _complain(_unexpected(error), EXIT_FAILED)
        raise typer.Exit(code)

    return guarded


def _complain(problem: object, code: int) -> int:
    typer.echo(f"ptynet: {_on_one_line(str(problem))}", err=True)
    return code


def _on_one_line(text: str) -> str:
    """Write control characters out: a message may quote names from a hostile file, which must not steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _unexpected(error: Exception) -> str:
    """Describe what nobody foresaw without a traceback, whose lines could show secrets."""
    if os.environ.get("PTYNET_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"  # the disk said no: that is no defect
    if isinstance(error, OSError) and error.errno in FULL and error.strerror:
        return f"{error.strerror}: the disk or a limit on it is full; free some space and run again"
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
    return (
        f"unexpected {type(error).__name__} in {place}: {error}. This is a defect; PTYNET_DEBUG=1 shows the traceback"
    )
