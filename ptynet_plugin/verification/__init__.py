"""Ask an endpoint whether it carries a mark, in any server's language, by rules that a hostile expert cannot break.

    from ptynet_plugin.claims import Ledger, read_claim
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.verification import open_endpoint, verify

    claim = read_claim(folder)
    with open_endpoint("triton+grpc://host:8001/model", spec=claim.terms.spec) as endpoint, \\
         Ledger(folder, digest=claim.digest) as ledger:
        result = verify(endpoint, claim=claim, key=read_key("owner.key"), ledger=ledger)
    print(result.verdict, result.log10_p)

    address       ENDPOINT and its normal form          questions      probes, controls and labels of a key under a claim
    endpoint      the contract of a suspect             registration   the run's line to the claim's ledger
    transports/   one server's language each            runner         the protocol, from benign picture to verdict
    client        retries, pace                         run, result    what was asked; what it came to
    answers       what came back means which class      controls       benign pictures beside the probes
    class_maps    merged, renumbered, hidden classes    report, curve  the HTML page
"""

from ptynet_plugin.verification.address import Address, parse_address
from ptynet_plugin.verification.connection import Connection, Headers
from ptynet_plugin.verification.endpoint import Answer, Endpoint, EndpointInfo
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import verify

__all__ = [
    "Address",
    "Answer",
    "Connection",
    "Endpoint",
    "EndpointInfo",
    "Headers",
    "VerificationResult",
    "open_endpoint",
    "parse_address",
    "verify",
]
