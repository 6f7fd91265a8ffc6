"""Triton's `config.pbtxt`: text to message and back, and an overlay that wins over what we wrote.

The message is tritonclient's `ModelConfig`, so that a misspelled field is an error here and not in front of a server.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2

from ptynet_plugin.errors import ArchiveError

__all__ = ["CONFIG_LIMIT", "ModelConfig", "overlay_config", "parse_config", "print_config"]

CONFIG_LIMIT = 1 << 20
"""Most bytes a config.pbtxt may have."""

ModelConfig = Any
"""A `model_config_pb2.ModelConfig`; the package carries no types."""


def parse_config(text: str, *, where: str) -> ModelConfig:
    """Read text protobuf.

    Raises:
        ArchiveError: Not a Triton model configuration; names the line.
    """
    if len(text) > CONFIG_LIMIT:
        raise ArchiveError(f"{where}: {len(text)} characters, a model configuration has at most {CONFIG_LIMIT}")
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, RecursionError, UnicodeError) as error:
        raise ArchiveError(f"{where}: not a Triton model configuration ({error})") from None


def print_config(config: ModelConfig) -> bytes:
    """Write text protobuf; fields in the schema's order, maps sorted by key, so that equal messages give equal bytes."""
    return str(text_format.MessageToString(config, use_short_repeated_primitives=True)).encode()


def overlay_config(config: ModelConfig, overlay: ModelConfig) -> ModelConfig:
    """Lay one configuration over another.

    Returns:
        A new message: single fields and whole lists of the overlay win, nested messages and maps are laid over one another.
    """
    merged = model_config_pb2.ModelConfig()
    merged.CopyFrom(config)
    _lay(merged, overlay)
    return merged


def _lay(base: Message, overlay: Message) -> None:
    for field, value in overlay.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _join(getattr(base, field.name), value)
        elif _repeated(field):
            base.ClearField(field.name)
            getattr(base, field.name).extend(value)
        elif field.message_type is not None and base.HasField(field.name):
            _lay(getattr(base, field.name), value)
        elif field.message_type is not None:
            getattr(base, field.name).CopyFrom(value)
        else:
            setattr(base, field.name, value)


def _repeated(field: Any) -> bool:
    known = getattr(field, "is_repeated", None)
    return bool(known) if known is not None else field.label == field.LABEL_REPEATED


def _join(base: Any, overlay: Any) -> None:
    for key in overlay:
        if isinstance(overlay[key], Message):
            base[key].CopyFrom(overlay[key])
        else:
            base[key] = overlay[key]
