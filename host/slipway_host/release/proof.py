"""prove and watch: check the answers of a release, and of the site."""

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
BAD_IN_A_ROW = 3  # a single bad answer doesn't count
CRASHES = 2  # during its start; then we don't wait any longer
LOOK_EVERY = 0.1
WATCH_EVERY = 0.2
PUBLIC_EVERY = 0.01
NOT_READY = (0, 502, 504)  # of the site: no answer, or nginx got none
LOADED = "MainPID,ControlGroup,EnvironmentFiles,FragmentPath,NeedDaemonReload"


def ask(
    connect: Callable[[], socket.socket], readiness: Readiness, seconds: float = ANSWER_SECONDS
) -> tuple[int, str, str | None]:
    """Ask the readiness path. Returns status, body, and the release that nginx names. Status 0 means no answer.

    + connect: opens the connection
    + seconds: for the whole answer
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
    """Ask a release on its own socket whether it is ready. Returns whether it answered 2xx, and the answer."""
    made = app.record(release).get("wanted") or app.wanted
    readiness: Readiness = {**app.wanted["readiness"], "path": made["readiness"]["path"]}
    status, body, _ = ask(lambda: own_socket(app.at.socket(release)), readiness)
    # Hide secrets before the text is put together: the body is cut off, maybe within a secret.
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
    """A connection to this host's nginx for a site's public name, from the address that it knows."""
    import socket

    plain = socket.create_connection(("127.0.0.1", 443 if tls else 80), SITE_SECONDS, (ITSELF, 0))
    if not tls:
        return plain
    import ssl

    # The certificate isn't checked: it isn't part of a release, and the host may not know a private CA.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=name)


def public(app: App, release: str) -> str | None:
    """Raise Failed unless this release answers for the site's public name. Returns a note if that can't be asked."""
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
            told = f"{status} {body} from {named or 'no release'}"
            raise Failed(f"{url} should be answered by {release}, but got {told}")
        app.system.sleep(PUBLIC_EVERY)  # an old worker may have taken the connection


def prove(app: App, release: str) -> None:
    """Wait until this release answers 2xx on its readiness path, through its own socket."""
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
            raise Failed("The app crashes during its start:\n" + start.journal(app, release))
        if app.system.clock() > deadline:
            missed = f"{readiness['path']} wasn't ready within {readiness['timeout']} s; it last answered {seen}."
            raise Failed(f"{missed} The journal's last lines:\n{start.journal(app, release)}")
        app.system.sleep(LOOK_EVERY)
    identify(app, release)


def identify(app: App, release: str) -> None:
    """Raise Failed unless the running process belongs to this release, according to systemd and the kernel.

    A process can change its own environment and command line in /proc.
    """
    unit, warm = app.at.unit(release, "service"), str(app.system.layout.warm_units)
    state = _loaded(app, release)
    if state.get("NeedDaemonReload") == "yes" and not state["FragmentPath"].startswith(f"{warm}/"):
        # Its files have changed: a restart must use the right ones, too. The files of a warm release have only moved.
        app.systemd.reread()
        state = _loaded(app, release)
    group, paths = state.get("ControlGroup", ""), app.system.groups(int(state.get("MainPID", "0"))).values()
    if not group or not any(path == group or path.startswith(f"{group}/") for path in paths):
        raise Failed(f"{unit} has no process of its own that runs: `systemctl status {unit}` tells why.")


def _loaded(app: App, release: str) -> dict[str, str]:
    """What systemd has loaded for a release's service. Raises Failed if it belongs to another release."""
    unit, layout = app.at.unit(release, "service"), app.system.layout
    told = [line.partition("=") for line in app.systemd.ctl("show", f"--property={LOADED}", unit).output.splitlines()]
    state = {name: value for name, _, value in told}
    # One line for each file, including the owner's own drop-ins.
    files = [Path(value.partition(" (")[0]) for name, _, value in told if name == "EnvironmentFiles"]
    ours = [each for each in files if each.parent == app.at.environments]
    places = [str(folder / unit) for folder in (layout.units, layout.warm_units)]
    if ours != [app.at.env(release)] or state.get("FragmentPath") not in places:
        raise Failed(f"{unit} runs with another release's environment: `systemctl cat {unit}` tells why.")
    return state


def watch(app: App, release: str) -> str | None:
    """Watch the readiness of a release that has just begun to serve."""
    if not app.serving():
        return "no previous release"
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
