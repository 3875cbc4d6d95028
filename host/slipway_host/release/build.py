"""Build: install Python and the locked dependencies; then root owns the whole release."""

from __future__ import annotations

import os

from slipway_host import lockfiles
from slipway_host.release import builder, caches, commands, environment, guest, locks, shared, source, trees
from slipway_host.release.app import digest
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from slipway_host.release.app import App


def build(app: App, release: str) -> str | None:
    """Install Python and the locked dependencies into the release's own environment, and give it to root.

    Returns a note if the environment comes from another release.
    """
    from concurrent.futures import ThreadPoolExecutor

    folder = app.at.folder(release)
    lock = locks.find(app, folder)
    made_from = digest(*lock.made_from, lock.path, locks.settings(app), app.wanted["python"], app.wanted["uv_env"])
    app.write_record(release, environment=made_from)
    _say_python(app, folder)
    trees.remove(app.at.venv(release))  # a source may have one
    base, own_paths = None, None
    if app.request.get("fresh"):
        caches.forget(app)
    else:
        base = environment.reusable(app, made_from)
    # Without a package of its own, a release has exactly the same environment.
    rebuilt = bool(base and app.record(base).get("own"))
    if base and rebuilt:
        own_paths = environment.adopt_for_own(app, base, release, lock)
    elif base:
        commands.run(app, release, base, first=True)
        own_paths = []
    else:
        own_paths = environment.sync(app, release, lock)
    python = os.path.realpath(app.at.programs(base or release) / "python")
    environment.compile_library(app, python)
    before = environment.look(app, release, own_paths)
    commands.run(app, release, base, rebuilt=rebuilt)
    if environment.look(app, release, own_paths) != before:
        own_paths = None  # a command installs more than the lock file tells: nobody else is to have that
    with ThreadPoolExecutor() as pool:
        adopted = pool.submit(environment.adopt, app, base, release) if base and not rebuilt else None
        # A file that doesn't compile is no failure: it may never be imported, such as a template.
        compiling = [python, "-ISm", "compileall", "-q", "-x", r"/\.venv/", str(folder)]
        builder.must_run(app, builder.run(app, release, compiling, {}, network=False))
        own(app, release)
    if adopted:  # the folder is root's by now: its environment was never the builder's
        adopted.result().rename(app.at.venv(release))
    shared.link(app, release)
    app.write_record(release, own=own_paths)
    app.describe(release, base)
    return f"the environment of {base}" if base else None


def _say_python(app: App, folder: Path) -> None:
    """Tell of another Python that a repository names; a local folder's is told by the plan."""
    wanted, python = app.wanted["source"], app.wanted["python"]
    content = source.content_of(app, folder)
    if wanted["kind"] == "git" and (other := lockfiles.other_python(wanted["subdir"], content, python)):
        app.progress.say(f"it gets Python {python}; {other}")


def own(app: App, release: str) -> None:
    """Give everything to root, readable by the app alone; nginx may read static folders and enter their parents."""
    folder = app.at.folder(release)
    guest.take_over(folder, 0, group_id(app.at.group), [app.wanted["uv_env"]["UV_PYTHON_INSTALL_DIR"]])
    folder = folder.resolve()  # the folder of all apps may be a link to another disk
    named = app.wanted.get("static") or []
    for static in [named] if isinstance(named, str) else named:
        path = (folder / app.wanted["source"]["subdir"] / static).resolve()
        if not path.is_relative_to(folder) or not path.is_dir():
            raise Failed(
                f"static.path: {static} is no folder inside the app's source. If a command makes it, name that in "
                "`build`; if git ignores it, name it in source.include; if the app writes it, name it in `shared`."
            )
        app.system.run("chmod", "-R", "o=rX", str(path))
        for parent in path.parents:
            if parent == folder.parent:
                break
            parent.chmod(parent.stat().st_mode | 0o001)


def group_id(name: str) -> int:
    """Number of a group."""
    import grp

    return grp.getgrnam(name).gr_gid
