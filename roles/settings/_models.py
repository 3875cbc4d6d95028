"""The settings themselves: what may be set, its type, default and meaning, and everything that follows from it.

The documentation of a field and its type make the manual: `python -m roles.settings` writes ``inventories/example.py``
from them.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag

from roles.settings import _environment
from roles.settings import _types as t
from roles.settings._access import FirewallSettings, OperatorSettings, SshSettings
from roles.settings._system import SystemSettings, UpdatesSettings

UPLOADS = 40 * 2**20
"""Bytes of large uploads that one client may have nginx keep at once, unless two of them come to more."""

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""ACME directory of Let's Encrypt, whose certificates browsers trust."""

LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""ACME directory of Let's Encrypt's staging server: no useful limits, and nobody trusts its certificates."""

_LIST_DO = 'write a list in square brackets, such as ["a", "b"]'


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class GitSource(_Model):
    """A git repository at a ref; the host fetches it."""

    git: Annotated[t.GitUrl, Field(examples=["https://git.example.com/team/notes.git"])]
    """Repository to fetch: an https, ssh or file URL, or git@host:path. A file URL is on the host, in a repository
    that root owns."""
    ref: t.GitRef = "main"
    """Branch, tag or commit to release. A branch releases what it points to at the time of the run."""
    subdir: t.Subdir = ""
    """Folder of the app inside the repository (monorepo, or a member of a uv workspace); empty is the root."""
    deploy_key: t.LocalPath | None = None
    """Private SSH key file, beside the inventory, that may read the repository. Needs an SSH address in git; no
    passphrase, and no one but you may read the file (chmod 600)."""
    known_hosts: t.LocalPath | None = None
    """known_hosts file with the git server's key (ssh-keyscan, then compare); without it, the first key seen is
    trusted and kept."""

    @property
    def uses_ssh(self) -> bool:
        """Whether the repository is reached over SSH, so that keys and known hosts matter."""
        return not self.git.startswith(("https://", "file://"))


class FolderSource(_Model):
    """A folder on the operator's machine; it is uploaded."""

    path: Annotated[t.LocalPath, Field(examples=["../examples/notes"])]
    """Local folder to release, relative to the inventory: the project, or the root of a monorepo or workspace."""
    subdir: t.Subdir = ""
    """Folder of the app inside it (monorepo, or a member of a uv workspace); empty is the root."""


class TlsSettings(_Model):
    """Where an app's certificate comes from."""

    mode: Annotated[Literal["acme", "self-signed", "files", "off"], t.one_of("acme", "self-signed", "files", "off")] = (
        "acme"
    )
    """Where the certificate comes from. acme: from the CA in acme below, by HTTP-01, renewed by a timer. self-signed:
    made on the host, for tests. files: your own, from certificate and key. off: plain HTTP on port 80. Nothing falls
    back to another mode."""
    certificate: t.LocalPath | None = None
    """PEM file with the full chain, the app's certificate first, relative to the inventory (mode "files")."""
    key: t.LocalPath | None = None
    """PEM file with the private key, relative to the inventory (mode "files"); without passphrase, chmod 600."""


class StaticSettings(_Model):
    """A folder that nginx serves itself."""

    path: Annotated[t.InnerPath, Field(examples=["static"])]
    """Folder with the static files, inside the app's folder. nginx follows no link on the way or in it, and gives away
    no file or folder whose name begins with a dot, but for .well-known."""
    url: t.UrlPrefix = "/static/"
    """URL prefix nginx answers from that folder."""
    max_age: Annotated[int, t.whole(0, 31_536_000, "seconds")] = 3600
    """Seconds a browser may keep a file without asking again (Cache-Control: max-age); 31536000, a year, is the most
    that makes sense, for names that contain a hash."""


HookName = Literal["before_migrate", "after_migrate", "after_switch", "on_failure"]
"""A moment of a release at which a command of the app's own may run."""


HOOKS: tuple[HookName, ...] = get_args(HookName)
"""Those moments, in their order."""


class HooksSettings(_Model):
    """Commands of the app's own at four moments of a release."""

    before_migrate: t.HookCommand | None = None
    """Command before the migration, as soon as the new release is built and checked. If it fails, the release fails
    and the old one keeps serving. None: nothing."""
    after_migrate: t.HookCommand | None = None
    """Command after the migration (also when there was none to run), before the new release is started. If it fails,
    the release fails and the old one keeps serving; what the migration did stays."""
    after_switch: t.HookCommand | None = None
    """Command once the new release serves. If it fails, that release goes on serving, and the run fails."""
    on_failure: t.HookCommand | None = None
    """Command when a release failed; it gets the name of the step that did as SLIPWAY_STEP. Its own failure is shown
    and changes nothing."""
    timeout: t.Seconds = 60
    """Seconds each of these commands may take; then it is stopped, and counts as failed."""

    def argv(self, name: HookName) -> list[str] | None:
        """The words of the command for one moment; None where there is none."""
        command: str | None = getattr(self, name)
        return None if command is None else shlex.split(command)


class HeadersSettings(_Model):
    """Headers that nginx adds to every answer of an app's site, static files and error pages included.

    A header that the app itself sends is left as the app sent it. None: nginx adds none of that name.
    """

    strict_transport_security: t.Hsts | None = "max-age=63072000"
    """How long (in seconds: two years, as Mozilla and OWASP advise) browsers come by HTTPS alone. Append
    "; includeSubDomains" when every name below these domains has HTTPS, and "; preload" to be put on browsers' own
    lists (hstspreload.org), which is hard to undo. "max-age=0" makes browsers forget it; with None they remember what
    they were told. Never sent without TLS or with a self-signed certificate."""
    content_security_policy: t.HeaderValue | None = "base-uri 'self'; frame-ancestors 'none'; object-src 'none'"
    """What a page may load, and who may frame it. The default stops frames and plug-ins, and no script: which of
    these a page needs only its app knows, so the policy that stops injected ones is best sent by the app (see
    examples/notes), or set here. Left out, too, where the app sends X-Frame-Options, which it would overrule."""
    content_security_policy_report_only: t.HeaderValue | None = None
    """A policy to try out: browsers report (by its report-uri, and in their console) what it would stop, and stop
    nothing."""
    x_frame_options: t.HeaderValue | None = "DENY"
    """Who may frame a page, for browsers that don't know frame-ancestors: "DENY" or "SAMEORIGIN"."""
    x_content_type_options: t.HeaderValue | None = "nosniff"
    """Browsers take a file for what its Content-Type says."""
    referrer_policy: t.HeaderValue | None = "strict-origin-when-cross-origin"
    """What other sites learn of the page that a visitor comes from: its origin, and nothing without TLS. "no-referrer"
    tells less, and makes the Origin of a form "null", which protections against CSRF refuse."""
    x_permitted_cross_domain_policies: t.HeaderValue | None = "none"
    """No policy files for documents of Adobe's programs."""
    permissions_policy: t.HeaderValue | None = None
    """Features of the browser that pages may use, such as "camera=(), geolocation=(), microphone=()"."""
    cross_origin_opener_policy: t.HeaderValue | None = None
    """"same-origin" cuts a page off from windows of other origins, and so breaks logins in a pop-up."""
    cross_origin_resource_policy: t.HeaderValue | None = None
    """"same-origin" keeps other sites from showing this one's images and files."""


class RateLimit(_Model):
    """How many requests one client may make."""

    rate: Annotated[t.Rate, Field(examples=["10r/m"])]
    """Requests a second (r/s) or a minute (r/m) of one address, or of the /64 network of one of IPv6."""
    burst: Annotated[int, t.whole(0, 10_000, "requests")] = 10
    """Requests that may come at once beyond that; what exceeds them gets 429."""


class SandboxSettings(_Model):
    """What systemd shuts an app off from, besides what every app is shut off from.

    Migrations, hooks and the check of a release run in the same sandbox.
    """

    network: Annotated[Literal["internet", "unix"], t.one_of("internet", "unix")] = "internet"
    """What the app may talk to. internet: any address. unix: Unix sockets alone, such as PostgreSQL's and Redis's on
    this host (postgresql:///notes?host=/run/postgresql); neither the Internet nor 127.0.0.1, so nothing that gets hold
    of the app can call home."""
    memory_deny_write_execute: t.Switch = True
    """No memory is both written and run as code. False for packages that make machine code as they run (numba, JAX,
    callbacks of cffi); what an attacker smuggles into memory can then be run."""
    hide_system: t.Switch = True
    """/proc has the app's own processes and nothing else (ProcSubset=pid). False for packages that read the machine's
    load or memory there (psutil, monitoring agents); the app then sees the kernel's settings and statistics."""
    filter_system_calls: t.Switch = True
    """Only the system calls that a service needs (@system-service of systemd, without those that set priorities or
    need privileges, chown among them). False for packages that call others and get "Operation not permitted"; the
    whole kernel is then open to what gets hold of the app."""


class LimitsSettings(_Model):
    """What an app may take of the host: its releases, migrations and hooks, all together. Builds have limits of their
    own: three quarters of the memory, and a tenth of the processors where others want them."""

    memory_mb: Annotated[int, t.whole(64, 10_000_000, "MB")] | None = None
    """MB of memory; beyond it a process of the app is ended, and none of another's. While a release takes over from
    another, both have to fit. None: 160 % of the host's, divided by one more than it has apps: of one app 80 %, of two
    53 % each, of three 40 %."""
    tasks: Annotated[int, t.whole(32, 1_000_000, "processes and threads")] = 1024
    """Processes and threads."""
    cpu_weight: Annotated[int, t.whole(1, 10_000, "parts")] = 100
    """Share of the processors where several apps want them, against the weights of the others; all apps together have
    as much as nginx, sshd and the other services. Otherwise any app may have all."""
    shm_mb: Annotated[int, t.whole(1, 1_000_000, "MB")] = 64
    """MB that each process of the app may put in /dev/shm, which nobody else sees (64 as Docker's default)."""
    tmp_mb: Annotated[int, t.whole(1, 1_000_000, "MB")] | None = None
    """MB that a release may put in /tmp, and as much again in /var/tmp: in memory, and gone when it ends. Large uploads
    wait there: for more than fits, let the app set TMPDIR to a folder of its /var/lib/<app>. None: a quarter of the
    host's memory."""
    log_mb: Annotated[int, t.whole(8, 1_000_000, "MB")] = 100
    """MB of the app's own journal (`journalctl --namespace=<app>`): the oldest entries make room, and nobody else's."""


class ProbeSettings(_Model):
    """What `--data prove=true` sends to the app's public address while a release goes out."""

    short: Annotated[
        list[t.UrlTarget], t.Narrow("a list of paths, each with or without a query", _LIST_DO, container=True)
    ] = []
    """Paths of quick GET requests, in turn. Empty: the liveness_path alone."""
    slow: t.UrlTarget | None = None
    """Path of a GET request that takes a while, longer than a switch does but less than drain_timeout; None: none is
    sent."""
    upload: t.UrlTarget | None = None
    """Path that takes a POST request with a body, which is sent slowly; it must answer 2xx and keep nothing. None: no
    upload."""
    websocket: t.UrlTarget | None = None
    """Path of a WebSocket that answers every text message with one; None: none is opened."""
    stream: t.UrlTarget | None = None
    """Path of an endless answer, such as server-sent events; None: none is read."""
    connections: Annotated[int, t.whole(2, 500, "connections")] = 10
    """Connections that quick requests go over at the same time."""
    rate: Annotated[int, t.whole(1, 1000, "requests a second")] = 50
    """Quick requests a second, all connections together."""


def _source_kind(value: Any) -> str | None:
    if isinstance(value, GitSource | FolderSource):
        return "git" if isinstance(value, GitSource) else "path"
    if not isinstance(value, dict):
        return None
    kinds = [kind for kind in ("git", "path") if kind in value]
    return kinds[0] if len(kinds) == 1 else None


SOURCE = t.Narrow(
    'either {"git": address, "ref": …} or {"path": local folder}',
    'write one of both, such as {"git": "https://git.example.com/team/notes.git", "ref": "main"}',
    container=True,
)
_Source = Annotated[
    Annotated[GitSource, Tag("git")] | Annotated[FolderSource, Tag("path")],
    Discriminator(
        _source_kind,
        custom_error_type="setting",
        custom_error_message="{expected}",
        custom_error_context={"expected": SOURCE.expected, "do": SOURCE.do, "secret": False},
    ),
]


def _check_domain_count(value: list[str]) -> str | bool:
    if len(value) > 100:
        return f"remove {len(value) - 100} of the {len(value)} names, or make a second app of them"
    return len(value) > 0


class Unit(NamedTuple):
    """Names of the systemd units of one release."""

    service: str
    """Gunicorn with the release's workers."""
    socket: str
    """The socket it inherits; it stays while the service restarts."""


class AppSettings(_Model):
    """One app: where it comes from, how it runs, what nginx does for it."""

    domains: Annotated[
        list[t.Domain],
        t.Narrow(
            "a list of 1 to 100 host names",
            'write a list, such as ["notes.example.com"]',
            _check_domain_count,
            container=True,
        ),
        Field(examples=[["notes.example.com", "www.notes.example.com"]]),
    ]
    """Names the app answers to; all must point to the host. The certificate covers them all; at most 100, which is
    Let's Encrypt's limit for one certificate."""
    source: Annotated[_Source, SOURCE]
    """The code: a git repository, or a folder on this machine. It needs a pyproject.toml and a uv.lock (in a uv
    workspace, the lock file at its root)."""
    app: Annotated[t.AsgiApp, Field(examples=["notes.main:app"])]
    """ASGI application as module:attribute."""
    python: t.PythonVersion | None = None
    """Python version of this app; None: the host's python.version."""

    env: Annotated[
        dict[t.Variable, t.VariableValue],
        t.mapping_of(
            "variable names to text, numbers, True or False", 'write a mapping, such as {"LOG_LEVEL": "info"}'
        ),
        Field(repr=False),
    ] = {}
    """Environment variables that are no secrets. Values reach the app exactly as written ($, %, quotes and all); True
    becomes "true". A variable stands either here or in env_file, not in both."""
    env_file: t.LocalPath | None = None
    """.env file beside the inventory with the app's secrets: NAME=value lines, UTF-8, chmod 600, kept out of git. $ is
    a dollar sign, nothing is interpolated; see example.env."""
    required_env: Annotated[list[t.VariableRef], t.Narrow("a list of variable names", _LIST_DO, container=True)] = []
    """Variables without which the app can't run: a run refuses to start when one is missing or empty."""
    build_env: Annotated[list[t.VariableRef], t.Narrow("a list of variable names", _LIST_DO, container=True)] = []
    """Names from env_file that `uv sync` gets too (credentials of a private index, such as
    UV_INDEX_INTERNAL_PASSWORD)."""
    build_only: (
        Annotated[list[t.PackageName], t.Narrow("a list of packages' names", _LIST_DO, container=True)] | None
    ) = None
    """The only packages of the lock file that may be built on the host from their sources, which runs their code and
    that of their build requirements; those come from the index by name, and no lock file pins them. []: none, so that
    all must come as wheels. None: any."""
    database_driver: Annotated[Literal["asyncpg", "psycopg"], t.one_of("asyncpg", "psycopg")] | None = None
    """For SQLAlchemy's async engine: the app gets DATABASE_URL as postgresql+asyncpg:// or postgresql+psycopg://,
    whether the .env says postgres:// or postgresql:// (and sslmode= as ssl= for asyncpg); the original, for
    synchronous tools, is DATABASE_URL_SYNC. None: DATABASE_URL stays as it is."""

    port: t.Port | None = None
    """Port on 127.0.0.1 where nginx offers the app without TLS to the host itself; the app gets it as PORT. None: no
    such port; sockets and 443 are enough for most."""
    workers: t.Workers | None = None
    """Worker processes; the app gets the number as WEB_CONCURRENCY. None: from the host's cores and memory."""
    timeout: t.Seconds = 30
    """Seconds without a sign of life after which Gunicorn kills a worker. An async worker gives signs while it waits,
    so this ends blocked event loops, not long requests (30 is Gunicorn's default)."""
    graceful_timeout: t.Seconds = 30
    """Seconds a worker may take to finish its requests when a release or restart stops it (30 is Gunicorn's
    default); systemd waits longer than that."""
    keep_alive: t.Seconds = 75
    """Seconds the app keeps an idle connection from nginx open: more than the 60 that nginx does by default, so that
    nginx closes first and no request meets a closing connection."""
    max_requests: Annotated[int, t.whole(0, 1_000_000, "requests")] = 0
    """Requests after which a worker is replaced, against leaks of memory; 0: never (Gunicorn's default)."""
    max_requests_jitter: Annotated[int, t.whole(0, 1_000_000, "requests")] = 0
    """Up to so many requests more for each worker, at random, so that they aren't all replaced at once. Needs
    max_requests."""
    limit_nofile: Annotated[int, t.whole(1024, 1_048_576, "descriptors")] = 65536
    """Files and sockets a process may have open; every client's connection takes one. systemd's own default of 1024 is
    soon used up by WebSockets; 1048576 is the kernel's limit (fs.nr_open)."""
    umask: t.Umask = "0027"
    """Mask of the files the app makes: 0027 lets its group read them and others nothing."""
    sandbox: Annotated[
        SandboxSettings, t.mapping_of("options of the sandbox", 'write a mapping, such as {"network": "unix"}')
    ] = SandboxSettings()
    """What the app is shut off from. It always runs without privileges, can write to its home and /tmp alone, and sees
    neither devices nor other users' processes; `systemd-analyze security` tells the rest."""

    limits: Annotated[LimitsSettings, t.mapping_of("limits", 'write a mapping, such as {"memory_mb": 700}')] = (
        LimitsSettings()
    )
    """What the app may take of the host, so that it can't starve another."""

    migrate: t.Command | None = "auto"
    """"auto": `alembic upgrade head` where the app's folder has Alembic's configuration; None: never; otherwise the
    command. It runs once a release, in the app's folder, as the app's user, with its environment and the release's
    bin folder first in PATH, before any traffic; if it fails, the old release keeps serving."""
    migrate_timeout: Annotated[int, t.whole(1, 86_400, "seconds")] = 600
    """Seconds a migration may take (at most a day); after that it is stopped and the release fails."""
    migrate_lock_timeout: Annotated[int, t.whole(1, 600, "seconds")] = 5
    """Seconds a migration waits for a lock of the database (PostgreSQL's lock_timeout) before it gives up and is tried
    again: while it waits, every later query for the same table waits behind it, those of the serving release too."""
    migrate_statement_timeout: Annotated[int, t.whole(1, 86_400, "seconds")] | None = None
    """Longest time in seconds that one statement of a migration may take (PostgreSQL's statement_timeout); more than
    migrate_lock_timeout, because waiting for a lock counts, and at most migrate_timeout. None: migrate_timeout."""
    migrate_retries: Annotated[int, t.whole(0, 100, "retries")] = 5
    """How often a migration that met a lock is tried again before the release fails; 0: never. migrate_timeout is for
    all tries together."""
    liveness_path: t.UrlPath = "/healthz"
    """Path that answers 200 as long as the process lives, without asking the database."""
    readiness_path: t.UrlPath = "/readyz"
    """Path that answers 200 when the app can serve. A release goes live only after it did, over its own socket."""
    readiness_timeout: t.Seconds = 60
    """Seconds a new release has until its readiness path answers; then the run fails and the old one keeps serving."""
    watch: Annotated[int, t.whole(0, 600, "seconds")] = 3
    """Seconds a release is watched after the switch: if its readiness path stops answering 200 meanwhile, the release
    before it serves again and the run fails. 0: not at all; nor is the first, which has none before it."""
    drain_timeout: Annotated[int, t.whole(0, 3600, "seconds")] = 30
    """Seconds that requests, WebSockets and streams of the old release get to end by themselves after a switch; then
    it is told to stop (WebSockets get a clean close), and graceful_timeout counts. 0: it is told at once."""
    keep_warm: Annotated[int, t.whole(0, 86_400, "seconds")] = 300
    """Seconds the old release's processes stay after a switch, so that going back takes a second; they need the memory
    of both releases. 0: they stop as soon as they are drained. Less than drain_timeout never cuts that short."""
    keep_releases: Annotated[int, t.whole(2, 100, "releases")] = 5
    """Releases kept on the host, the serving one included: those one can go back to. At least 2; each is a folder with
    an environment of its own, some 100 MB."""
    lock_wait: Annotated[int, t.whole(0, 3600, "seconds")] = 60
    """Seconds a release waits for another release of the same app to end, such as one from a colleague's machine; then
    the run fails. 0: it fails at once."""
    hooks: Annotated[
        HooksSettings, t.mapping_of("hooks", 'write a mapping, such as {"after_switch": "bin/after-switch"}')
    ] = HooksSettings()
    """Commands of the app's own during a release. They run on the host as the app's user, in the app's folder, with the
    release's environment and its bin folder first in PATH, without a shell."""
    probe: Annotated[
        ProbeSettings, t.mapping_of("options of the probe", 'write a mapping, such as {"short": ["/healthz"]}')
    ] = ProbeSettings()
    """What `--data prove=true` sends to the app while a release goes out; the run fails if one request is lost."""

    static: (
        Annotated[
            StaticSettings, t.mapping_of("options of static files", 'write a mapping, such as {"path": "static"}')
        ]
        | None
    ) = None
    """Folder of static files that nginx serves without asking the app; None: there is none."""
    max_body_size: t.BodySize = "10m"
    """Largest request body, such as an upload; beyond it nginx answers 413. 0: no limit (nginx's own default is 1m)."""
    proxy_timeout: t.Seconds = 60
    """Seconds nginx waits for the next bytes from the app (60 is nginx's default). Streams and WebSockets need a sign
    of life within that time."""
    trusted_proxies: Annotated[list[t.Network], t.Narrow("a list of networks", _LIST_DO, container=True)] = []
    """CIDRs of proxies in front (a CDN) whose real_ip_header is believed. Empty: the client is whoever connects."""
    real_ip_header: t.HeaderName = "X-Forwarded-For"
    """Header in which trusted_proxies give the client's address."""
    headers: Annotated[
        HeadersSettings,
        t.mapping_of("headers", 'write a mapping, such as {"x_frame_options": "SAMEORIGIN"}'),
    ] = HeadersSettings()
    """Headers that nginx adds to every answer. A location of your own with an add_header (nginx_extra) has none of
    them, unless it includes /etc/nginx/slipway/headers/<app>.conf."""
    rate_limits: Annotated[
        dict[t.UrlPath, RateLimit],
        t.mapping_of("paths to limits", 'write a mapping, such as {"/login": {"rate": "10r/m", "burst": 5}}'),
    ] = {}
    """Beginning of a path → how often one address may ask for what is below it, such as {"/login": {"rate": "10r/m",
    "burst": 5}, "/api/": {"rate": "20r/s", "burst": 40}}; of several that fit, each counts. Empty: no limit, because
    what is too much only the app knows, and an office shares one address."""
    connections_per_client: Annotated[int, t.whole(1, 65_535, "connections")] | None = 500
    """Requests under way that one address, or the /64 network of one of IPv6, may have, each stream of HTTP/2 and each
    WebSocket counting; beyond it nginx answers 429. 500 is an office behind one address, most of it with a WebSocket
    open; it comes to 64 MB of nginx's memory, since of static files that are compressed one may have 96. None: no
    limit but that. Behind a proxy set trusted_proxies, or all of its visitors count as one."""
    uploads_per_client: Annotated[int, t.whole(1, 65_535, "uploads")] | None = None
    """Large uploads under way that one address or /64 may have on this host: bodies of 5 MB or more, or of no announced
    length. Beyond it nginx answers 429. nginx keeps a body in a file until it is whole, so what one client can fill is
    max_body_size times that. Of bodies of 1 MB or more it may have 6 under way, of 10 kB or more 16, unless this is
    more. None: what makes 40 MB, and 2 at least: 4 with a max_body_size of 10m, and with the smaller ones 62 MB."""
    maintenance: t.Switch = False
    """True: nginx answers 503 with a page (or JSON, for those who ask for JSON) instead of the app, which runs on and
    can be released. By port, the host and tunnels to it reach the app."""
    compress: t.Switch = False
    """True: nginx compresses what the app answers; static files it compresses in any case. From the size of a page that
    shows both a secret and a part of the request, others could guess the secret (BREACH, CVE-2013-3587): for an API
    whose answers are long and hold no such pages. Each that is read slowly holds 300 kB of memory."""
    tls: Annotated[TlsSettings, t.mapping_of("options of TLS", 'write a mapping, such as {"mode": "acme"}')] = (
        TlsSettings()
    )
    """Where the app's certificate comes from."""
    nginx_extra: t.LocalPath | None = None
    """File beside the inventory with nginx directives for this app's server block. nginx checks it with everything
    else before it is used; it can undo anything this project sets."""

    _name: str = PrivateAttr("")
    _environment: dict[str, str] = PrivateAttr(default_factory=dict)
    _host_python: str = PrivateAttr("3.13")
    _folder: Path = PrivateAttr(default_factory=Path)

    # On the host. Users, units and folders carry the app's name; each path is spelled here and nowhere else.

    @property
    def name(self) -> str:
        """The app's name: its key in ``apps``."""
        return self._name

    @property
    def main_domain(self) -> str:
        """The domain that the host itself asks for: the first; a wildcard's ``*`` stands for www."""
        return self.domains[0].replace("*", "www")

    @property
    def public_url(self) -> str:
        """Where the app is reached from outside, without a slash at the end; http:// with tls mode "off"."""
        return f"{'http' if self.tls.mode == 'off' else 'https'}://{self.main_domain}"

    @property
    def user(self) -> str:
        """System user that the app runs as; it can't log in."""
        return self._name

    @property
    def builder(self) -> str:
        """System user that builds the app's releases. No app's name begins with an underscore."""
        return f"_{self._name}"

    @property
    def cache(self) -> str:
        """Folder of what builds of the app keep for later ones, the builder's home among it."""
        return f"/var/cache/slipway/{self._name}"

    @property
    def builder_home(self) -> str:
        """The builder's home."""
        return f"{self.cache}/home"

    @property
    def slice(self) -> str:
        """systemd's slice of all that runs for the app. A hyphen would make it a part of another's."""
        return f"app-{self._name.replace('-', '_')}.slice"

    @property
    def group(self) -> str:
        """The user's own group."""
        return self._name

    @property
    def home(self) -> str:
        """Home and StateDirectory: the only place where the app can write, /tmp excepted."""
        return f"/var/lib/{self._name}"

    @property
    def config_dir(self) -> str:
        """Folder of the app's configuration, 0750 root:<app>."""
        return f"/etc/{self._name}"

    @property
    def env_path(self) -> str:
        """Environment file of the service, 0640 root:<app>."""
        return f"{self.config_dir}/env"

    @property
    def release_config_path(self) -> str:
        """What the host's release program is told about the app."""
        return f"{self.config_dir}/release.json"

    @property
    def deploy_key_path(self) -> str:
        """The deploy key on the host."""
        return f"{self.config_dir}/deploy_key"

    @property
    def known_hosts_path(self) -> str:
        """known_hosts file for the app's repository on the host."""
        return f"{self.config_dir}/known_hosts"

    @property
    def root(self) -> str:
        """Folder of the app's code, root's."""
        return f"/srv/{self._name}"

    @property
    def releases_dir(self) -> str:
        """Folder with one folder a release."""
        return f"{self.root}/releases"

    @property
    def current_link(self) -> str:
        """Link to the release that serves."""
        return f"{self.root}/current"

    @property
    def run_dir(self) -> str:
        """Folder of the releases' sockets."""
        return f"/run/{self._name}"

    def socket_path(self, release_id: str) -> str:
        """Unix socket of one release."""
        return f"{self.run_dir}/{release_id}.sock"

    def unit(self, release_id: str) -> Unit:
        """Names of the units of one release; with an empty id, those of the template units."""
        return Unit(f"{self._name}@{release_id}.service", f"{self._name}@{release_id}.socket")

    @property
    def upstream_path(self) -> str:
        """nginx's upstream of the app: which socket gets the requests."""
        return f"/etc/nginx/upstreams/{self._name}.conf"

    @property
    def certificate_path(self) -> str | None:
        """Certificate chain on the host; None without TLS."""
        return self._tls_path("fullchain.pem")

    @property
    def key_path(self) -> str | None:
        """Private key of the certificate on the host; None without TLS."""
        return self._tls_path("privkey.pem")

    def _tls_path(self, name: str) -> str | None:
        if self.tls.mode == "off":
            return None
        folder = "/etc/letsencrypt/live" if self.tls.mode == "acme" else "/etc/slipway/tls"
        return f"{folder}/{self._name}/{name}"

    @property
    def python_version(self) -> str:
        """The app's own Python version, or the host's."""
        return self.python or self._host_python

    @property
    def migrate_command(self) -> list[str] | None:
        """The words of a migration command of the user's own; None for "auto" and for none."""
        return None if self.migrate in (None, "auto") else shlex.split(self.migrate or "")

    @property
    def statement_timeout(self) -> int:
        """Seconds one statement of a migration may take: ``migrate_statement_timeout``, or ``migrate_timeout``."""
        return self.migrate_timeout if self.migrate_statement_timeout is None else self.migrate_statement_timeout

    @property
    def answer_headers(self) -> dict[str, str]:
        """Name → value of the headers that nginx adds to every answer."""
        found = {field.replace("_", "-").title(): value for field, value in self.headers}
        if self.tls.mode in ("off", "self-signed"):
            del found["Strict-Transport-Security"]
        return {name: value for name, value in found.items() if value is not None}

    @property
    def bodies_per_client(self) -> dict[str, int]:
        """Least size of a body, as nginx.conf.j2 names it → how many of it one client may have under way."""
        number, unit = self.max_body_size.rstrip("kmg"), self.max_body_size[-1]
        size = int(number) * {"k": 2**10, "m": 2**20, "g": 2**30}.get(unit, 1)
        fitting = min(UPLOADS // size, 65_535) if size else 0  # the most that nginx takes
        large = self.uploads_per_client or max(fitting, 2)
        return {"5m": large, "1m": max(large, 6), "10k": max(large, 16)}

    @property
    def probe_paths(self) -> list[str]:
        """Paths of the probe's quick requests: its ``short``, or the liveness path."""
        return list(self.probe.short) or [self.liveness_path]

    # Environment.

    @property
    def environment(self) -> dict[str, str]:
        """``env`` and ``env_file`` in one, with DATABASE_URL rewritten for ``database_driver``.

        Without what only the host or a release knows: WEB_CONCURRENCY, PORT, RELEASE_ID, HOME and STATE_DIRECTORY.
        """
        merged = {name: _environment.plain_text(value) for name, value in self.env.items()} | self._environment
        if self.database_driver is not None and "DATABASE_URL" in merged:
            merged |= _environment.database_urls(merged["DATABASE_URL"], self.database_driver)
        return merged

    @property
    def build_environment(self) -> dict[str, str]:
        """The variables of ``build_env`` with their values."""
        return {name: self._environment[name] for name in self.build_env if name in self._environment}

    @property
    def secret_names(self) -> frozenset[str]:
        """Variables whose values no output may show: those of ``env_file``, and DATABASE_URL in both forms."""
        return frozenset({*self._environment, "DATABASE_URL", "DATABASE_URL_SYNC"} & self.environment.keys())

    @property
    def secret_values(self) -> frozenset[str]:
        """Their values, and those that ``env_file`` has of them."""
        return frozenset({*self._environment.values(), *map(self.environment.__getitem__, self.secret_names)} - {""})

    # On the operator's machine; a relative path of the inventory is relative to its folder.

    def _local(self, name: str | None) -> Path | None:
        return None if name is None else (self._folder / Path(name).expanduser()).resolve()

    @property
    def source_dir(self) -> Path | None:
        """Local folder to upload; None for a git source."""
        return self._local(self.source.path) if isinstance(self.source, FolderSource) else None

    @property
    def app_dir(self) -> Path | None:
        """Local folder of the app itself: ``source_dir`` with ``subdir``; None for a git source."""
        return None if self.source_dir is None else self.source_dir / self.source.subdir

    @property
    def lock_dir(self) -> Path | None:
        """Local folder of the uv.lock that covers the app: its own, or the workspace's root above it."""
        if self.source_dir is None or self.app_dir is None:
            return None
        above = [self.app_dir, *self.app_dir.parents]
        within = above[: above.index(self.source_dir) + 1] if self.source_dir in above else above[:1]
        return next((folder for folder in within if (folder / "uv.lock").is_file()), None)

    @property
    def env_local(self) -> Path | None:
        """Local .env file."""
        return self._local(self.env_file)

    @property
    def deploy_key_local(self) -> Path | None:
        """Local deploy key."""
        return self._local(self.source.deploy_key) if isinstance(self.source, GitSource) else None

    @property
    def known_hosts_local(self) -> Path | None:
        """Local known_hosts file for the repository."""
        return self._local(self.source.known_hosts) if isinstance(self.source, GitSource) else None

    @property
    def certificate_local(self) -> Path | None:
        """Local certificate chain (mode "files")."""
        return self._local(self.tls.certificate)

    @property
    def key_local(self) -> Path | None:
        """Local private key (mode "files")."""
        return self._local(self.tls.key)

    @property
    def nginx_extra_local(self) -> Path | None:
        """Local file with nginx directives for the server block."""
        return self._local(self.nginx_extra)


class UvSettings(_Model):
    """The release of uv that the host gets."""

    version: t.UvVersion = "0.13.8"
    """Release of uv. Another one than the default needs its SHA-256 below."""
    sha256: Annotated[
        dict[t.Architecture, t.Sha256],
        t.mapping_of("x86_64 and aarch64 to SHA-256", 'write a mapping, such as {"x86_64": "64 hexadecimal digits"}'),
    ] = {}
    """Architecture (x86_64, aarch64) → SHA-256 of uv's wheel, as PyPI shows it. Empty: those of the default release,
    which this project knows."""


class PythonSettings(_Model):
    """Where Python, uv and packages come from."""

    version: t.PythonVersion = "3.13"
    """Python of the apps that name none. Without a patch number, the newest uv knows when it is first installed."""
    uv: Annotated[UvSettings, t.mapping_of("options of uv", 'write a mapping, such as {"version": "0.13.8"}')] = (
        UvSettings()
    )
    """The tool that installs Pythons and packages."""
    index_url: t.WebUrl | None = None
    """Package index for uv itself and certbot; None is PyPI. Where an app's packages come from is in its lock file."""
    install_mirror: t.FileUrl | None = None
    """Where `uv python install` fetches from instead of its default (UV_PYTHON_INSTALL_MIRROR)."""
    downloads_json_url: t.FileUrl | None = None
    """List of Python downloads (UV_PYTHON_DOWNLOADS_JSON_URL), https:// or file:// on the host."""
    system_certs: t.Switch = True
    """Trust the host's CA store for downloads, as a company's proxy needs; False: the store built into uv."""


class AcmeSettings(_Model):
    """The certificate authority of the apps with TLS mode "acme"."""

    email: t.Email | None = None
    """Address of the ACME account, for the CA's notices; None: an account without one."""
    staging: t.Switch = False
    """Let's Encrypt's staging server: for trying things out without its limits. Browsers don't trust the result."""
    directory: t.AcmeUrl | None = None
    """ACME directory URL; None is Let's Encrypt. Not together with staging."""
    ca_file: t.LocalPath | None = None
    """PEM file beside the inventory: the CA of the ACME server's own HTTPS, where it isn't a public one."""
    eab_key_id: Annotated[t.KeyId | None, Field(repr=False)] = None
    """Key identifier of an external account binding, for CAs that ask for one. Needs eab_hmac_key_name."""
    eab_hmac_key_name: Annotated[t.SecretRef | None, Field(repr=False)] = None
    """Name of the variable in the host's env_file that holds the external account binding's HMAC key."""
    check: t.Switch = True
    """Fetch a challenge file through every domain before an order is placed, so that a wrong DNS record is told at
    once and costs none of the CA's limits. Switch off where the host can't reach its own public address."""


class NginxSettings(_Model):
    """nginx as a whole."""

    worker_connections: Annotated[int, t.whole(64, 65_536, "connections")] = 4096
    """Connections a worker process handles at once; one to the app counts too. Debian's 768 is used up by a single
    slow client with many connections."""
    header_timeout: t.Seconds = 10
    """Seconds a client has for the header of a request: slow ones would hold connections that others need."""
    body_timeout: t.Seconds = 30
    """Seconds a client may pause while it sends a body, or while it reads the answer."""
    sandbox: t.Switch = True
    """systemd shuts nginx off from all that a proxy doesn't need: it can write to /var/log/nginx, /var/lib/nginx,
    /var/cache/nginx and /run alone, and sees neither home folders nor others' /tmp. False: it may do what root may; for
    sites of your own that need that, a drop-in of yours (systemctl edit nginx) opens less."""
    extra: t.LocalPath | None = None
    """File beside the inventory with nginx directives for the http block."""


class Settings(_Model):
    """Everything about one host."""

    apps: Annotated[
        dict[t.AppName, AppSettings],
        t.Narrow(
            "a mapping of names to apps, at least one",
            'write a mapping, such as {"notes": {"domains": […], "source": {…}, "app": "notes.main:app"}}',
            lambda value: len(value) > 0,
            container=True,
        ),
        Field(examples=[{}]),
    ]
    """The apps, by name: each with its own user, domains and settings. The name is the user's, the units' and the
    folders' on the host, so changing it makes a new app."""
    env_file: t.LocalPath | None = None
    """.env file beside the inventory with secrets of the host (not of an app); chmod 600."""
    timezone: t.Timezone = "Etc/UTC"
    """Time zone of the host's clock and logs."""
    hostname: t.MachineName | None = None
    """The host's own name; None leaves it as it is. Not a domain of an app."""
    packages: Annotated[list[t.Package], t.Narrow("a list of Debian packages", _LIST_DO, container=True)] = []
    """Debian packages to install besides what this project needs, such as libraries of an app."""
    journal_max_size: t.JournalSize = "1G"
    """Disk space for the journal, where all logs go (SystemMaxUse of journald.conf). Its own default is a tenth of the
    disk, at most 4G."""
    ssh: Annotated[SshSettings, t.mapping_of("options of sshd", 'write a mapping, such as {"forwarding": "local"}')] = (
        SshSettings()
    )
    """sshd: keys alone, and the algorithms of ssh-audit's hardening guides. A change of it, of the firewall or of the
    operator's account undoes itself unless a new connection proves it."""
    firewall: Annotated[
        FirewallSettings, t.mapping_of("options of the firewall", 'write a mapping, such as {"tcp_ports": [8443]}')
    ] = FirewallSettings()
    """The firewall: an nftables table of its own, which lets in what is said here and drops the rest."""
    operator: Annotated[
        OperatorSettings, t.mapping_of("options of the account", 'write a mapping, such as {"user": "deploy", …}')
    ] = OperatorSettings()
    """An account for people, with sudo and without a password."""
    python: Annotated[
        PythonSettings, t.mapping_of("options of Python", 'write a mapping, such as {"version": "3.13"}')
    ] = PythonSettings()
    """Where Python, uv and packages come from."""
    acme: Annotated[
        AcmeSettings, t.mapping_of("options of ACME", 'write a mapping, such as {"email": "ops@example.com"}')
    ] = AcmeSettings()
    """The certificate authority of the apps with TLS mode "acme"."""
    nginx: Annotated[
        NginxSettings, t.mapping_of("options of nginx", 'write a mapping, such as {"worker_connections": 4096}')
    ] = NginxSettings()
    """nginx as a whole."""
    updates: Annotated[
        UpdatesSettings, t.mapping_of("options of updates", 'write a mapping, such as {"reboot": "04:30"}')
    ] = UpdatesSettings()
    """Security updates, and what becomes of programs that still run the old code."""
    system: Annotated[
        SystemSettings, t.mapping_of("options of the system", 'write a mapping, such as {"swap_mb": 1024}')
    ] = SystemSettings()
    """Kernel, logins, time and swap."""

    _folder: Path = PrivateAttr(default_factory=Path)
    _host: str = PrivateAttr("")
    _environment: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Tell each app its name and the host's Python."""
        for name, app in self.apps.items():
            app._name = name
            app._host_python = self.python.version

    def bind(self, *, folder: Path, host: str) -> None:
        """Say where relative paths start (the inventory's folder) and whose settings these are."""
        self._folder = folder
        self._host = host
        for app in self.apps.values():
            app._folder = folder

    @property
    def host(self) -> str:
        """The host's name in the inventory."""
        return self._host

    @property
    def acme_directory_url(self) -> str:
        """The ACME directory that certificates are ordered from."""
        return self.acme.directory or (LETS_ENCRYPT_STAGING if self.acme.staging else LETS_ENCRYPT)

    @property
    def eab_hmac_key(self) -> str | None:
        """HMAC key of the external account binding, from the host's env_file; a secret."""
        return self._environment.get(self.acme.eab_hmac_key_name or "")

    @property
    def secret_files(self) -> frozenset[Path]:
        """The operator's own files that hold secrets, wherever the inventory says that they are."""
        of_apps = (path for app in self.apps.values() for path in (app.env_local, app.deploy_key_local, app.key_local))
        return frozenset(path for path in (self.env_local, *of_apps) if path is not None)

    @property
    def secret_values(self) -> frozenset[str]:
        """Values that no output may show: the host's and every app's."""
        own = {value for value in self._environment.values() if value}
        return frozenset(own.union(*(app.secret_values for app in self.apps.values())))

    def _local(self, name: str | None) -> Path | None:
        return None if name is None else (self._folder / Path(name).expanduser()).resolve()

    @property
    def env_local(self) -> Path | None:
        """Local .env file of the host."""
        return self._local(self.env_file)

    @property
    def acme_ca_local(self) -> Path | None:
        """Local PEM file: the CA of the ACME server."""
        return self._local(self.acme.ca_file)

    @property
    def nginx_extra_local(self) -> Path | None:
        """Local file with nginx directives for the http block."""
        return self._local(self.nginx.extra)

    @property
    def ssh_extra_local(self) -> Path | None:
        """Local file with directives of sshd_config."""
        return self._local(self.ssh.extra)

    @property
    def firewall_extra_local(self) -> Path | None:
        """Local file with nftables rules."""
        return self._local(self.firewall.extra)
