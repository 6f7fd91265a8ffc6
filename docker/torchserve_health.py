"""Exits 0 when every worker of the model is READY; TorchServe's /ping says Healthy also when no model has loaded."""

import json
import os
import sys
import urllib.request
from pathlib import Path

MANAGEMENT = os.environ.get("PTYNET_MANAGEMENT", "http://127.0.0.1:8081")


def workers(model: str, token: str) -> list[dict]:
    """Ask the management interface for the model's workers."""
    request = urllib.request.Request(f"{MANAGEMENT}/models/{model}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=4) as answer:
        return [worker for version in json.load(answer) for worker in version["workers"]]


def main() -> int:
    """Look once."""
    try:
        keys = Path(os.environ["PTYNET_RUN"]) / "home" / "key_file.json"
        token = json.loads(keys.read_text(encoding="utf-8"))["management"]["key"]
        found = workers(os.environ["PTYNET_MODEL"], token)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1
    return 0 if found and all(worker["status"] == "READY" for worker in found) else 1


if __name__ == "__main__":
    sys.exit(main())
