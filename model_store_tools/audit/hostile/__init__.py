"""Endpoints that serve a stolen archive and do what they can to hide it: real servers on loopback, one contract.

with stolen_model(archive, spec) as ask:
    for hostile in hostile_endpoints(Booty(ask, benign=pictures, spec=spec)):
        with serve(hostile, spec) as address:           # kserve+http://127.0.0.1:PORT/stolen
            verify(open_endpoint(address, spec=spec), ...)

Ask       one picture in, scores out, or a Refusal            (contract.py)
wrappers  Ask to Ask: rounding, dilution, filters, ...        (answers.py, mixing.py, inputs.py, limits.py, filters/)
serve     an Ask behind the Open Inference Protocol v2        (server.py)
trial     `verify` against each, over HTTP                    (trial.py)
"""

from model_store_tools.audit.hostile.contract import Ask, Hostile, Refusal
from model_store_tools.audit.hostile.server import serve
from model_store_tools.audit.hostile.stolen import stolen_model
from model_store_tools.audit.hostile.table import Booty, hostile_endpoints
from model_store_tools.audit.hostile.trial import Trial, try_endpoint

__all__ = [
    "Ask",
    "Booty",
    "Hostile",
    "Refusal",
    "Trial",
    "hostile_endpoints",
    "serve",
    "stolen_model",
    "try_endpoint",
]
