"""Install the packages of the app's server beside what a lock file names."""

from __future__ import annotations

from slipway_host.release import installing, locks
from slipway_host.system import Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.installing import Uv
    from slipway_host.release.locks import Lock

FREEZE = 'exec "$1" pip freeze --quiet --python "$2" >"$3"'


def install(uv: Uv, lock: Lock) -> None:
    """Install what the lock file lacks of the server's packages and of dependencies.more, by hashes.

    What the lock file has stays as it pins it. An earlier build of the same environment has chosen the versions.

    Raises Failed if the lock file pins what the server can't run with.
    """
    chosen_of = locks.settings(uv.app)
    wanted: list[str] = [*chosen_of.get("server", []), *chosen_of.get("more", [])]
    if not wanted:
        return
    options = installing.index_options(uv, lock)
    looking = installing.pip_words(uv, "install", "--quiet", "--dry-run", "--no-deps", "--no-index", "-r", "-")
    # With nowhere to find a package, only what is installed can meet them.
    nowhere = {"UV_NO_CONFIG": "1", "UV_FIND_LINKS": ""}
    there = uv.run(*looking, said=installing.as_lines(wanted), more=nowhere, network=False)
    if there.code == 0:
        return
    venv = uv.app.at.venv(uv.release)
    frozen, chosen = (str(venv / name) for name in (installing.FROZEN, installing.SERVER))
    if (known := uv.known(installing.SERVER, "environment")) is not None:
        uv.write(installing.SERVER, known)
    else:
        listed = uv.command(["sh", "-c", FREEZE, "sh", str(uv.app.system.layout.uv), uv.python, frozen], network=False)
        if listed.code != 0:
            raise Failed(f"The installed packages can't be listed:\n{tail(listed.output)}")
        # An editable folder of the source constrains nothing, and uv takes none as a constraint.
        pins = "".join(f"{line}\n" for line in uv.read(installing.FROZEN).splitlines() if not line.startswith("-"))
        uv.write(installing.FROZEN, pins)
        names = [line.partition("==")[0].partition(" @ ")[0].strip() for line in pins.splitlines()]
        kept = [f"--no-emit-package={name}" for name in names if name and not name.startswith("-")]
        fitting = [*installing.compile_words(uv, lock), "-c", frozen]
        done = uv.run(*fitting, *kept, "-o", chosen, "-", said=installing.as_lines([*options, *wanted]))
        if done.code != 0:
            raise Failed(
                f"The packages of the app's server ({', '.join(wanted)}) don't fit what the lock file pins, or aren't "
                f"where it lets them be looked for:\n{tail(done.output.strip())}{_instead(uv, fitting, options)}"
            )
        known = uv.read(installing.SERVER)
    words = [
        *installing.pip_words(uv, "install", "--no-deps", "--require-hashes"),
        *installing.only_binary(uv, known.splitlines()),
        "-r",
        "-",
    ]
    uv.must("Installing the app's server", *words, said=installing.as_lines(options) + known)


def _instead(uv: Uv, fitting: list[str], options: list[str]) -> str:
    """What to do about pins that the server doesn't fit: another server that does, if there is one.

    + fitting: uv's words to pin what fits
    + options: of the lock file, as lines
    """
    others: dict[str, list[str]] = uv.app.wanted.get("server", {}).get("instead", {})
    for name, packages in others.items():
        if uv.run(*fitting, "-", said=installing.as_lines([*options, *packages])).code == 0:
            return f'\nSet server to "{name}", which fits; or let the lock file have newer versions of these packages.'
    return "\nLet the lock file have newer versions of these packages."
