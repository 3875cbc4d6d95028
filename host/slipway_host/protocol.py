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
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    from slipway_host.wanted import Served, Wanted

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
        notes: list[str]
        """What to say of a source that the operator's side doesn't have."""
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
