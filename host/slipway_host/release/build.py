"""Build: install Python and the locked dependencies; then root owns the whole release."""

from __future__ import annotations

import os
from pathlib import Path

from slipway_host.release import builder, caches, commands, environment, guest, shared, source
from slipway_host.release.app import digest
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App


def build(app: App, release: str) -> str | None:
    """Install Python and the locked dependencies into the release's own environment, and give it to root.

    Returns a note if the environment comes from another release.
    """
    from concurrent.futures import ThreadPoolExecutor

    folder = app.at.folder(release)
    lock, projects = read(app, folder)
    made_from = digest(lock, *projects, app.wanted["python"], app.wanted["uv_env"])
    base = None
    if app.request.get("fresh"):
        caches.forget(app)
    else:
        base = environment.reusable(app, made_from)
    if not base:
        environment.sync(app, release, lock)
    python = os.path.realpath(app.at.programs(base or release) / "python")
    environment.compile_library(app, python)
    commands.run(app, release, base)
    with ThreadPoolExecutor() as pool:
        adopted = pool.submit(environment.adopt, app, base, release) if base else None
        # A file that doesn't compile is no failure: it may never be imported, such as a template.
        compiling = [python, "-ISm", "compileall", "-q", "-x", r"/\.venv/", str(folder)]
        builder.must_run(app, builder.run(app, release, compiling, {}, network=False))
        own(app, release)
    if adopted:  # the folder is root's by now: its environment was never the builder's
        adopted.result().rename(app.at.venv(release))
    shared.link(app, release)
    app.write_record(release, environment=made_from)
    app.describe(release, base)
    return f"the environment of {base}" if base else None


def read(app: App, folder: Path) -> tuple[bytes, list[bytes]]:
    """What a source says about its dependencies: its lock file, and its projects.

    For a member of a workspace the lock file lies above its own project.
    """
    subdir = app.wanted["source"]["subdir"]
    if source.of_source(app, folder, "pyproject.toml") is None:
        where = subdir or "the root"
        raise Failed(f"There is no pyproject.toml in {where} of the source: set source.subdir to the app's folder.")
    above = [str(each) for each in (Path(subdir), *Path(subdir).parents)]
    for beside in above:
        lock = source.of_source(app, folder, "uv.lock", beside)
        if lock is not None:
            projects = (source.of_source(app, folder, "pyproject.toml", each) for each in {above[0], beside})
            return lock, sorted(each or b"" for each in projects)
    raise Failed("The source has no uv.lock: `uv lock` in the project, commit it, and run again.")


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
