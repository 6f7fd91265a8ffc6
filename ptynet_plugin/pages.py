"""HTML pages that stand alone: one base template, which the templates of every room extend."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template, select_autoescape

__all__ = ["page_template"]


def page_template(package: str, name: str) -> Template:
    """Load a page's template.

    Everything that goes into it is escaped, and a name that it is not given raises when it is rendered.

    Args:
        package: The package whose `templates/` folder holds it; `base.html` is this package's own.
        name: Its file name.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("ptynet_plugin")]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
