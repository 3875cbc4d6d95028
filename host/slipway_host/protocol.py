"""What the two sides tell each other, and what a host keeps: JSON objects, each with the version of its form.

Nobody reads a sentence of the other's: what a program decides by has a name here, and sentences are for people. The
classes are for the type checker alone; when a program runs, they are plain dictionaries.

Versions
  PROTOCOL  requests, answers and events, between an operator's side and a host's. A host refuses a request of another
            version, and the operator's side puts its own program there before it asks.
  FORMAT    what a host keeps: records, release.json, folders. A newer Slipway takes an older host over (state.py); an
            older one refuses a newer host.
"""

from __future__ import annotations

PROTOCOL = 1
FORMAT = 2
"""1 is what hosts had before formats were written down."""

VERBS = ("release", "rollback")
"""What a run does."""
STATES = ("started", "good", "failed", "killed")
"""What became of a release or a rollback; of a good release, `bad` tells that somebody went back from it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    class Source(TypedDict, total=False):
        """Where an app's code comes from."""

        kind: Literal["git", "archive"]
        commit: str
        """Commit of a repository, or SHA-256 of an archive; empty where the host is to look a ref up."""
        subdir: str
        """The app's folder below it; empty for the top."""
        url: str
        ssh: str
        """The command by which git connects; empty where it needs none."""

    class Migration(TypedDict):
        """How a database's schema is brought up; times in seconds."""

        command: Literal["auto"] | list[str] | None
        """``auto``: Alembic, where the app has it."""
        timeout: int
        lock_timeout: float
        statement_timeout: float
        retries: int

    class Readiness(TypedDict):
        """How a release is asked whether it is ready."""

        path: str
        timeout: int
        """Seconds until it is."""
        host: str
        """The site's name."""
        scheme: Literal["http", "https"]

    class Build(TypedDict):
        """How an app's dependencies are installed."""

        sandbox: list[str]
        """Lines of the unit."""
        only: list[str] | None
        """Packages that may be built from source; None: all."""

    class Wanted(TypedDict, total=False):
        """What an app is to be: the content of its release.json, and part of each release's record. No secret."""

        format: int
        app: str
        """``module:attribute``."""
        source: Source
        python: str
        uv_env: dict[str, str]
        migration: Migration
        hooks: dict[str, Any]
        """Name → command line, or None; and ``timeout`` in seconds."""
        readiness: Readiness
        units: dict[str, str]
        """Kind → text, where ``@RELEASE@`` stands for the release's id."""
        sandbox: list[str]
        """Lines of the app's units."""
        build: Build
        programs: list[str]
        """What the environment must have in its bin folder, or the release can't start."""
        advice: str
        """What to type in the project where one of them is missing."""
        deaths: str
        """Pattern of the lines that the app's server writes when a worker ends."""
        secrets: list[str]
        """Names of the variables that are secret."""
        static: str | None
        """Folder that nginx serves, below the app's."""
        watch: int
        """Seconds that a release is looked at once it serves."""
        drain_timeout: int
        """Seconds that what a release left behind may take."""
        graceful_timeout: int
        """Seconds that the app's server takes to end."""
        keep_warm: int
        """Seconds that a release runs on when it no longer serves."""
        keep: int
        """How many releases stay."""
        inputs: dict[str, str]
        """What a release is made from: where one differs from those of the release that serves, a new one is due."""

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
        """What it does that a release which still serves may not survive, in words."""
        downgrade: bool
        """Whether it can be taken back."""

    class Record(TypedDict, total=False):
        """What became of a release or a rollback, kept for good."""

        format: int
        id: str
        number: int
        """Counts up: the order in which they were made, whatever the clock said."""
        kind: Literal["release", "rollback"]
        app: str
        state: Literal["started", "good", "failed", "killed"]
        started: str
        finished: str
        committed: str
        switched: str
        by: str
        to: str
        """Of a rollback: the release that it went back to."""
        commit: str
        subject: str
        inputs: dict[str, str]
        wanted: Wanted
        environment: str
        """Digest of what its Python environment was made from."""
        manifest: str
        """Digest of its manifest."""
        steps: dict[str, float]
        """Seconds that each step took."""
        took: float
        step: str
        """That failed."""
        error: str
        previous: str | None
        """What served before it."""
        bad: Left | None
        left: float
        """When it no longer served, in seconds since 1970."""
        warm_until: float
        stopped_first: str | None
        heads: list[str]
        pending: list[dict[str, Any]]
        revisions: Revisions
        hook: str

    class Request(TypedDict, total=False):
        """What a run is asked for."""

        protocol: int
        verb: Literal["release", "rollback"]
        by: str
        """Who asks, as the history names them."""
        wait: float
        """Seconds for another run to end."""
        wanted: Wanted
        build: dict[str, str]
        """Secrets that only the build gets."""
        archive: str
        """Source as a tar.gz in base64, for a local folder."""
        ref: str
        """The branch, tag or commit that the inventory names, for a repository: only how its commit is fetched."""
        contract: bool
        """Consent to migrations that the release which still serves may not survive."""
        again: bool
        """Release again what was rolled back from."""
        fresh: bool
        """Build all anew, from empty caches."""
        stop_first: bool
        """End all processes of the app first."""
        to: str | None
        schema: Literal["code-only", "downgrade"] | None
        placeholders: dict[str, str]
        """Of a plan: the environment that it runs migrations with, where nothing is secret."""
        folder: str
        """Of the run itself, once it is under way."""

    class Run(TypedDict):
        """A run that is under way: the content of its about.json."""

        protocol: int
        verb: str
        inputs: dict[str, str] | None
        to: str | None
        by: str
        since: str

    class RolledBack(TypedDict):
        """A release that somebody went back from."""

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
        """Why it isn't the one that serves, fully, now and after a reboot."""
        steps: dict[str, float]
        wanted: Wanted | dict[str, Any]
        warm: list[str]
        rolled_back: list[RolledBack]
        run: Run | None

    class Row(TypedDict):
        """A release or a rollback, as a list of them shows it."""

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
        """What a release would change; all of it but the commits comes from code that nobody has trusted yet."""

        commits: list[str]
        pending: list[dict[str, Any]]
        heads: list[str]
        unknown: list[str]
        current: list[str]
        error: str | None
        sql_error: str | None

    class Target(TypedDict):
        """What a rollback would let serve, or why there is none."""

        release: str | None
        error: str | None

    class NginxStatus(TypedDict):
        """What nginx's configuration of ours is, and whether the running nginx serves just that."""

        generation: str | None
        managed: bool
        live: bool
        since: float | None
        """When the first of the workers that accept connections now began, in seconds since 1970; None: no worker."""
        files: dict[str, str]

    class Way(TypedDict, total=False):
        """A file of the ways into a host; of one that is to go, the path alone, and None as its content."""

        path: str
        content: str | None
        mode: str
        """Octal, as ``chmod`` takes it."""
        owned: bool
        """Whether it is the account's, not root's."""

    class Ways(TypedDict):
        """A change of the ways into a host."""

        account: str | None
        """The user who is to be there and to log in; None: none of ours."""
        files: list[Way]
        drop_in: str
        """Path of sshd's file of ours."""
        options: list[list[str]]
        """Keyword and value of what sshd is to go by, as ``sshd -T`` prints them."""
        host_keys: dict[str, int]
        """Kind → the bits that it has at least."""
        moduli: str | None
        """Path of the file of the long ones of the package's moduli; None: as it is."""
        ssh: bool
        """Whether sshd is to read its configuration."""
        firewall: Literal["load", "remove"] | None

    class Armed(TypedDict):
        """A change of the ways in was made: it is taken back unless it is confirmed."""

        token: str
        """What confirms it."""
        seconds: int
        """After which it is taken back."""
        said: list[str]
        """What people should know of it: who had sshd's port, say."""

    class Kept(TypedDict):
        """A file as it can be put back."""

        content: str
        """In base64."""
        mode: int
        uid: int
        gid: int

    class Before(TypedDict, total=False):
        """What was there before a change of the ways in that isn't confirmed: the content of pending.json."""

        format: int
        files: dict[str, Kept | None]
        """Path → file; None where there was none."""
        firewall: bool
        """Whether the change is about it."""
        table: str | None
        """Its rules, as nft lists them; None where there were none."""
        ssh: bool
        """Whether sshd is to read its configuration when they are put back."""
        token: str

    class Lineage(TypedDict):
        """A certificate that certbot keeps."""

        server: str | None
        """URL of the ACME directory that it is from."""
        domains: list[str]
        """For which it is, sorted."""
        valid: bool
        """Whether it is one, and hasn't expired."""

    class Trouble(TypedDict):
        """Why something can't be told; what else was asked for is told all the same."""

        error: str

    class Question(TypedDict, total=False):
        """What `facts` is asked on standard input."""

        protocol: int
        apps: list[str]
        targets: dict[str, str | None]
        """App → the release that a rollback was asked to go to, or None."""

    class Facts(TypedDict):
        """What is true of a host, for all apps at once."""

        protocol: int
        slipway: str
        """Version of the host's program."""
        format: int
        """Of what the host keeps."""
        nginx: NginxStatus | Trouble
        apps: dict[str, Status | Trouble]
        certificates: dict[str, Lineage]
        """Those that certbot keeps, by the names under which it does; one that can't be read isn't told."""
        targets: dict[str, Target]
