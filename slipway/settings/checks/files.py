"""An app's files: what nginx serves, what the app writes, and what the operator gives it."""

from __future__ import annotations

from slipway.settings.app import AppSettings
from slipway.settings.checks.report import Report, read_file
from slipway.settings.errors import join, show

RESERVED = (".venv", ".git")
"""What is the release's own in its folder. What is being copied ends with .partial."""
LARGEST = 1_000_000
"""Bytes of a file that a release gets a copy of."""


def check_static(report: Report, at: str, app: AppSettings) -> None:
    """Folders that nginx serves: each at an address of its own, which the app doesn't need itself."""
    known: set[str] = set()
    several = isinstance(app.static, list)
    for number, each in enumerate(app.statics):
        place = f"{at}[{number}].url" if several else f"{at}.url"
        if each.url in known:
            report.add(place, "a prefix of its own for each folder", show(each.url), "choose another url")
        known.add(each.url)
        if any(path.startswith(each.url) for path in (app.liveness, app.readiness)):
            do = "choose another url: the app couldn't answer its liveness or readiness path"
            report.add(place, "a prefix that no health path starts with", show(each.url), do)


def _file_at(at: str, path: str) -> str:
    """Where a setting of ``shared_files`` stands."""
    return f"{at}.{join('shared_files', path)}"


def check_shared(report: Report, at: str, app: AppSettings) -> None:
    """What doesn't come from the source: no path is another's or lies in it, and local files can be read."""
    named = [(f"{at}.shared[{number}]", path) for number, path in enumerate(app.shared)]
    named += [(_file_at(at, path), path) for path in app.shared_files]
    before: list[str] = []
    for place, path in named:
        if path.partition("/")[0] in RESERVED or path.endswith(".partial"):
            do = "choose another path: that one is the release's own"
            report.add(place, "a path that a release has no use for", show(path), do)
        for other in before:
            if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
                do = f"remove it, or {show(other)}: one has the other"
                report.add(place, "a path apart from all others of shared and shared_files", show(path), do)
        before.append(path)
    for path, file in app.given_files.items():
        place = _file_at(at, path)
        content = read_file(report, place, file, "a file of yours", private=True)
        if content is None:
            continue
        if len(content) > LARGEST:
            report.add(place, f"a file of at most {LARGEST:,} bytes", f"{file}: {len(content):,}", "name another file")
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            report.add(
                place, "a text in UTF-8", f"{file}, which is none", "write it in base64, and let the app decode it"
            )
        if any(f"{path}/".startswith(f"{each.path}/") for each in app.statics):
            report.add(
                place, "a path outside of static folders", show(path), "choose another path: nginx would serve it"
            )
