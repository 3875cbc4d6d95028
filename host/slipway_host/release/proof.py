"""prove and watch: a release's own answers, and the site's."""

from __future__ import annotations

from pathlib import Path

from slipway_host import http
from slipway_host.layout import ITSELF
from slipway_host.release import retire, start
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from slipway_host.protocol import Readiness
    from slipway_host.release.app import App

ANSWER_SECONDS = 5  # for one answer of the readiness path
CONNECT_SECONDS = 5  # to a release's own socket
SITE_SECONDS = 10  # to this host's nginx
PUBLIC_SECONDS = 5  # nginx's old workers accept for an instant after its new ones do
BODY_BYTES = 400  # of an answer, for a message
BAD_IN_A_ROW = 3  # one bad answer may be a hiccup
CRASHES = 2  # on boot: by then it isn't waited for any more
LOOK_EVERY = 0.1
WATCH_EVERY = 0.2
PUBLIC_EVERY = 0.01
NOT_READY = (0, 502, 504)  # of the site: no answer, or nginx's own where it got none
LOADED = "MainPID,ControlGroup,EnvironmentFiles,FragmentPath,NeedDaemonReload"


def ask(
    connect: Callable[[], socket.socket], readiness: Readiness, seconds: float = ANSWER_SECONDS
) -> tuple[int, str, str | None]:
    """Ask the readiness path: (status, body, release nginx names); status 0 is no answer, and the body says why.

    + connect: opens the connection
    + seconds: for the whole question, however slowly an answer trickles
    """
    headers = {
        "Host": readiness["host"],
        "X-Forwarded-Proto": readiness["scheme"],
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": "slipway",
    }
    try:
        answer = http.ask(connect, readiness["path"], headers, seconds, BODY_BYTES)
    except http.NoAnswer as error:
        return 0, str(error), None
    return answer.status, answer.body, answer.headers.get("X-Slipway-Release")


def probe(app: App, release: str) -> tuple[bool, str]:
    """Ask a release for its readiness, by its own path and socket: (answered 2xx, what was seen)."""
    made = app.record(release).get("wanted") or app.wanted
    readiness: Readiness = {**app.wanted["readiness"], "path": made["readiness"]["path"]}
    status, body, _ = ask(lambda: own_socket(app.at.socket(release)), readiness)
    # Here, where it ends: of a secret that is cut off there, the rest isn't shown either.
    return 200 <= status < 300, app.system.hidden.shown(f"{status} {body}" if status else body)


def own_socket(path: Path) -> socket.socket:
    """A connection to a release's own socket."""
    import socket

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def site_socket(name: str, tls: bool) -> socket.socket:
    """A connection to this host's own nginx, as to a site's public name; from where it knows us."""
    import socket

    plain = socket.create_connection(("127.0.0.1", 443 if tls else 80), SITE_SECONDS, (ITSELF, 0))
    if not tls:
        return plain
    import ssl

    # Which certificate is served is no affair of a release's; a private CA's isn't known to this host.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=name)


def public(app: App, release: str) -> str | None:
    """Fail unless the site, asked by its public name, is answered by this release; says what can't be asked."""
    readiness = app.wanted["readiness"]
    site = app.system.layout.site(app.name)
    tls = readiness["scheme"] == "https"
    if not site.exists() or (tls and "ssl_certificate " not in site.read_text()):
        return "the public name has no certificate yet"
    until, host = app.system.clock() + PUBLIC_SECONDS, readiness["host"]
    while True:
        status, body, named = ask(lambda: site_socket(host, tls), readiness)
        if named == release and status not in NOT_READY:
            return None
        if app.system.clock() > until:
            url = f"{readiness['scheme']}://{host}{readiness['path']}"
            raise Failed(f"{url} isn't answered by {release} but by {named or 'no release'}: {status} {body}")
        app.system.sleep(PUBLIC_EVERY)  # a worker of the configuration from before may have taken the connection


def prove(app: App, release: str) -> None:
    """Wait until this very release answers 2xx on its readiness path, through its own socket."""
    readiness = app.wanted["readiness"]
    unit = app.at.unit(release, "service")
    deadline = app.system.clock() + readiness["timeout"]
    while True:
        ready, seen = probe(app, release)
        app.progress.heard(seen)
        if ready:
            break
        state = app.systemd.state(unit)
        if int(state["NRestarts"]) >= CRASHES or state["ActiveState"] == "failed":
            raise Failed("The app crashes on boot:\n" + start.journal(app, release))
        if app.system.clock() > deadline:
            missed = f"{readiness['path']} wasn't ready within {readiness['timeout']} s; it last answered {seen}."
            raise Failed(f"{missed} The journal's last lines:\n{start.journal(app, release)}")
        app.system.sleep(LOOK_EVERY)
    identify(app, release)


def identify(app: App, release: str) -> None:
    """Fail unless what runs is this release's, by what systemd and the kernel know.

    A process can write whatever it likes to its own environment and command line in /proc.
    """
    unit, warm = app.at.unit(release, "service"), str(app.system.layout.warm_units)
    state = _loaded(app, release)
    if state.get("NeedDaemonReload") == "yes" and not state["FragmentPath"].startswith(f"{warm}/"):
        # Its files have changed since: what a restart would take is to be right as well. Those of a release that was
        # warm have only moved.
        app.systemd.reread()
        state = _loaded(app, release)
    group, paths = state.get("ControlGroup", ""), app.system.groups(int(state.get("MainPID", "0"))).values()
    if not group or not any(path == group or path.startswith(f"{group}/") for path in paths):
        raise Failed(f"{unit} has no process of its own that runs: `systemctl status {unit}` tells why.")


def _loaded(app: App, release: str) -> dict[str, str]:
    """What systemd goes by for a release's service; Failed where that isn't this release's."""
    unit, layout = app.at.unit(release, "service"), app.system.layout
    told = [line.partition("=") for line in app.systemd.ctl("show", f"--property={LOADED}", unit).output.splitlines()]
    state = {name: value for name, _, value in told}
    # A line for each file: those of the owner's own settings, too.
    files = [Path(value.partition(" (")[0]) for name, _, value in told if name == "EnvironmentFiles"]
    ours = [each for each in files if each.parent == app.at.environments]
    places = [str(folder / unit) for folder in (layout.units, layout.warm_units)]
    if ours != [app.at.env(release)] or state.get("FragmentPath") not in places:
        raise Failed(f"{unit} runs with another release's environment: `systemctl cat {unit}` tells why.")
    return state


def watch(app: App, release: str) -> str | None:
    """Look at the readiness of a release that has just begun to serve in the place of another."""
    if not app.serving():
        return "none to go back to"
    unit, bad, seconds = app.at.unit(release, "service"), 0, app.wanted["watch"]
    restarts = app.systemd.state(unit)["NRestarts"]
    until = app.system.clock() + seconds
    while app.system.clock() < until:
        ready, seen = probe(app, release)
        bad = 0 if ready else bad + 1
        if app.systemd.state(unit)["NRestarts"] != restarts:
            bad, seen = BAD_IN_A_ROW, "nothing: it crashed"
        if bad >= BAD_IN_A_ROW:
            path = app.wanted["readiness"]["path"]
            raise Failed(f"It served, then {path} turned bad: it answered {seen}.\n{start.journal(app, release)}")
        retire.clear(app, release)
        app.system.sleep(min(WATCH_EVERY, max(0, until - app.system.clock())))
    return None
