"""Caches of an app's fetches and builds: a copy of the repository, uv's cache, the builder's home."""

from __future__ import annotations

from slipway_host.release import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from slipway_host.release.app import App

CACHE_MB = 2048  # of uv's, which never forgets: beyond that the next build with other dependencies begins anew
HOME_MB = 2048  # of what builds leave in their home: beyond that the next one begins with an empty one


def forget(app: App) -> None:
    """Empty all caches of the app."""
    trees.remove(app.at.mirror)
    empty(app)


def empty(app: App, *folders: Path) -> None:
    """Empty these folders of builds, or else all of them."""
    for folder in folders or (app.at.uv_cache, app.at.builder_home):
        trees.remove(folder)
        folder.mkdir(mode=0o700)
        app.system.chown(folder, app.at.builder, app.at.builder)


def bound(app: App, *, offline: bool = False) -> None:
    """Empty the folders that have become too large.

    + offline: whether uv's must have all that a build without an index needs
    """
    for folder, most in ((app.at.uv_cache, CACHE_MB), (app.at.builder_home, HOME_MB)):
        if offline and folder == app.at.uv_cache:
            continue
        if too_large(app, folder, most):
            empty(app, folder)


def too_large(app: App, folder: Path, most_mb: int) -> bool:
    """Whether a folder of builds is too large, or can't be measured."""
    told = app.system.run("du", "-sm", str(folder), check=False).output.splitlines()
    size = told[-1].partition("\t")[0] if told else ""  # the last line is the sum
    return not size.isdigit() or int(size) > most_mb
