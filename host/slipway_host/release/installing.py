"""Install what a lock file names into a release's environment, and what the app's server needs beside it.

Three steps, each of which leaves what the steps before it installed: the dependencies, by their hashes; the server's
packages that the lock file lacks, under its pins; the packages of the source itself.
"""

from __future__ import annotations

import json
import re

from slipway_host import requirements
from slipway_host.lockfiles import PROJECT
from slipway_host.release import builder, lacking, locks, sources, trees
from slipway_host.release.app import digest
from slipway_host.system import Failed, tail
from slipway_host.text import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from slipway_host.release.app import App
    from slipway_host.release.locks import Lock
    from slipway_host.system import Done

FROZEN, LOCKED, SERVER = "frozen.txt", "locked.txt", "server.txt"
"""Files of an environment: what the lock file has installed; what the first build pinned, if it had to; what was
installed for the server beside that."""
PACKAGING = "packaging==26.3 --hash=sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c"
"""Reads the markers of Poetry's and PDM's lock files."""
TOMLI = (
    "tomli==2.3.0 ; python_version < '3.11' "
    "--hash=sha256:e95b1af3c5b07d9e643909b5abbec77cd9f1217e6d0bca72b0234736b9fb1f1b"
)
"""Reads these files with a Python that can't."""
COMPILE = ("--quiet", "--generate-hashes", "--no-header", "--no-annotate")
WRITE = 'cat >"$1"'


class Uv:
    """uv, for the builds of one release."""

    def __init__(self, app: App, release: str, lock: Lock, *, reading: bool = False) -> None:
        """`reading`: whether the environment is root's, from another release."""
        self.app, self.release, self.lock, self.reading = app, release, lock, reading
        self.cached = True
        """Whether it may use its cache."""
        self.secrets: dict[str, str] = app.system.json(app.at.build_environment)
        self.python = str(app.at.programs(release) / "python")

    def environment(self) -> dict[str, str]:
        """Its variables, without secrets."""
        config = self.app.at.uv_config
        if not (config / "uv/uv.toml").exists():
            (config / "uv").mkdir(parents=True, exist_ok=True)
            (config / "uv/uv.toml").touch()
        wanted = {name: value for name, value in self.app.wanted["uv_env"].items() if name != "UV_NO_CONFIG"}
        only = self.app.wanted["build"]["only"]
        if only is not None and self.lock.kind == "uv":
            allowed = {locks.plain(each) for each in only}
            others = [each for each in locks.names_in(self.lock.content) if each not in allowed]
            wanted |= {"UV_NO_BUILD_PACKAGE": " ".join(others)}
        wanted |= self.app.wanted["build"].get("env", {})
        return {
            "UV_CACHE_DIR": str(self.app.at.uv_cache),
            "UV_PROJECT_ENVIRONMENT": str(self.app.at.venv(self.release)),
            "UV_NO_PROGRESS": "1",
            # Copies: a hard link would share owner and mode with the cache, which builders can write.
            "UV_LINK_MODE": "copy",
            # The project's own settings of uv count; the builder's and the host's don't.
            "XDG_CONFIG_HOME": str(config),
            "XDG_CONFIG_DIRS": str(config),
            **wanted,
        }

    def run(self, *words: str, said: str = "", more: dict[str, str] | None = None, network: bool = True) -> Done:
        """Run it. Returns how it ended, even if it failed.

        + said: its standard input
        + more: variables besides its own
        """
        argv = [str(self.app.system.layout.uv), *words, *([] if self.cached else ["--no-cache"])]
        if network and self.cached and locks.settings(self.app).get("offline"):
            done = self.command(argv, said=said, more={**(more or {}), "UV_OFFLINE": "1"}, network=False)
            if done.code == 0:
                return done
        return self.command(argv, said=said, more=more, network=network)

    def command(
        self, argv: Sequence[str], *, said: str = "", more: dict[str, str] | None = None, network: bool = True
    ) -> Done:
        """Run a command with its variables."""
        given = {**self.environment(), **(more or {}), **self.secrets}
        done = builder.run(
            self.app,
            self.release,
            argv,
            given,
            network=network,
            secrets=self.secrets.values(),
            said=said,
            reading=self.reading,
        )
        builder.must_run(self.app, done)
        return done

    def read(self, name: str) -> str:
        """A file of the environment, which the build has written."""
        content = trees.read(self.app.at.venv(self.release), name)
        return (content or b"").decode(errors="replace")

    def write(self, name: str, text: str) -> None:
        """Write a file of the environment."""
        done = self.command(
            ["sh", "-c", WRITE, "sh", str(self.app.at.venv(self.release) / name)], said=text, network=False
        )
        if done.code != 0:
            raise Failed(f"{name} can't be written:\n{tail(done.output)}")

    def known(self, name: str, fact: str) -> str | None:
        """The same file of the newest good release with the same fact in its record; None if there is none.

        A build from empty caches uses none.
        """
        app = self.app
        wanted = app.record(self.release).get(fact)
        for release in reversed([] if app.request.get("fresh") else app.good()):
            venv = app.at.venv(release)
            if app.record(release).get(fact) == wanted and venv.is_dir() and not app.damage(release):
                content = trees.read(venv, name)
                if content is not None:
                    return content.decode(errors="replace")
        return None

    def must(self, doing: str, *words: str, advice: str = "", **options: Any) -> Done:
        """Run it. Raises Failed if it failed.

        + doing: what it is for, in the message
        + advice: what to do, if uv's output doesn't say it
        """
        done = self.run(*words, **options)
        if done.code != 0:
            text = done.output.strip()
            raise Failed(f"{doing} failed:\n{tail(text)}{explained(text, self.app.wanted['python']) or advice}")
        return done


def explained(text: str, python: str) -> str:
    """What to do about an error of uv, if uv itself doesn't say it.

    + text: uv's output
    + python: the wanted version
    """
    if "needs to be updated" in text:
        return "\nuv.lock is older than pyproject.toml: `uv lock` in the project, commit it, and run again."
    if "no-build" in text:
        return "\nThe package has no wheel for this host: add it to build_only, if its code may run in the build."
    if "project's Python requirement" in text:
        return "\nSet python of the app to a version that the project takes."
    if "No interpreter found" in text:
        return f"\nPython {python} isn't installed on this host: `slipway apply` installs it."
    told = lacking.advice(text)
    if built := re.search(r"Failed to (?:download and )?build `([^`=@\s]+)", text):
        alone = "Or set" if told else "Set"
        told += (
            f"\n{built[1]} has no wheel for Python {python} here. {alone} python to a version that has one, such as "
        )
        told += "that which the project is made for."
    return told


# ── the dependencies ─────────────────────────────────────────────────────────────────────────────────────────────────


def dependencies(uv: Uv, lock: Lock) -> Done:
    """Install what the lock file names, but nothing of the source itself. Returns how that ended."""
    if lock.kind == "uv":
        return uv.run(*_sync(uv, lock), "--no-install-local")
    python = uv.app.wanted["python"]
    made = uv.run("venv", "--quiet", "--no-project", "--python", python, str(uv.app.at.venv(uv.release)))
    if made.code != 0:
        return made
    if lock.kind == "pylock":
        words = chosen_words(uv.app)
        folder = uv.app.at.folder(uv.release)
        only = uv.app.wanted["build"]["only"]
        words += only_binary(uv, locks.names_in(lock.content)) if only is not None else []
        return uv.run(*pip_words(uv, "sync", "--preview-features", "pylock"), *words, str(folder / lock.path))
    _read_pins(uv, lock)
    hashed, git = lock.pins.hashed, lock.pins.git
    if lock.pins.loose or lock.pins.projects or (lock.pins.local and locks.settings(uv.app).get("hashes") is False):
        pinned = _pinned(uv, lock)
        if not isinstance(pinned, str):
            return pinned
        hashed, git = _parts(pinned)
    words = [*pip_words(uv, "sync", "--require-hashes", "--allow-empty-requirements"), *only_binary(uv, hashed)]
    if lock.kind in ("poetry", "pdm"):  # which package is of which index isn't told: the hashes decide
        words += ["--index-strategy", "unsafe-best-match"]
    options = index_options(uv, lock)
    done = uv.run(*words, "-", said=as_lines([*options, *hashed]))
    if done.code == 0 and git:
        words = [*pip_words(uv, "install", "--no-deps"), *only_binary(uv, git)]
        done = uv.run(*words, "-r", "-", said=as_lines([*options, *git]))
    return done


def index_options(uv: Uv, lock: Lock) -> list[str]:
    """The options of a file of requirements, as lines of one; of a pylock.toml, the one index that it names."""
    if lock.kind == "pylock":
        text = lock.content.decode(errors="replace")
        named = {*re.findall(r"^index = [\"'](https?://[^\"'\s]+)[\"']$", text, re.MULTILINE)}
        return [f"--index-url {index}" for index in named if len(named) == 1 and "//pypi.org/" not in index]
    folder = uv.app.at.folder(uv.release)
    return [*lock.pins.options, *(f"--find-links {folder / each}" for each in lock.pins.links)]


def compile_words(uv: Uv, lock: Lock) -> list[str]:
    """uv's words to pin requirements by hashes, within the lock file's own constraints."""
    folder = uv.app.at.folder(uv.release)
    constraints = [word for path in lock.pins.constraints for word in ("-c", str(folder / path))]
    return ["pip", "compile", *COMPILE, "--python", uv.python, *constraints]


def _read_pins(uv: Uv, lock: Lock) -> None:
    """Let the app's own Python read the lock file of Poetry or PDM, once. Raises Failed if it can't be used."""
    if lock.kind not in ("poetry", "pdm") or lock.pins.files:
        return
    app, chosen = uv.app, locks.settings(uv.app)
    project = app.work(uv.release) / PROJECT
    packages = str(app.at.builder_home / "packaging")
    words = pip_words(uv, "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "--target", packages)
    done = uv.run(*words, "-r", "-", said=as_lines([PACKAGING, TOMLI]))
    if done.code:
        raise Failed(f"{lock.path} can't be read, since packaging can't be installed:\n{tail(done.output)}")
    argv = [uv.python, "-IS", str(app.system.layout.pins_program), packages, lock.kind]
    argv += [str(app.at.folder(uv.release) / lock.path), str(project)]
    argv += [f"{what}={name}" for what in ("extra", "group") for name in chosen.get(f"{what}s", [])]
    done = uv.command(argv, network=False)
    try:
        told = json.loads(done.output)
    except ValueError:
        raise Failed(f"{lock.path} can't be read:\n{tail(done.output)}") from None
    if "error" in told:
        raise Failed(told["error"])
    lock.pins.files = {lock.path: lock.content}
    lock.pins.options, lock.pins.hashed, lock.pins.git = told["options"], told["hashed"], told["git"]
    lock.pins.local = [(path, bool(editable)) for path, editable in told["local"]]
    lock.builds = told["builds"]


def _pinned(uv: Uv, lock: Lock) -> str | Done:
    """Pins of requirements without hashes: those of an earlier build, or new ones; how uv ended if it failed."""
    asked, app = lock.pins, uv.app
    # What is pinned fits one version of Python: another may need more, or have no such wheel.
    version = ".".join(app.wanted["python"].split(".")[:2])
    before = locks.settings(app).get("before")
    app.write_record(uv.release, pinned=digest(*lock.made_from, version, *([before] if before else [])))
    if (known := uv.known(LOCKED, "pinned")) is not None:
        uv.write(LOCKED, known)
        return known
    chosen = app.at.venv(uv.release) / LOCKED
    words = compile_words(uv, lock)
    words += ["--custom-compile-command", "slipway", *only_binary(uv, [*asked.loose, *asked.hashed])]
    words += ["--prerelease=allow"] if "--pre" in asked.options else []  # uv takes that one here alone
    words += ["--exclude-newer", before] if before else []
    lines = [*index_options(uv, lock), *asked.loose, *asked.hashed, *asked.git, *_local_lines(asked.local)]
    inputs = ["-"]
    if asked.projects:
        inputs = [str(app.at.folder(uv.release) / path) for path in asked.projects]
        words += chosen_words(app)
    done = uv.run(*words, "-o", str(chosen), *inputs, said=as_lines(lines), more=sources.version(app))
    return done if done.code else uv.read(LOCKED)


def _parts(text: str) -> tuple[list[str], list[str]]:
    """The lines with hashes, and those from git, of requirements that were pinned. Raises Failed if some aren't."""
    asked = requirements.read("pinned", {"pinned": text.encode()}.get)
    if asked.loose:
        raise Failed(f"Nothing can pin {', '.join(map(requirements.named, asked.loose))}: name a commit, or a version.")
    return asked.hashed, asked.git


def _sync(uv: Uv, lock: Lock) -> list[str]:
    """uv's words for a project with a uv.lock."""
    words = ["sync", "--locked", "--no-default-groups", "--inexact", "--compile-bytecode", *chosen_words(uv.app)]
    return [*words, "--python", uv.app.wanted["python"]]


def chosen_words(app: App) -> list[str]:
    """uv's words for the extras and the groups that are asked for."""
    chosen = locks.settings(app)
    return [word for what in ("extra", "group") for name in chosen.get(f"{what}s", []) for word in (f"--{what}", name)]


def pip_words(uv: Uv, verb: str, *words: str) -> list[str]:
    """uv's words for the environment as it is."""
    return ["pip", verb, "--python", uv.python, "--compile-bytecode", *words]


def only_binary(uv: Uv, lines: Iterable[str]) -> list[str]:
    """uv's words for the packages of these lines that may not be built from their sources."""
    only = uv.app.wanted["build"]["only"]
    if only is None:
        return []
    allowed = {locks.plain(each) for each in only}
    names = {locks.plain(requirements.named(line)) for line in lines if not line.startswith("-")}
    return [f"--only-binary={name}" for name in sorted(names - allowed)]


def as_lines(lines: Iterable[str]) -> str:
    """Lines as a text."""
    return "".join(f"{line}\n" for line in lines)


# ── the source itself ────────────────────────────────────────────────────────────────────────────────────────────────


def own(uv: Uv, lock: Lock) -> None:
    """Install the packages of the source: the app's own project, members of its workspace, folders it depends on."""
    project = locks.settings(uv.app).get("project")
    if lock.kind == "uv":
        words = [*_sync(uv, lock), "--only-install-local"]
        words += ["--no-install-project"] if project is False else []
        uv.must("`uv sync --locked`", *words, more=sources.version(uv.app))
        return
    _read_pins(uv, lock)
    local = list(lock.pins.local)
    installs = lock.builds if project is None else project
    folders = {requirements.folder_of(path) for path, _ in local}
    if installs and "." not in folders:
        local.append((".", True))
    if project is False:
        local = [(path, editable) for path, editable in local if requirements.folder_of(path) != "."]
    if local:
        words = [*pip_words(uv, "install", "--no-deps"), "-r", "-"]
        said = as_lines([*index_options(uv, lock), *_local_lines(local)])
        more = sources.version(uv.app)
        uv.must("Installing the app's own project", *words, advice=UNBUILDABLE, more=more, said=said)
    if lock.kind == "requirements" and lock.pins.local:
        _check_needs(uv, lock)


UNBUILDABLE = "\nIf the app runs without being installed, set dependencies.project to False."


def _local_lines(local: Iterable[tuple[str, bool]]) -> list[str]:
    """Folders of the source as lines of requirements."""
    return [f"-e {_here(path)}" if editable else _here(path) for path, editable in local]


def _check_needs(uv: Uv, lock: Lock) -> None:
    """Raise Failed if a folder that a file of requirements names needs what neither that nor anything else brings."""
    done = uv.run("pip", "check", "--python", uv.python, network=False)
    known = [*lock.pins.hashed, *lock.pins.git, *uv.read(LOCKED).splitlines(), *uv.read(SERVER).splitlines()]
    others = {locks.plain(requirements.named(line)) for line in known}
    told = re.findall(r"^The package `([^`]+)` requires `([^`]+)`, but (.*)$", done.output, re.MULTILINE)
    lacking = [f"{name} needs {need}, but {why}" for name, need, why in told if locks.plain(name) not in others]
    if lacking:
        raise Failed(
            f"{lock.path} lacks what a folder that it names needs: {listed(lacking)}. Pin that too: `uv pip compile "
            "--generate-hashes` of a file with the same lines; or set dependencies.hashes to False, and the first "
            "build pins it."
        )


def _here(path: str) -> str:
    """A folder of the source as uv takes it: never an option, and no package's name."""
    return path if path.startswith((".", "/")) else f"./{path}"
