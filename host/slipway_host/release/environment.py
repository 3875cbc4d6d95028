"""A release's own Python environment: installed by uv from the lock file, or shared from another release."""

from __future__ import annotations

import re
from pathlib import Path

from slipway_host.release import builder, caches, commands, guest, installing, locks, manifest, serving, trees
from slipway_host.release.trees import Strange
from slipway_host.system import Failed, tail
from slipway_host.text import listed, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipway_host.release.app import App
    from slipway_host.release.locks import Lock

SCRIPT_BYTES = 1_000_000  # a larger file in an environment's bin is no script, and doesn't name the environment
PROGRAMS = ("python",)  # that every environment must have
# uv's words about a cache that it can't read.
DAMAGED_CACHE = re.compile(r"(?i)wheel is invalid|deserialize|corrupt|truncated|unexpected end|failed to read")


def sync(app: App, release: str, lock: Lock) -> list[str] | None:
    """Install all that a release runs with, byte-compiled. Its record says what that is made from.

    Returns the paths of what is the release's own in it; None if that can't be told apart.
    """
    uv = installing.Uv(app, release, lock)
    done = installing.dependencies(uv, lock)
    differing = unlike_records(app, release) if done.code == 0 else []
    if differing or (done.code != 0 and DAMAGED_CACHE.search(done.output)):
        why = f"{short(listed(differing))} differs from its RECORD" if differing else tail(done.output, 1)
        app.progress.say(f"{why}; the dependencies are installed once more, without uv's cache")
        trees.remove(app.at.venv(release))
        uv.cached = False
        # A package that still differs has a wrong RECORD.
        done = installing.dependencies(uv, lock)
        uv.cached = True
        if done.code == 0 and not (set(differing) & set(unlike_records(app, release))):
            builder.must_run(app, uv.run("cache", "clean", network=False))
    if done.code != 0:
        text = done.output.strip()
        told = installing.explained(text, app.wanted["python"])
        raise Failed(f"The dependencies of {lock.path} can't be installed:\n{tail(text)}{told}")
    serving.install(uv, lock)
    local = install_own(uv, lock, None)
    # uv makes its lock files writable by everybody.
    closing = ["find", str(app.at.uv_cache), "-type", "f", "-perm", "-o+w", "-exec", "chmod", "o-w", "{}", "+"]
    builder.must_run(app, builder.run(app, release, closing, {}, network=False))
    caches.bound(app, offline=bool(locks.settings(app).get("offline")))
    complete(app, release)
    return local


def install_own(uv: installing.Uv, lock: Lock, base: str | None) -> list[str] | None:
    """Install the packages of the source, after the commands that these need. Returns the paths that this has added to
    the environment, the topmost.

    None if it has changed something that was there: what is shared must be as it was without them.

    + base: the release whose environment this one shares
    """
    venv = uv.app.at.venv(uv.release)
    before = trees.stamps(venv, guest.WHAT)
    commands.run(uv.app, uv.release, base, rebuilt=bool(base), first=True)
    installing.own(uv, lock)
    after = trees.stamps(venv, guest.WHAT)
    if any(after.get(path) != stamp for path, stamp in before.items() if stamp is not None):
        return None
    added = after.keys() - before.keys()
    return sorted(path for path in added if str(Path(path).parent) not in added)


def look(app: App, release: str, own: Iterable[str] | None) -> dict[str, tuple[int, int, int] | None]:
    """How an environment looks, but for what is the release's own in it, and for byte code."""
    found = trees.stamps(app.at.venv(release), guest.WHAT)
    return {
        path: stamp
        for path, stamp in found.items()
        if "__pycache__" not in Path(path).parts and not _is_of(Path(path), own or ())
    }


def complete(app: App, release: str) -> None:
    """Raise Failed unless the environment has the programs that the app's server needs."""
    for program in app.wanted.get("programs", PROGRAMS):
        if not (app.at.programs(release) / program).exists():
            raise Failed(f"The environment has no {program}: see what the packages of the app's server install.")


def unlike_records(app: App, release: str) -> list[str]:
    """Packages that differ from their RECORD, for example because a power cut has damaged uv's cache."""
    venv = app.at.venv(release)
    if venv.is_symlink() or not venv.is_dir():
        return []
    trees.measure(app.at.folder(release), guest.WHAT)  # before anything of it is read
    return manifest.unlike_records(venv, manifest.take(venv))


def compile_library(app: App, python: str) -> None:
    """Byte-compile the standard library of a Python that uv has installed, once. It halves the time of an app's start.

    An app can't write there, so it would compile at each start. uv compiles when it installs a Python; this is for
    older ones, and after a killed run.

    + python: path of the program
    """
    library = next(Path(python).parents[1].glob("lib/python3*"), None)
    if not library or not library.is_relative_to(app.wanted["uv_env"].get("UV_PYTHON_INSTALL_DIR", "-")):
        return
    compiled = {path.name.partition(".")[0] for path in library.glob("__pycache__/*.pyc")}
    if any(path.stem not in compiled for path in library.glob("*.py")):
        # A check by name notices a killed run. A file that can't be compiled is only slower.
        skipped = r"/(tests?|idlelib|turtledemo|site-packages)/"
        command = [python, "-IS", "-m", "compileall", "-q", "-x", skipped, str(library)]
        app.system.run(*command, check=False, heard=app.progress.heard)


# ── an environment that is there already ─────────────────────────────────────────────────────────────────────────────


def reusable(app: App, environment: str) -> str | None:
    """The newest release with exactly this environment, if that can be shared; None if there is none.

    + environment: digest of what it is made from
    """
    for release in reversed(app.good()):
        record, venv = app.record(release), app.at.venv(release)
        own = record.get("own", [])
        if record.get("environment") != environment or own is None or app.damage(release):
            continue
        packages = next(venv.glob("lib/python3*/site-packages"), None)
        if not packages:
            continue
        # What is the release's own is installed anew. Of the rest nothing may name its folder.
        paths = [
            *packages.glob("*.pth"),
            *packages.glob("__editable__*"),
            *packages.glob("*.dist-info/direct_url.json"),
        ]
        shared = [path for path in paths if not _is_of(path.relative_to(venv), own)]
        if not any(names(path, app.at.folder(release)) for path in shared):
            return release
    return None


def _is_of(path: Path, own: Iterable[str]) -> bool:
    return any(path == Path(each) or Path(each) in path.parents for each in own)


def names(path: Path, folder: Path) -> bool:
    """Whether a file of an installed package contains the path of a folder; True if it can't be read."""
    try:
        content = trees.read(path.parent, path.name)
    except Strange:
        return True
    return content is not None and bytes(folder) in content


def adopt_for_own(app: App, base: str, release: str, lock: Lock) -> list[str] | None:
    """Share another release's environment, but for what is that release's own: this release's is installed anew.

    The builder may add to the folders, and read the files, which stay root's. Returns as `sync` does.
    """
    partial, venv = adopt(app, base, release), app.at.venv(release)
    for path in app.record(base)["own"] or []:
        trees.remove(partial / path)
    app.system.run("find", str(partial), "-type", "d", "-exec", "chown", app.at.builder, "{}", "+")
    partial.rename(venv)
    local = install_own(installing.Uv(app, release, lock, reading=True), lock, base)
    complete(app, release)
    return local


def adopt(app: App, base: str, release: str) -> Path:
    """Share another release's environment by hard links: root owns its files, and they never change.

    Returns the folder, which must still be renamed to the release's environment.
    """
    before, after, partial = app.at.venv(base), app.at.venv(release), app.at.partial(release)
    app.system.run("cp", "-al", str(before), str(partial))
    trees.remove(partial / ".lock")  # uv's, which it must be able to write
    for script in (partial / "bin").iterdir():  # their first line names the environment
        if script.is_symlink() or not script.is_file() or script.stat().st_size > SCRIPT_BYTES:
            continue
        content = script.read_bytes()
        if bytes(before) in content:
            mode = script.stat().st_mode & 0o777
            script.unlink()
            script.touch(0o600)
            script.write_bytes(content.replace(bytes(before), bytes(after)))
            app.system.chown(script, "root", app.at.group)
            script.chmod(mode)
    return partial
