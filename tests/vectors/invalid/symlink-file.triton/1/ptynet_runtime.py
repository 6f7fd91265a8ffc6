"""What every handler shares: the integrity check, the engines, and how a request becomes a row of the model's input.

This file travels inside archives and runs where ptynet-plugin is not installed: standard library, numpy, and onnxruntime or
torch as the archive needs (Pillow for encoded pictures). It fails closed: `Broken` means no service, with the file's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

MANIFEST_NAME = "ptynet-manifest.json"
MAX_PIXELS = 64_000_000
"""Most pixels of a picture somebody sends; more is refused before it is decoded."""

PICTURE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class Broken(RuntimeError):  # noqa: N818 -- reads as the state it names
    """The archive is not what its manifest says, or cannot run here: nothing may be served."""


class BadRow(ValueError):  # noqa: N818 -- reads as the thing it names
    """What the client sent is no input of this model; the message is for the client."""


def verified_manifest(folder):
    """Check every file against the manifest and give the manifest.

    Args:
        folder: Where the archive lies unpacked.

    Returns:
        The manifest as a dict; its files have been read and summed.

    Raises:
        Broken: A file is missing, altered, or is no regular file; names it, both sums and the next step.
    """
    folder = Path(folder)
    manifest = _sealed(folder / MANIFEST_NAME)
    for name in sorted(manifest["files"]):
        expected = manifest["files"][name]["sha256"]
        found = _sha256(_inside(folder, name))
        if found != expected:
            raise Broken(
                f"{folder / name} has sha256 {found}, the manifest says {expected}; not serving: "
                "package the model again or check the copy with 'ptynet check'"
            )
    return manifest


def open_model(folder, manifest, *, gpu=None, instances=1):
    """Load the model an archive holds.

    Args:
        folder: Where the archive lies unpacked, already verified.
        manifest: Its manifest.
        gpu: Index of the GPU to use, None for the CPU.
        instances: Copies of the model that share this machine's processors.

    Returns:
        A function from {input name: array} to {output name: array}.

    Raises:
        Broken: It does not load here.
    """
    engines = {"onnx": _onnx_engine, "torchscript": _torchscript_engine, "pt2": _exported_engine}
    path = _inside(Path(folder), manifest["model"])
    try:
        return engines[manifest["engine"]](path, manifest, gpu, _threads(instances))
    except Broken:
        raise
    except Exception as error:  # engines raise what they like; none of it may end in a service
        raise Broken(f"{path}: {manifest['engine']} engine cannot load it ({type(error).__name__}: {error})") from error


def row_shape(spec):
    """Give the shape of one input row, 0 for an open dimension."""
    channels = 1 if spec["color"] == "GRAY" else 3
    height, width = spec["size"]
    return (channels, height, width) if spec["layout"] == "NCHW" else (height, width, channels)


def row_from_values(values, spec):
    """Make one input row from nested lists of the model's own input values.

    Args:
        values: Nested lists in the spec's layout, or with one dimension of 1 in front.
        spec: From the manifest.

    Returns:
        Array of the row's shape and the spec's type.

    Raises:
        BadRow: Another shape, no numbers, not finite, or out of the type's range.
    """
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):
        raise BadRow("the lists are ragged: every row of the picture needs the same length") from None
    if found.dtype.kind not in "iuf":
        raise BadRow("a picture's values must be numbers")
    wanted = row_shape(spec)
    if found.ndim == len(wanted) + 1 and found.shape[0] == 1:
        found = found[0]
    require_row_shape(found.shape, spec)
    return _typed(found, spec["dtype"])


def require_row_shape(shape, spec):
    """Refuse a row of another shape than the model's."""
    wanted = row_shape(spec)
    fits = len(shape) == len(wanted) and all(need in (0, got) for need, got in zip(wanted, shape))
    if not fits or 0 in shape:
        open_sides = [side or "any" for side in wanted]
        raise BadRow(f"the picture has shape {list(shape)}, this model takes {open_sides} ({spec['layout']})")


def row_from_picture(octets, spec):
    """Make one input row from JPEG or PNG bytes: decode, convert the color, resize (bilinear), normalise.

    Raises:
        BadRow: No picture, a damaged one, or one too large.
        Broken: Pillow is missing on this server.
    """
    try:
        from PIL import Image
    except ImportError:
        raise Broken(
            "Pillow is not installed on this server: encoded pictures cannot be read; pip install pillow"
        ) from None
    try:
        with Image.open(io.BytesIO(octets), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadRow(
                    f"the picture has {opened.width} x {opened.height} pixels, at most {MAX_PIXELS} are decoded"
                )
            picture = opened.convert("L" if spec["color"] == "GRAY" else "RGB")
    except BadRow:
        raise
    except Exception as error:  # noqa: BLE001 -- a damaged picture raises whatever its decoder stumbles over
        raise BadRow(f"the body is no readable JPEG or PNG ({type(error).__name__})") from None
    height, width = (wanted or own for wanted, own in zip(spec["size"], (picture.height, picture.width)))
    if (picture.width, picture.height) != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return row_from_pixels(np.asarray(picture, np.uint8).reshape(height, width, -1), spec)


def row_from_pixels(pixels, spec):
    """Make one input row from pixels, uint8, shape (height, width, channels) in RGB order or one channel."""
    pixels = pixels[:, :, ::-1] if spec["color"] == "BGR" else pixels
    gain, offset = affine(spec)
    if spec["dtype"] in ("uint8", "int8"):
        values = np.rint(pixels * gain + offset)
        limits = np.iinfo(spec["dtype"])
        values = np.clip(values, limits.min, limits.max)
    else:
        values = pixels.astype(np.float64) * gain + offset
    row = values.astype(spec["dtype"])
    return np.ascontiguousarray(row.transpose(2, 0, 1) if spec["layout"] == "NCHW" else row)


def affine(spec):
    """Give (gain, offset) per channel, with model input = pixel (0..255) * gain + offset."""
    channels = 1 if spec["color"] == "GRAY" else 3
    if spec.get("mean") is not None:
        std, mean = np.asarray(spec["std"], np.float64), np.asarray(spec["mean"], np.float64)
        return 1.0 / (255.0 * std), -mean / std
    scale = spec.get("scale")
    if scale is None:
        scale = 1.0 if spec["dtype"] in ("uint8", "int8") else 1.0 / 255.0
    return np.full(channels, scale), np.zeros(channels)


def picture_from_base64(text):
    """Decode base64 that stands in JSON.

    Raises:
        BadRow: It is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BadRow("'b64' is no base64 text") from None


def class_names(folder, manifest):
    """Give the class names the archive holds, [] for none."""
    if not manifest.get("labels"):
        return []
    return _inside(Path(folder), manifest["labels"]).read_text(encoding="utf-8").splitlines()


def best(scores):
    """Give the index of the highest score of one row; a score that is no number never wins."""
    row = np.asarray(scores, np.float64).reshape(-1)
    return int(np.argmax(np.where(np.isnan(row), -np.inf, row)))


def _sealed(path):
    try:
        octets = path.read_bytes()
        content = json.loads(octets)
        expected = content.pop("digest")
        listed = content["files"].items()
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise Broken(f"{path} is missing or unreadable ({error}); not serving: package the model again") from None
    found = hashlib.sha256((json.dumps(content, indent=2, sort_keys=True) + "\n").encode()).hexdigest()
    if found != expected:
        raise Broken(
            f"{path} has sha256 {found}, it says {expected}; not serving: it was altered, package the model again"
        )
    if not listed:
        raise Broken(f"{path} lists no files; not serving")
    return content


def _inside(folder, name):
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Broken(f"{folder / MANIFEST_NAME} names {name!r}, which leaves the archive; not serving")
    return path


def _sha256(path):
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise Broken(f"{path} cannot be read ({error.strerror}), the manifest lists it; not serving") from None
    return found.hexdigest()


def _typed(values, dtype):
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        if values.size and (values.min() < limits.min or values.max() > limits.max or (values % 1).any()):
            raise BadRow(f"a picture's values must be whole numbers from {limits.min} to {limits.max}")
        return values.astype(dtype)
    with np.errstate(over="ignore"):
        row = values.astype(dtype)
    if not np.isfinite(row).all():
        raise BadRow(f"a picture's values must be finite {dtype} numbers")
    return row


def _threads(instances):
    said = os.environ.get("PTYNET_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, processors // max(1, instances)))


def _onnx_engine(path, manifest, gpu, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if gpu is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [port["name"] for port in manifest["outputs"]]

    def run(feeds):
        return dict(zip(names, session.run(names, feeds)))

    return run


def _torchscript_engine(path, manifest, gpu, threads):
    import torch

    _set_up_torch(torch, manifest, threads)
    device = _device(torch, gpu)
    return _torch_runner(torch, torch.jit.load(str(path), map_location=device).eval(), manifest, device)


def _exported_engine(path, manifest, gpu, threads):
    import torch

    _set_up_torch(torch, manifest, threads)
    module = torch.export.load(str(path)).module()
    device = _device(torch, gpu)
    return _torch_runner(torch, module.to(device), manifest, device)


def _set_up_torch(torch, manifest, threads):
    torch.set_num_threads(threads)
    wanted = manifest["spec"].get("quantized_engine")
    if wanted is None:
        return
    known = torch.backends.quantized.supported_engines
    if wanted not in known:
        raise Broken(
            f"the model needs the quantized engine {wanted!r}, this torch has {known}; not serving: answers would be wrong"
        )
    torch.backends.quantized.engine = wanted


def _device(torch, gpu):
    return torch.device(f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu")


def _torch_runner(torch, module, manifest, device):
    names = [port["name"] for port in manifest["outputs"]]
    order = [port["name"] for port in manifest["inputs"]]

    def run(feeds):
        with torch.inference_mode():
            answered = module(*(torch.from_numpy(feeds[name]).to(device) for name in order))
        tensors = _flattened(torch, answered)
        if len(tensors) != len(names):
            raise Broken(f"the model answered {len(tensors)} tensors, the manifest names {len(names)}")
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, tensors)}

    return run


def _flattened(torch, answered):
    if isinstance(answered, torch.Tensor):
        return [answered]
    if isinstance(answered, dict):
        return [tensor for part in answered.values() for tensor in _flattened(torch, part)]
    if isinstance(answered, (list, tuple)):
        return [tensor for part in answered for tensor in _flattened(torch, part)]
    return []
