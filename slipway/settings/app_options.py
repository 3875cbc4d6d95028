"""One app: what may be set of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.servers import INTERFACES, USUAL
from slipway.settings import types as t
from slipway.settings.base import LIST_DO, Model
from slipway.settings.dependencies import DependenciesSettings
from slipway.settings.nginx import AnyStatic, HeadersSettings, RateLimit
from slipway.settings.process import LimitsSettings, SandboxSettings
from slipway.settings.programs import JobSettings, ProcessSettings
from slipway.settings.release import HooksSettings, ProbeSettings
from slipway.settings.source import SOURCE, AnySource
from slipway.settings.tls import TlsSettings


def _check_domain_count(value: list[str]) -> str | bool:
    if len(value) > 100:
        return f"remove {len(value) - 100} of the {len(value)} names, or make a second app of them"
    return len(value) > 0


class AppOptions(Model):
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
    source: Annotated[AnySource, SOURCE]
    """The code: a git repository, or a folder on this machine, with a lock file (`dependencies`)."""
    app: Annotated[t.Application | None, Field(examples=["notes.main:app"])] = None
    """Application as module:attribute, or the function that makes it; literal arguments may follow, as in
    'notes:create_app("production")'. None: it is found, by [tool.fastapi] entrypoint in pyproject.toml, the variables
    LITESTAR_APP and FLASK_APP, Django's manage.py, and usual names: app, application or create_app in main.py, app.py,
    and such modules of the project's package or of a folder app. A release says what it found."""
    interface: Annotated[Literal["asgi", "wsgi"], t.one_of(*INTERFACES)] | None = None
    """What the application speaks. None: a release finds out, by importing it before anything changes."""
    factory: t.Switch | None = None
    """Whether `app` is a function that makes the application. None: a release finds out by its signature, and calls it
    unless interface is set."""
    python_path: Annotated[list[t.InnerPath], t.Narrow("a list of folders", LIST_DO, container=True)] = []
    """Folders below the app's from which modules are imported too, such as ["src"] for a src layout without a build
    system. The server, the check, migrations, hooks and processes all get them."""
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
    a dollar sign, nothing is interpolated; quote a value that has spaces or a #. A quoted value may have several lines,
    such as a key in PEM; in double quotes \\n is a line's end, too."""
    required_env: Annotated[list[t.VariableRef], t.Narrow("a list of variable names", LIST_DO, container=True)] = []
    """Variables without which the app can't run: a run refuses to start when one is missing or empty."""
    build_env: Annotated[list[t.VariableRef], t.Narrow("a list of variable names", LIST_DO, container=True)] = []
    """Names from env and env_file that `uv sync` and the commands of `build` get too: credentials of a private index
    (UV_INDEX_INTERNAL_PASSWORD), or what settings need to be imported (DJANGO_SETTINGS_MODULE). Others they don't
    see."""
    build: Annotated[list[t.BuildCommand], t.Narrow("a list of commands", LIST_DO, container=True)] = []
    """Commands that make what the repository doesn't have, such as ["npm ci", "npm run build"] or ["python manage.py
    collectstatic --noinput"]. They run in each release once its dependencies are installed, one after another, in the
    app's folder, as the app's builder: they may write there, use the Internet, and reach nothing of the host. The
    release's bin folder is first in PATH, HOME is kept for the next build, and of the variables they get those of
    build_env. No shell; NAME=value may stand before a command. A command that fails ends the release. What they leave
    is part of it: let the last one remove what no release needs ("rm -rf node_modules")."""
    build_first: Annotated[list[t.BuildCommand], t.Narrow("a list of commands", LIST_DO, container=True)] = []
    """The same before the app's own project is installed, and after its dependencies are: commands that make what the
    build of the project itself needs, such as a front end that is part of its package."""
    node: t.Switch = False
    """True: the host gets Node.js and npm from the distribution's packages, for commands of `build` and
    `build_first`."""
    build_only: (
        Annotated[list[t.PackageName], t.Narrow("a list of packages' names", LIST_DO, container=True)] | None
    ) = None
    """The only packages of the lock file that may be built on the host from their sources, which runs their code and
    that of their build requirements; those come from the index by name, and no lock file pins them. []: none, so that
    all must come as wheels. None: any."""
    dependencies: Annotated[
        DependenciesSettings,
        t.mapping_of("options of dependencies", 'write a mapping, such as {"extras": ["postgres"]}'),
    ] = DependenciesSettings()
    """Which packages a release has."""
    database_driver: Annotated[Literal["asyncpg", "psycopg"], t.one_of("asyncpg", "psycopg")] | None = None
    """For SQLAlchemy's async engine: the app gets DATABASE_URL as postgresql+asyncpg:// or postgresql+psycopg://,
    whether the .env says postgres:// or postgresql:// (and sslmode= as ssl= for asyncpg); the original, for
    synchronous tools, is DATABASE_URL_SYNC. None: DATABASE_URL stays as it is."""

    shared: Annotated[list[t.InnerPath], t.Narrow("a list of folders' names", LIST_DO, container=True)] = []
    """Folders in the app's folder that the app may write, and that outlive releases, such as ["media", "data"]. Each is
    /srv/<app>/shared/<folder>, to which every release has a link. What the source has there is copied once, when the
    folder is made. Nothing in it is ever deleted by Slipway, and a rollback doesn't change it."""
    shared_files: Annotated[
        dict[t.FilePath, t.SharedFile],
        t.mapping_of("paths in the app's folder to files", 'write a mapping, such as {".env": "notes.env"}'),
    ] = {}
    """Path in the app's folder → file beside the inventory that each release gets a copy of, as {".env": "notes.env"}:
    secrets that the app reads from a file. The app alone can read it, and can't change it. {"db.sqlite3": {"writable":
    True}}: a file that the app itself makes and writes there, and that outlives releases like a folder of `shared`; for
    an app that replaces it by another, share its folder."""

    port: t.Port | None = None
    """Port on 127.0.0.1 where nginx offers the app without TLS to the host itself; the app gets it as PORT. None: no
    such port; sockets and 443 are enough for most."""
    server: t.ServerName = USUAL
    """The server that runs the app. What the app's lock file lacks of its packages is installed besides. Whichever it
    is, it has the socket of systemd, believes nginx alone, and finishes its requests and closes WebSockets when it is
    stopped. What each serves, and is good for, is in docs/explanation.md."""
    server_config: Annotated[t.FilePath | None, Field(examples=["conf/server.py"])] = None
    """A configuration of the server's in the app's folder, for the default server alone. Its hooks count (on_starting,
    post_fork, worker_exit and the like; child_exit after Slipway's own), and what it says of logs: loglevel, logconfig,
    logconfig_dict, logconfig_json, logger_class, access_log_format and the statsd settings. Everything else in it
    doesn't, since these settings and Slipway say it; the journal names what was passed over. None: no such file is
    read, whatever the source has."""
    workers: t.Workers | None = None
    """Worker processes; the app gets the number as WEB_CONCURRENCY. None: from the host's cores, and its memory for
    each app. So a further app can change the number of others, which are released with it."""
    timeout: t.Seconds = 30
    """Seconds without a sign of life after which the server kills a worker. An async worker gives signs while it waits,
    so this ends blocked event loops, not long requests (30 is the server's default)."""
    graceful_timeout: t.Seconds = 30
    """Seconds a worker may take to finish its requests when a release or restart stops it (30 is the server's
    default); systemd waits longer than that."""
    keep_alive: t.Seconds = 75
    """Seconds the app keeps an idle connection from nginx open: more than the 60 that nginx does by default, so that
    nginx closes first and no request meets a closing connection."""
    threads: Annotated[int, t.whole(1, 1000, "threads")] = 8
    """Threads of a worker that serves WSGI: so many requests at once. ASGI has none."""
    backlog: Annotated[int, t.whole(1, 65_535, "connections")] = 4096
    """Connections from nginx that may wait until a worker takes them; the kernel's net.core.somaxconn bounds it too."""
    concurrency: Annotated[int, t.whole(1, 1_000_000, "connections")] | None = None
    """Connections that a worker may have at once, nginx's idle ones among them, against more work than it can do; each
    of nginx's workers (one a core) keeps up to 64 of these for a minute.
    Beyond it a server answers 503, or lets them wait (docs/explanation.md). None: no limit."""
    access_log: t.Switch = False
    """True: the server writes a line for each request to the journal, which may cost half of the throughput. nginx has
    an access log in any case."""
    max_requests: Annotated[int, t.whole(0, 1_000_000, "requests")] = 0
    """Requests after which a worker is replaced, against leaks of memory; 0: never (the server's default). Another one
    serves before it is told to stop, and only one is replaced at a time; what is a stream ends after
    graceful_timeout."""
    max_requests_jitter: Annotated[int, t.whole(0, 1_000_000, "requests")] = 0
    """Up to so many requests more for each worker, at random, so that they aren't replaced in a row. Needs
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

    processes: Annotated[
        dict[t.ProgramName, ProcessSettings],
        t.mapping_of(
            "names to processes", 'write a mapping, such as {"worker": {"command": "celery -A notes worker"}}'
        ),
    ] = {}
    """Name → program that keeps running beside the app's server, such as a worker or a scheduler. How-to: "Workers and
    jobs"."""
    jobs: Annotated[
        dict[t.ProgramName, JobSettings],
        t.mapping_of(
            "names to jobs",
            'write a mapping, such as {"cleanup": {"command": "python -m notes.cleanup", "schedule": "daily"}}',
        ),
    ] = {}
    """Name → program that starts at a time and ends, as from a crontab."""
    scheduler_in_web: t.Switch = False
    """True for an app whose own process has a scheduler (APScheduler, fastapi-utils' repeat_every), which would run
    twice in two processes: it has one worker (workers), and the old release is told to stop as soon as the new one
    serves (drain_timeout and keep_warm are 0). While a release is tried, some seconds, both run. Better is a job, or a
    process that is alone."""

    migrate: t.Command | None = "auto"
    """"auto": what the source has, of Alembic, Django, Flask-Migrate and advanced-alchemy; None: never; otherwise the
    command. It runs once a release, in the app's folder, as the app's user, with its environment and the release's
    bin folder first in PATH, before any traffic; if it fails, the old release keeps serving."""
    migrate_config: Annotated[t.FilePath, Field(examples=["db/alembic.ini"])] | None = None
    """What configures migrations, in the app's folder: an alembic.ini of any name, a pyproject.toml with
    [tool.alembic], or Django's manage.py. None: the one that ALEMBIC_CONFIG of env names; else the one nearest to the
    app's folder, in it or up to three folders below it."""
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
    liveness_path: t.UrlPath | None = None
    """Path that answers 2xx as long as the process lives, without asking the database, such as "/healthz". None:
    readiness_path, or /."""
    readiness_path: t.UrlPath | None = None
    """Path that answers 2xx when the app can serve, such as "/readyz". A release goes live only after it did, over its
    own socket; 429 counts as well, and if it answers 404, the release fails at once. None: liveness_path. If neither is
    set, a release is ready when it answers / with any status below 500, such as a redirect or 404, and names the path
    that the app seems to have for it."""
    readiness_interval: t.Seconds = 1
    """Seconds between two questions to the readiness path, so that limits of the app's own aren't reached. The first
    few come sooner, and what doesn't answer well is asked again at once."""
    readiness_timeout: t.Seconds = 60
    """Seconds a new release has until its readiness path answers; then the run fails and the old one keeps serving."""
    watch: Annotated[int, t.whole(0, 600, "seconds")] = 3
    """Seconds a release is watched after the switch: if its readiness path stops answering well meanwhile, the release
    before it serves again and the run fails; 429 is an answer. 0: not at all; nor is the first, which has none before
    it."""
    drain_timeout: Annotated[int, t.whole(0, 3600, "seconds")] = 30
    """Seconds that requests, WebSockets and streams of the old release get to end by themselves after a switch; then
    it is told to stop (WebSockets get a clean close), and graceful_timeout counts. 0: it is told at once."""
    keep_warm: Annotated[int, t.whole(0, 86_400, "seconds")] = 300
    """Seconds the old release's processes stay after a switch, so that going back takes a second; they need the memory
    of both releases. 0: they stop as soon as they are drained. Less than drain_timeout never cuts that short."""
    keep_releases: Annotated[int, t.whole(2, 100, "releases")] = 5
    """Releases kept on the host, the serving one included: a rollback can use them. At least 2; each is a folder with
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
    """What `--prove` sends to the app while a release goes out; the run fails if one request is lost."""

    static: AnyStatic | None = None
    """Folder of static files that nginx serves without asking the app, or a list of several; None: there is none."""
    max_body_size: t.BodySize = "10m"
    """Largest request body, such as an upload; beyond it nginx answers 413. 0: no limit (nginx's own default is 1m)."""
    proxy_timeout: t.Seconds = 60
    """Seconds nginx waits for the next bytes from the app (60 is nginx's default). Streams and WebSockets need a sign
    of life within that time."""
    trusted_proxies: Annotated[list[t.Network], t.Narrow("a list of networks", LIST_DO, container=True)] = []
    """CIDRs of proxies in front (a CDN) that are believed: the client's address in real_ip_header, the scheme in
    X-Forwarded-Proto, the port in X-Forwarded-Port, and X-Request-ID. What came to them by https isn't redirected, and
    what came by http is, except with tls mode "off". Empty: the client is whoever connects."""
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
