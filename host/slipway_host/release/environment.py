"""A release's own Python environment: installed by uv from the lock file, or shared from another release."""

from __future__ import annotations

import re
from pathlib import Path

from slipway_host.release import builder, caches, guest, manifest, trees
from slipway_host.release.trees import Strange
from slipway_host.system import Failed, tail
from slipway_host.text import listed, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipway_host.release.app import App

SCRIPT_BYTES = 1_000_000  # a larger file in an environment's bin is no script, and doesn't name the environment
PROGRAMS = ("python",)  # that every environment must have
# uv's words about a cache that it can't read.
DAMAGED_CACHE = re.compile(r"(?i)wheel is invalid|deserialize|corrupt|truncated|unexpected end|failed to read")


def sync(app: App, release: str, lock: bytes) -> None:
    """Install the locked dependencies, byte-compiled.

    + lock: the lock file's content
    """
    environment = {
        "UV_CACHE_DIR": str(app.at.uv_cache),
        "UV_PROJECT_ENVIRONMENT": str(app.at.venv(release)),
        "UV_NO_PROGRESS": "1",
        # Copies: a hard link would share owner and mode with the cache, which builders can write.
        "UV_LINK_MODE": "copy",
        **app.wanted["uv_env"],
    }
    if (only := app.wanted["build"]["only"]) is not None:
        environment["UV_NO_BUILD_PACKAGE"] = " ".join(others_in_lock(lock, only))
    secrets: dict[str, str] = app.system.json(app.at.build_environment)
    uv, python = str(app.system.layout.uv), app.wanted["python"]
    command = [uv, "sync", "--locked", "--no-dev", "--compile-bytecode", "--python", python]
    given = environment | secrets
    done = builder.run(app, release, command, given, secrets=secrets.values())
    differing = unlike_records(app, release) if done.code == 0 else []
    if differing or (done.code != 0 and DAMAGED_CACHE.search(done.output)):
        why = f"{short(listed(differing))} differs from its RECORD" if differing else tail(done.output, 1)
        app.progress.say(f"{why}; the dependencies are installed once more, without uv's cache")
        trees.remove(app.at.venv(release))
        # A package that still differs has a wrong RECORD.
        done = builder.run(app, release, [*command, "--no-cache"], given, secrets=secrets.values())
        if done.code == 0 and not (set(differing) & set(unlike_records(app, release))):
            cleaned = builder.run(app, release, [uv, "cache", "clean"], environment, network=False)
            builder.must_run(app, cleaned)
    if done.code != 0:
        text = done.output.strip()
        raise Failed(f"`uv sync --locked --no-dev` failed:\n{tail(text)}{uv_advice(text, python)}")
    # uv makes its lock files writable by everybody.
    closing = ["find", str(app.at.uv_cache), "-type", "f", "-perm", "-o+w", "-exec", "chmod", "o-w", "{}", "+"]
    builder.must_run(app, builder.run(app, release, closing, {}, network=False))
    caches.bound(app)
    complete(app, release)


def complete(app: App, release: str) -> None:
    """Raise Failed unless the environment has the programs that the app's server needs."""
    advice = app.wanted.get("advice")
    todo = f"`{advice}` in the project" if advice else "add its package to the project, `uv lock`"
    for program in app.wanted.get("programs", PROGRAMS):
        if not (app.at.programs(release) / program).exists():
            raise Failed(f"The lock file has no {program}: {todo}, commit, and run again.")


def others_in_lock(lock: bytes, only: Iterable[str]) -> list[str]:
    """Packages of a lock file except the named ones."""
    named = {re.sub(r"[-_.]+", "-", each).lower() for each in only}
    # As uv writes it; Python 3.10 can't read TOML.
    packages = re.findall(r'^\[\[package\]\]\nname = "([^"]+)"$', lock.decode(errors="replace"), re.MULTILINE)
    return sorted({*packages} - named)


def unlike_records(app: App, release: str) -> list[str]:
    """Packages that differ from their RECORD, for example because a power cut has damaged uv's cache."""
    venv = app.at.venv(release)
    if venv.is_symlink() or not venv.is_dir():
        return []
    trees.measure(app.at.folder(release), guest.WHAT)  # before anything of it is read
    return manifest.unlike_records(venv, manifest.take(venv))


def uv_advice(text: str, python: str) -> str:
    """What to do about an error of uv, if uv itself doesn't say it.

    + text: uv's output
    + python: the wanted version
    """
    if "needs to be updated" in text:
        return "\nuv.lock is older than pyproject.toml: `uv lock` in the project, commit it, and run again."
    if "no-build" in text:
        return "\nThe package has no wheel for this host: add it to build_only, if its code may run in the build."
    if "No interpreter found" in text:
        return f"\nPython {python} isn't installed on this host: `slipway apply` installs it."
    return ""


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
        venv = app.at.venv(release)
        if app.record(release).get("environment") != environment or app.damage(release):
            continue
        # An installed project, or a member of its workspace, is named by its path: then build anew.
        packages = next(venv.glob("lib/python3*/site-packages"), None)
        if not packages:
            continue
        paths = [
            *packages.glob("*.pth"),
            *packages.glob("__editable__*"),
            *packages.glob("*.dist-info/direct_url.json"),
        ]
        if not any(names(path, app.at.folder(release)) for path in paths):
            return release
    return None


def names(path: Path, folder: Path) -> bool:
    """Whether a file of an installed package contains the path of a folder; True if it can't be read."""
    try:
        content = trees.read(path.parent, path.name)
    except Strange:
        return True
    return content is not None and bytes(folder) in content


def adopt(app: App, base: str, release: str) -> Path:
    """Share another release's environment by hard links: root owns its files, and they never change.

    Returns the folder, which must still be renamed to the release's environment.
    """
    before, after, partial = app.at.venv(base), app.at.venv(release), app.at.partial(release)
    app.system.run("cp", "-al", str(before), str(partial))
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
