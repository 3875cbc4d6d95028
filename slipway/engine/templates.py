"""Renders `templates/`: strict (an undefined name is an error), without stray blank lines."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from slipway_host.layout import LAYOUT
from slipway_host.names import PATH

from slipway import project

ROOT = project.root()

_environment = Environment(
    loader=FileSystemLoader(ROOT / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # no HTML: settings refuse every character that could leave its context
)
_environment.globals |= {"layout": LAYOUT, "PATH": PATH}


def names() -> list[str]:
    """All that `render` takes: paths below ``templates/``."""
    return _environment.list_templates(extensions=["j2"])


def load(template: str) -> Template:
    """``templates/<template>``, compiled, which takes a while only once a run."""
    return _environment.get_template(template)


def render(template: str, **values: object) -> str:
    """The text of ``templates/<template>`` with `values`; `jinja2.UndefinedError` when it names anything else.

    Besides those it has `layout`, with a host's paths and units, and PATH, where the system's programs are.
    """
    return load(template).render(**values)


def host_file(path: str) -> str:
    """The text of ``files/<path>``, which goes to the host as it is."""
    return (ROOT / "files" / path).read_text(encoding="utf-8")
