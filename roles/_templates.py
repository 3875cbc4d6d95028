"""Renders `templates/`: strict (an undefined name is an error), without stray blank lines."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parent.parent

_environment = Environment(
    loader=FileSystemLoader(ROOT / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # no HTML: settings refuse every character that could leave its context
)


def render(template: str, **values: object) -> str:
    """The text of ``templates/<template>`` with `values`; `jinja2.UndefinedError` when it names anything else."""
    return _environment.get_template(template).render(**values)


def host_file(path: str) -> str:
    """The text of ``files/<path>``, which goes to the host as it is."""
    return (ROOT / "files" / path).read_text(encoding="utf-8")
