"""Stands before the handler an archive came with: checks every file against the manifest, then hands over.

The original handler's steps run as they did; the weights it loads carry the mark.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path


def _sibling(name):
    """Import a file that lies beside this one in the archive, whatever else sys.path offers under its name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


runtime = _sibling("ptynet_runtime")


class PTYNetGuard:
    """Serves through the original handler, after the integrity check."""

    def __init__(self):
        self.entry = None

    def initialize(self, context):
        """Check the archive, then start the original handler.

        Raises:
            Broken: Anything is not as packaged.
        """
        folder = Path(context.system_properties["model_dir"])
        manifest = runtime.verified_manifest(folder)
        name, _, function = manifest["guarded"].partition(":")
        module = _original(folder, name)
        self.entry = _entry(module, function, context)

    def handle(self, requests, context):
        """Answer a batch as the original handler does."""
        if self.entry is None:
            raise runtime.Broken("the handler was not initialized; not serving")
        return self.entry(requests, context)


def _original(folder, name):
    if (folder / name).is_file():
        return _sibling(Path(name).stem)
    return importlib.import_module(f"ts.torch_handler.{name}")


def _entry(module, function, context):
    """Find the original's entry as the server does: a function of that name, or the one class of the module."""
    found = getattr(module, function or "handle", None)
    if found is not None:
        found(None, context)
        return found
    classes = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    if len(classes) != 1:
        raise runtime.Broken(f"{module.__name__} has {len(classes)} classes; the server wants exactly one; not serving")
    service = classes[0]()
    service.initialize(context)
    return service.handle
