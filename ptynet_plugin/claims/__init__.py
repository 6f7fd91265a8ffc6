"""Claims: what the owner fixes beforehand, and the ledger of everything asked since.

claim = commit(secret, maker.probe, design=maker.design, spec=spec, target_digest=..., tau=..., margin=...)
write_claim(mark / "claims" / "resnet18", claim)

claim = read_claim(find_claim(mark))
with Ledger(folder, digest=claim.digest) as ledger:
    run = ledger.register("triton+http://host:8000/resnet18", alpha=1e-9, budget=200, started=now)
    for symbol in claim.order(run.id):
        if symbol not in run.spent:
            ledger.ask(run, symbol)
            ledger.answer(run, symbol, hit=..., answer=...)
"""

from ptynet_plugin.claims.claim import Beacon, Claim, Seal, commit
from ptynet_plugin.claims.directory import find_claim, read_claim, write_claim
from ptynet_plugin.claims.ledger import Ledger, Run, Trial, read_history

__all__ = [
    "Beacon",
    "Claim",
    "Ledger",
    "Run",
    "Seal",
    "Trial",
    "commit",
    "find_claim",
    "read_claim",
    "read_history",
    "write_claim",
]
