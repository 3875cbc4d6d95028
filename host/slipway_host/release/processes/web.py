"""The process that answers requests: a socket that is nginx's alone, and the app's server behind it."""

from __future__ import annotations

from slipway_host import http
from slipway_host.names import ITSELF, KINDS
from slipway_host.proxy import sockets
from slipway_host.release import served
from slipway_host.release.processes.process import LOOK_EVERY, Process
from slipway_host.system import Failed
from slipway_host.wanted import asked_as, is_good

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from slipway_host.release.app import App
    from slipway_host.wanted import Readiness

ANSWER_SECONDS = 5  # for one answer of the readiness path
CONNECT_SECONDS = 5  # to a release's own socket
SITE_SECONDS = 10  # to this host's nginx
PUBLIC_SECONDS = 5  # nginx's old workers accept for an instant after its new ones do
PUBLIC_EVERY = 0.01
BODY_BYTES = 400  # of an answer, for a message
STEADY = 3  # times the same answer in a row
NOT_FOUND = 404
NOT_READY = (0, 502, 504)  # of the site: no answer, or nginx got none


class Web(Process):
    """See Process."""

    name = "The app"
    kinds = KINDS

    def check(self, app: App, release: str) -> None:
        """Raise Failed unless its application is found, and can be imported and served."""
        served.find(app, release)

    def deaths(self, app: App) -> str | None:
        """As its server says."""
        return app.wanted.get("deaths")

    def ready(self, app: App, release: str) -> tuple[bool, str]:
        """Whether it answers on its readiness path, and the answer; see `is_good`."""
        return probe(app, release)

    def pause(self, app: App, seen: str, looks: int) -> float:
        """Longer and longer, up to the setting's, once it answers: its own limits may count each question."""
        if not status_of(seen):
            return LOOK_EVERY
        return float(min(app.wanted["readiness"].get("interval", 1), LOOK_EVERY * 2 ** min(looks - 1, 10)))

    def in_vain(self, app: App, release: str, seen: str, times: int) -> str | None:
        """A path that is named, and that the app doesn't have."""
        asked = asked_of(app, release)
        if not asked["strict"] or status_of(seen) != NOT_FOUND or times < STEADY:
            return None
        return (
            f"{asked['path']} answers 404: the app has no such path. Set readiness_path to one that it has, or remove "
            f"readiness_path and liveness_path: then the app is ready when it answers / below 500."
        )

    def seconds(self, app: App) -> float:
        """As the settings say."""
        return app.wanted["readiness"]["timeout"]

    def unready(self, app: App, seen: str) -> str:
        """See Process."""
        readiness = app.wanted["readiness"]
        told = f"{readiness['path']} wasn't ready within {readiness['timeout']} s; its last answer: {seen}."
        if 300 <= status_of(seen) < 400 and readiness.get("strict", True):
            told += " A redirect isn't enough for a path that is set: set readiness_path to where it leads."
        return told

    def turned_bad(self, app: App, seen: str) -> str:
        """See Process."""
        return f"{app.wanted['readiness']['path']} turned bad: it answered {seen}."

    def busy(self, app: App, release: str) -> bool:
        """Whether nginx has a connection to it."""
        return sockets.connections(app.at.socket(release)) > 0

    def cut_off(self, app: App, release: str) -> bool:
        """Start it anew: clients of WebSockets and streams get a clean end, and it answers again if it is needed."""
        return app.systemd.in_time("restart", self.service(app, release)) is not None

    def kill(self, app: App, release: str) -> None:
        """Kill it: it has no request."""
        app.systemd.kill(self.service(app, release))

    def clear(self, app: App, release: str) -> None:
        """Remove its socket."""
        app.at.socket(release).unlink(missing_ok=True)


WEB = Web()


def found(kinds: Iterable[str]) -> list[Process]:
    """The one that every release has."""
    return [WEB]


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
    """Ask a release on its own socket whether it is ready. Returns whether its answer is good, and the answer."""
    readiness = asked_of(app, release)
    status, body, _ = ask(lambda: own_socket(app.at.socket(release)), readiness)
    # Hide secrets before the text is put together: the body is cut off, maybe within a secret.
    seen = app.system.hidden.shown(f"{status} {body}" if status else body)
    return is_good(status, strict=readiness["strict"]), seen


def asked_of(app: App, release: str) -> Readiness:
    """How a release is asked: by the path that it was made with."""
    made = app.record(release).get("wanted") or app.wanted
    asked: Readiness = {**app.wanted["readiness"], **asked_as(made)}  # type: ignore[typeddict-item]
    return asked


def status_of(seen: str) -> int:
    """The status of an answer as `probe` tells it; 0 without an answer."""
    return int(seen[:3]) if seen[:3].isdecimal() and seen[3:4] in ("", " ") else 0


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
