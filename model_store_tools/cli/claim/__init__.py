"""`ptynet claim ...`: each verb reads, calls one function of the library, prints."""

from collections.abc import Callable

from model_store_tools.cli.claim.answerer import agreement, panel
from model_store_tools.cli.claim.judging import audit, check
from model_store_tools.cli.claim.making import bind, commit, stamp
from model_store_tools.cli.claim.signing import sign_archive
from model_store_tools.cli.claim.witnessing import handover, witness, witness_key

__all__ = ["CLAIM_VERBS"]

CLAIM_VERBS: tuple[Callable[..., int | None], ...] = (
    commit,
    stamp,
    bind,
    sign_archive,
    handover,
    witness_key,
    witness,
    check,
    audit,
    panel,
    agreement,
)
