"""The registry of copies: which number went to which customer, when, in which archive, and every trace that was made.

    with Registry.open("sqlite:///copies.db", owner=key.fingerprint()) as registry:
        copy = registry.reserve(claim=claim.digest, customer="Example Ltd")   # number 1, 2, 3, ... for ever
        ...                                                                  # package the copy
        registry.complete(copy, archive="model.mar", format="torchserve", digest=checked.digest)

        trace = registry.begin_trace(claim.digest, endpoint=address)          # before the first question
        ...
        registry.finish_trace(claim.digest, trace, accused=[7], verdict="traced")

SQLite in one file, or PostgreSQL for a team. A process may be killed at any moment: each call takes effect whole or not at
all, and a reservation that was not completed keeps its number. Needs the extra `registry`.
"""

from __future__ import annotations

from importlib.util import find_spec

from ptynet_plugin.errors import RegistryError

if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
    raise RegistryError("the registry needs SQLAlchemy and Alembic: pip install 'ptynet-plugin[registry]'")

from model_store_tools.registry.records import Copy, Trace
from model_store_tools.registry.registry import Registry

__all__ = ["Copy", "Registry", "Trace"]
