"""What the two sides send each other, and what a host stores: JSON objects with a version.

No program parses a sentence: what it decides by is a field here, and sentences are for people. The classes exist for
the type checker alone; at run time the objects are plain dictionaries.

Versions
  PROTOCOL  requests, answers and events between the operator's side and the host. A host refuses a request of another
            version; the operator's side installs its own program there before it asks.
  FORMAT    what a host stores: records, release.json, folders. A newer Slipway takes over an older host (state.py); an
            older Slipway refuses a newer host.
"""

from __future__ import annotations

PROTOCOL = 1
FORMAT = 2
"""1 is what hosts had before formats were written down."""

VERBS = ("release", "rollback")
"""What a run does."""
STATES = ("started", "good", "failed", "killed")
"""States of a release or a rollback. A good release that somebody rolled back from has `bad` in its record."""
MADE_FROM = (
    *("app", "interface", "factory", "source", "python", "python_path", "units", "sandbox", "migration", "static"),
    *("inputs", "programs", "server", "deaths"),
)
"""What a rollback takes from the release's own settings; the rest is what is wanted now."""
SINCE = ("processes", "jobs")
"""The same; a release that was made before there were these has none of them."""

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
        modules: dict[str, list[str]]
        """Interface → modules that its start imports."""
        versions: dict[str, str]
        """Package → versions that fit, such as ``>=23,<28``."""

    class Served(TypedDict):
        """What a release serves, as it was found."""

        app: str
        """``module:attribute``, with parentheses for a factory."""
        interface: Literal["asgi", "wsgi"]
        where: str | None
        """Where it was found; None for what the settings name."""

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

    class Left(TypedDict):
        """Why a good release is bad."""

        since: str
        by: str
        why: str

    class Revisions(TypedDict, total=False):
        """Of the database, as Alembic has them."""

        before: list[str]
        after: list[str]

    class Revision(TypedDict):
        """A revision of a database's schema, as its source tells it."""

        revision: str
        doc: str
        """First line of what it says of itself."""
        contract: list[str]
        """Steps that can break the release that still serves, in words."""
        downgrade: bool
        """Whether it has a downgrade."""

    class Record(TypedDict, total=False):
        """The record of a release or a rollback; it is never deleted with the release."""

        format: int
        id: str
        number: int
        """Counts up: the order of records, independent of the clock."""
        kind: Literal["release", "rollback"]
        app: str
        state: Literal["started", "good", "failed", "killed"]
        started: str
        finished: str
        committed: str
        switched: str
        by: str
        to: str
        """For a rollback: the release that it made serve again."""
        commit: str
        subject: str
        inputs: dict[str, str]
        wanted: Wanted
        environment: str
        """Digest of what its Python environment was made from."""
        manifest: str
        """Digest of its manifest."""
        own: list[str] | None
        """Paths in its environment of its own source; None: not known."""
        steps: dict[str, float]
        """Seconds that each step took."""
        took: float
        step: str
        """The step that failed."""
        error: str
        previous: str | None
        """The release that served before."""
        bad: Left | None
        left: float
        """When it stopped serving, in seconds since 1970."""
        warm_until: float
        stopped_first: str | None
        heads: list[str]
        pending: list[dict[str, Any]]
        revisions: Revisions
        hook: str
        served: Served

    class Request(TypedDict, total=False):
        """What the operator's side sends to start a run."""

        protocol: int
        verb: Literal["release", "rollback"]
        by: str
        """Who asks, as the history shows it."""
        wait: float
        """Seconds to wait for another run to end."""
        wanted: Wanted
        build: dict[str, str]
        """Variables with secrets for the build alone."""
        archive: str
        """Source as a tar.gz in base64, for a local folder."""
        ref: str
        """The branch, tag or commit that the inventory names, for a repository: only how its commit is fetched."""
        contract: bool
        """Consent to migrations that can break the release that still serves."""
        again: bool
        """Release again what was rolled back from."""
        fresh: bool
        """Build all anew, from empty caches."""
        stop_first: bool
        """End all processes of the app first."""
        to: str | None
        schema: Literal["code-only", "downgrade"] | None
        placeholders: dict[str, str]
        """For a plan: an environment without secrets, with which it renders migrations."""
        folder: str
        """The run's own folder, once it is under way."""

    class Run(TypedDict):
        """A run that is under way: the content of its about.json."""

        protocol: int
        verb: str
        inputs: dict[str, str] | None
        to: str | None
        by: str
        since: str

    class RolledBack(TypedDict):
        """A release that somebody rolled back from. No later one made from the same has served since as a good one."""

        id: str
        inputs: dict[str, str] | None
        since: str
        by: str
        why: str

    class Status(TypedDict):
        """What serves, and what is wrong with it."""

        release: str | None
        commit: str | None
        inputs: dict[str, str]
        faults: list[str]
        """Why it doesn't fully serve now, or wouldn't after a reboot."""
        steps: dict[str, float]
        wanted: Wanted | dict[str, Any]
        warm: list[str]
        rolled_back: list[RolledBack]
        run: Run | None
        jobs: dict[str, Went]

    class Went(TypedDict):
        """A job of an app: how it went, and when it starts again."""

        calendar: list[str]
        state: str
        """``running``, ``waiting``, or ``off`` if nothing will start it."""
        since: float | None
        """When it was started that runs now, in seconds since 1970."""
        result: str | None
        """``success``, or systemd's word for how it failed; None if it never ended."""
        exit: str
        """Its exit status, or the signal that ended it."""
        started: float | None
        """When that one was started."""
        took: float | None
        release: str | None
        """The release that it was of."""
        next: str | None
        """When it starts again."""

    class Row(TypedDict):
        """A release or a rollback as a row of the history."""

        id: str
        what: str
        commit: str
        by: str
        when: str
        seconds: float
        steps: dict[str, float]
        outcome: str
        now: str
        """``serves``, ``warm`` or nothing."""
        schema: str
        size_mb: int | None
        log: str | None

    class Planned(TypedDict, total=False):
        """What a release would change. All but the commits comes from code that isn't trusted yet."""

        commits: list[str]
        pending: list[dict[str, Any]]
        heads: list[str]
        unknown: list[str]
        current: list[str]
        error: str | None
        sql_error: str | None
        forked: list[str]
        """Heads that were to be one."""
        merge: str
        """The command that joins them; missing for Alembic's."""

    class Target(TypedDict):
        """What a rollback would let serve, or why there is none."""

        release: str | None
        error: str | None

    class NginxStatus(TypedDict):
        """Our configuration of nginx, and whether the running nginx serves exactly that."""

        generation: str | None
        managed: bool
        live: bool
        since: float | None
        """When the oldest worker that accepts connections started, in seconds since 1970; None without a worker."""
        files: dict[str, str]

    class Lineage(TypedDict):
        """A certificate that certbot has stored."""

        server: str | None
        """URL of the ACME directory that it is from."""
        domains: list[str]
        """Its domains, sorted."""
        valid: bool
        """Whether it can be read, and hasn't expired."""

    class Trouble(TypedDict):
        """Why one answer is missing; the others are given all the same."""

        error: str

    class Question(TypedDict, total=False):
        """The question to `slipway facts`, on its standard input."""

        protocol: int
        apps: list[str]
        targets: dict[str, str | None]
        """App → the release that a rollback was asked to go to, or None."""

    class Facts(TypedDict):
        """Facts about a host, for all apps at once."""

        protocol: int
        slipway: str
        """Version of the host's program."""
        format: int
        """Format of what the host stores."""
        nginx: NginxStatus | Trouble
        apps: dict[str, Status | Trouble]
        certificates: dict[str, Lineage]
        """Those that certbot keeps, by the names under which it does; one that can't be read isn't told."""
        targets: dict[str, Target]


def made_as(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are wanted (`Wanted`), for what was made from others: those of MADE_FROM are its own."""
    kept: dict[str, Any] = {key: made[key] for key in MADE_FROM if key in made}
    kept |= {key: made.get(key, {}) for key in SINCE if key in made or key in wanted}
    return {**wanted, **kept, "readiness": {**wanted["readiness"], **asked_as(made)}}


def asked_as(made: Mapping[str, Any]) -> dict[str, Any]:
    """How a release is asked that was made from these settings (`Wanted`): until Slipway 0.2, always strictly."""
    return {"path": made["readiness"]["path"], "strict": made["readiness"].get("strict", True)}


def held_back(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What release.json, which says `known`, says once what is wanted is held, since somebody rolled back from it.

    Settings that need no release count all the same. What the next release is made from doesn't change.
    """
    objects = ("source", "units", "migration", "inputs", "readiness")
    whole = all(isinstance(known.get(key), dict) for key in objects) and "path" in known["readiness"]
    return made_as(known, wanted) if whole and known["inputs"] != wanted["inputs"] else {**wanted}
