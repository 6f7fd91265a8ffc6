"""KServe's InferenceService for a packaged model."""

from __future__ import annotations

import re

from ptynet_plugin.archives.mar import print_yaml

__all__ = ["inference_service"]


def inference_service(name: str, *, gpu: bool = False) -> bytes:
    """Write the YAML that serves a Triton archive under KServe.

    Args:
        name: The model's name; the service's is the same in lower case, as DNS wants it.
        gpu: Whether to ask for one.

    Returns:
        YAML whose `storageUri` must be set to where the folder that holds the archive was uploaded.
    """
    limits = {"cpu": "2", "memory": "4Gi", **({"nvidia.com/gpu": "1"} if gpu else {})}
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": _dns_label(name)},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "triton", "version": "2"},
                    "protocolVersion": "v2",
                    "storageUri": "pvc://model-store/models",
                    "args": [
                        "--model-control-mode=none",
                        "--strict-readiness=true",
                        "--exit-on-error=true",
                        "--disable-auto-complete-config",
                    ],
                    "resources": {"limits": limits},
                    "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True},
                }
            }
        },
    }
    note = f"# Upload the folder that holds {name}/ and set storageUri to that folder (a Triton model repository).\n"
    return note.encode() + print_yaml(service)


def _dns_label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"
