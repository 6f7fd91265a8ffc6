"""Everything this project raises on purpose, one class per failure a caller treats differently.

    PtynetError
    ├── UsageError          contradictory or impossible request
    ├── KeyFileError        the owner key cannot be read, or lies open to others
    ├── SpecError           SPEC.toml is wrong, or disagrees with the model
    ├── TargetError         the target model cannot be read or cannot carry a mark
    ├── MarkError           the mark folder cannot be used
    ├── ClaimError          the claim cannot be used, or is not this key's
    ├── ArchiveError        the archive cannot be read
    │   └── IntegrityError  it can be read, and its content is not what its manifest says
    ├── ServerError         a local server could not be started or died
    ├── RegistryError       the registry of copies cannot be used, or refuses
    ├── CertificateError    a certificate or a countersignature cannot be used
    ├── ExchangeError       covers could not be shared or fetched
    └── EndpointError       the endpoint could not be asked
        ├── Unreachable     no connection, name unknown, TLS refused
        ├── Refused         it answered, and the answer was no (status, message)
        │   └── Throttled   ... not now (429, 503 with Retry-After)
        ├── TimedOut        no answer in time
        └── BadAnswer       it answered something that is no classification

A message names the place, what was found, what was expected and the next step. The command line prints it on one line
and exits 2 (1 for `IntegrityError`).
"""

__all__ = [
    "ArchiveError",
    "BadAnswer",
    "CertificateError",
    "ClaimError",
    "EndpointError",
    "ExchangeError",
    "IntegrityError",
    "KeyFileError",
    "MarkError",
    "PtynetError",
    "Refused",
    "RegistryError",
    "ServerError",
    "SpecError",
    "TargetError",
    "Throttled",
    "TimedOut",
    "Unreachable",
    "UsageError",
]


class PtynetError(Exception):
    """Root of all failures this project announces."""


class UsageError(PtynetError):
    """The request contradicts itself or cannot be carried out as asked."""


class KeyFileError(PtynetError):
    """The owner key cannot be read, is malformed, or lies open to others."""


class SpecError(PtynetError):
    """The input spec is wrong in itself or disagrees with the model."""


class TargetError(PtynetError):
    """The target model cannot be read, or cannot carry a mark."""


class MarkError(PtynetError):
    """The mark folder is missing, incomplete, altered or of another version."""


class ClaimError(PtynetError):
    """The claim is missing, altered, or belongs to another key."""


class ArchiveError(PtynetError):
    """The archive cannot be read."""


class IntegrityError(ArchiveError):
    """The archive can be read, and its content is not what its manifest says."""


class ServerError(PtynetError):
    """A local model server could not be started, or died."""


class RegistryError(PtynetError):
    """The registry of copies cannot be reached or used, or what it holds forbids the request."""


class ExchangeError(PtynetError):
    """Covers could not be shared with their data holder, or fetched from him."""


class CertificateError(PtynetError):
    """A copy's certificate, a countersignature or a customer's key cannot be read or used."""


class EndpointError(PtynetError):
    """The endpoint could not be asked."""


class Unreachable(EndpointError):  # noqa: N818 -- reads as the state it names, as in httpx
    """No connection: name unknown, port closed, TLS refused."""


class Refused(EndpointError):  # noqa: N818 -- says what happened
    """The endpoint answered, and the answer was no.

    Attributes:
        status: HTTP status, or the HTTP status that matches the gRPC code.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Throttled(Refused):
    """The endpoint asks to come back later.

    Attributes:
        retry_after: Seconds it asked for, or None where it named none.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class TimedOut(EndpointError):  # noqa: N818 -- says what happened
    """No answer within the time limit."""


class BadAnswer(EndpointError):  # noqa: N818 -- says what happened
    """The endpoint answered something that is no classification."""
