"""What a host is told of an app, as release.json has it: what a release of it is made from, and how it is released."""

from __future__ import annotations

MADE_FROM = (
    *("app", "interface", "factory", "source", "python", "python_path", "units", "sandbox", "migration", "static"),
    *("inputs", "programs", "server", "deaths"),
)
"""What a rollback takes from the release's own settings; the rest is what is wanted now."""
SINCE = ("processes", "jobs")
"""The same; a release that was made before there were these has none of them."""
TOO_MANY = 429
"""Status of an answer that says no more than that one asks too often."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypedDict

    class Source(TypedDict, total=False):
        """Where an app's code comes from."""

        kind: Literal["git", "archive"]
        commit: str
        """Commit of a repository, or SHA-256 of an archive; empty where the host is to look a ref up."""
        subdir: str
        """The app's folder below it; empty for the top."""
        url: str
        described: str  # by `git describe`, of an archive whose version comes from tags
        ssh: str
        """The command by which git connects; empty where it needs none."""

    class MigrationConfig(TypedDict, total=False):
        """What hosts of earlier versions have no word of."""

        config: str | None
        """Path of the tool's configuration in the app's folder; None: where it is found."""

    class Migration(MigrationConfig):
        """How a database's schema is migrated; times in seconds."""

        command: Literal["auto"] | list[str] | None
        """``auto``: what the source has, such as Alembic."""
        timeout: int
        lock_timeout: float
        statement_timeout: float
        retries: int

    class Readiness(TypedDict, total=False):
        """How a release is asked whether it is ready."""

        path: str
        strict: bool
        """Whether only an answer of 2xx counts, since the settings name the path; otherwise any below 500 does."""
        interval: int
        """Seconds between two questions."""
        timeout: int
        """Seconds until it is."""
        host: str
        """The site's name."""
        scheme: Literal["http", "https"]

    class Build(TypedDict, total=False):
        """How an app's dependencies are installed, and what is made then."""

        sandbox: list[str]
        """Lines of the unit."""
        only: list[str] | None
        """Packages that may be built from source; None: all."""
        commands: list[list[str]]
        """Command lines that follow the dependencies. May be missing: none."""
        first: list[list[str]]
        """Those that come before the app's own project is installed. May be missing: none."""
        env: dict[str, str]
        """Variables without secrets for the build. May be missing: none."""

    class Shared(TypedDict, total=False):
        """Paths in the app's folder of what doesn't come from its source."""

        folders: list[str]
        """Links to folders that outlive releases."""
        files: list[str]
        """Links to files that do."""
        served: list[str]
        """Those of the folders that nginx serves."""
        secrets: list[str]
        """Files that the operator gives."""

    class Named(TypedDict):
        """A process of an app besides the web process."""

        command: list[str]
        """The words of its command line."""
        alive: int
        """Seconds that it must have run before it counts as working."""
        alone: bool
        """Whether that of another release must have ended before it starts."""

    class Job(TypedDict):
        """A program that starts at a time and ends."""

        command: list[str]
        calendar: list[str]
        """When it starts: expressions as systemd.time(7) has them."""
        units: dict[str, str]
        """``service`` and ``timer`` → text, where ``@RELEASE@`` stands for the release's id."""

    class ServerNeeds(TypedDict, total=False):
        """What an app's server needs of a release."""

        name: str
        interfaces: list[str]
        """Those that it serves: ``asgi``, ``wsgi``."""
        others: dict[str, list[str]]
        """Interface → servers that serve it."""
        instead: dict[str, list[str]]
        """Other server → what it needs, those that serve most first. May be missing: none."""
        modules: dict[str, list[str]]
        """Interface → modules that its start imports."""
        versions: dict[str, str]
        """Package → versions that fit, such as ``>=23,<28``."""
        config: str
        """Its configuration in the app's folder. May be missing: none."""

    class Served(TypedDict):
        """What a release serves, as it was found."""

        app: str
        """``module:attribute``, with parentheses for a factory."""
        interface: Literal["asgi", "wsgi"]
        where: str | None
        """Where it was found; None for what the settings name."""
        health: list[str]
        """Usual paths of health checks that it has a route for, the best first."""

    class Wanted(TypedDict, total=False):
        """What an app should be: the content of release.json, and part of each release's record. It has no secret."""

        format: int
        app: str
        """``module:attribute``, for a factory with arguments ``module:attribute(…)``; empty: to be found."""
        interface: Literal["asgi", "wsgi"] | None
        """None: to be found."""
        factory: bool | None
        """Whether `app` makes the application; None: to be found."""
        server: ServerNeeds
        python_path: list[str]
        """Folders below the app's from which its modules are imported, besides that itself."""
        source: Source
        python: str
        uv_env: dict[str, str]
        migration: Migration
        hooks: dict[str, Any]
        """Name → command line, or None; and ``timeout`` in seconds."""
        readiness: Readiness
        units: dict[str, str]
        """Kind → text, where ``@RELEASE@`` stands for the release's id."""
        processes: dict[str, Named]
        """Name → process besides the web process."""
        jobs: dict[str, Job]
        sandbox: list[str]
        """Lines of the app's units."""
        build: Build
        dependencies: dict[str, Any]  # locks.py says which
        programs: list[str]
        """Programs that the environment must have: without one of them the release can't start."""
        deaths: str
        """Pattern of the lines that the app's server writes when a worker ends."""
        secrets: list[str]
        """Names of the variables that are secret."""
        static: str | list[str] | None
        """Folders that nginx serves, below the app's; a release of protocol 1 has one or none."""
        shared: Shared
        """May be missing: nothing."""
        watch: int
        """Seconds to watch a release after it has begun to serve."""
        drain_timeout: int
        """Seconds that requests to the old release may still take."""
        graceful_timeout: int
        """Seconds that the app's server may take to stop."""
        keep_warm: int
        """Seconds that a release keeps running after it has stopped serving."""
        keep: int
        """How many releases to keep."""
        inputs: dict[str, str]
        """What a release is made from. A release is due if one differs from those of the release that serves."""


def made_as(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are wanted (`Wanted`), for what was made from others: those of MADE_FROM are its own."""
    kept: dict[str, Any] = {key: made[key] for key in MADE_FROM if key in made}
    kept |= {key: made.get(key, {}) for key in SINCE if key in made or key in wanted}
    return {**wanted, **kept, "readiness": {**wanted["readiness"], **asked_as(made)}}


def asked_as(made: Mapping[str, Any]) -> dict[str, Any]:
    """How a release is asked that was made from these settings (`Wanted`): until Slipway 0.2, always strictly."""
    return {"path": made["readiness"]["path"], "strict": made["readiness"].get("strict", True)}


def is_good(status: int, *, strict: bool) -> bool:
    """Whether an answer says that the app is ready: 2xx, or if no path is set any answer that is no fault of its own.

    A redirect, a login that is asked for, and a page that isn't there are answers of an app that works. That it has
    been asked too often is an answer on every path: its limit may count the questions of the release before.
    """
    return 200 <= status < (300 if strict else 500) or status == TOO_MANY


def held_back(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What release.json, which says `known`, says once what is wanted is held, since somebody rolled back from it.

    Settings that need no release count all the same. What the next release is made from doesn't change.
    """
    objects = ("source", "units", "migration", "inputs", "readiness")
    whole = all(isinstance(known.get(key), dict) for key in objects) and "path" in known["readiness"]
    return made_as(known, wanted) if whole and known["inputs"] != wanted["inputs"] else {**wanted}
