"""What a started server is to its caller: addresses, a log, and a way to stop it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from model_store_tools.serving.ports import LOOPBACK
from model_store_tools.serving.process import GuardedProcess
from ptynet_plugin.errors import ServerError

__all__ = ["ServerHandle"]


@dataclass(frozen=True)
class ServerHandle:
    """A ready server on loopback; leaving the `with` block stops it and everything it started.

    Attributes:
        name: "triton" or "torchserve".
        models: Names it serves.
        ports: Port on 127.0.0.1 by purpose, "http" and "grpc" among them.
        process: The guarded process.
        headers: What every request must carry; empty where the server asks for no token.
    """

    name: str
    models: tuple[str, ...]
    ports: dict[str, int]
    process: GuardedProcess
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """The server's name as its makers write it."""
        return {"triton": "Triton", "torchserve": "TorchServe"}[self.name]

    @property
    def log(self) -> Path:
        """The server's log; gone once it is stopped, unless the caller named the file."""
        return self.process.log

    def address(self, protocol: str = "http") -> str:
        """Return `127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.ports[protocol]}"

    def url(self, model: str | None = None, *, protocol: str = "http") -> str:
        """Return the endpoint as `ptynet verify` takes it, for example `triton+http://127.0.0.1:8000/NAME`.

        Args:
            model: Which of `models`; may be left out where there is one.
            protocol: "http" or "grpc".
        """
        if model is None:
            if len(self.models) != 1:
                raise ServerError(f"{self.name} serves {', '.join(self.models)}: say which model's address is wanted")
            model = self.models[0]
        return f"{self.name}+{protocol}://{self.address(protocol)}/{model}"

    def alive(self) -> bool:
        """Say whether the server still runs."""
        return self.process.alive()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the server to end by itself; return its exit code, or None after `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Stop it; safe to call again."""
        self.process.stop()

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
