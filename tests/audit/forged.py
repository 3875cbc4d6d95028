"""What a client can lie with: forwarded headers, names that are no site's, bytes that are no proper request."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Mapping

from tests.audit.finding import Finding, Verdict, judged, looked
from tests.audit.subject import Subject
from tests.host._hosts import FORGED, FORGED_ADDRESS, FORGED_HOST, FORGED_ID

UNKNOWN = "unknown.test"

LIES = (FORGED_ADDRESS, FORGED_HOST, FORGED_ID, "gopher", "/forged")
"""Of `FORGED`, what can be told apart from everything true, wherever it turns up."""


def headers(subject: Subject) -> Finding:
    """What the app sees of forged headers; /api/whoami of the example apps shows it."""
    answer = subject.client.request(subject.site, "/api/whoami", trust=subject.trust, headers=list(FORGED.items()))
    if answer.status == 404 and not subject.local:
        return Finding(Verdict.LEFT_OUT, "the app has no /api/whoami that shows what reaches it")
    return headers_finding(answer.status, answer.body.decode(errors="replace"))


def headers_finding(status: int, body: str) -> Finding:
    """What an answer of /api/whoami says."""
    try:
        seen = json.loads(body)
        found = {"client": seen["client"], "scheme": seen["scheme"], "host": seen["host"], "url": seen["url"]}
        found |= seen["headers"]
    except (ValueError, KeyError, TypeError):
        looked(False, f"/api/whoami shows nothing: {status} {body[:80]}")
    believed = [f"{name}: {value}" for name, value in found.items() if any(lie in str(value) for lie in LIES)]
    believed += [f"{name}: {value}" for name, value in found.items() if name == "x-forwarded-port" and value == "666"]
    return judged(not believed, f"{len(believed)} of {len(FORGED)} lies reach the app", believed)


def names(subject: Subject) -> Finding:
    """What is answered under a name that no site has."""
    trust, client, site = subject.trust, subject.client, subject.site
    own = client.request(site, "/healthz", trust=trust)
    looked(own.status == 200, f"the site itself answers {own.status}")
    plain = f"GET / HTTP/1.1\r\nHost: {UNKNOWN}\r\nConnection: close\r\n\r\n"
    answers = {
        "SNI of the site, unknown Host": _first_line(_sent(subject, trust, plain.encode())),
        "unknown Host, plain": _first_line(client.raw(site, plain.encode())),
        "no Host, plain": _first_line(client.raw(site, b"GET / HTTP/1.0\r\n\r\n")),
    }
    for what, sni in (("unknown SNI", UNKNOWN), ("no SNI", None)):
        try:
            served = client.handshake(sni, to=site)
            answers[what] = f"a certificate of {served.certificate.subject.rfc4514_string()}"
        except (ssl.SSLError, ConnectionError):
            answers[what] = "refused"
    return names_finding(answers)


def names_finding(answers: Mapping[str, str]) -> Finding:
    """What was answered to each request: a status, a status line, or "refused"."""
    bad = [f"{what}: {said}" for what, said in answers.items() if "200" in said or "certificate" in said]
    return judged(not bad, f"{len(bad)} of {len(answers)} unknown names served", bad)


def _first_line(received: bytes) -> str:
    return received.split(b"\r\n", 1)[0].decode(errors="replace") or "refused"


def raw_requests(site: str) -> dict[str, bytes]:
    """Requests that no proper client sends, by what is wrong with each. None may be answered as a good one is."""
    host = f"Host: {site}\r\n"
    smuggled = f"GET /smuggled HTTP/1.1\r\n{host}\r\n"
    post = f"POST /healthz HTTP/1.1\r\n{host}"
    get = "GET /healthz HTTP/1.1\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    texts = {
        "Content-Length and Transfer-Encoding": f"{post}Content-Length: 6\r\n{chunked}\r\n0\r\n\r\n{smuggled}",
        "two different Content-Length": f"{post}Content-Length: 0\r\nContent-Length: 44\r\n\r\n{smuggled}",
        "negative Content-Length": f"{post}Content-Length: -1\r\n\r\n{smuggled}",
        "Content-Length with a sign": f"{post}Content-Length: +5\r\n\r\nhello",
        "unknown Transfer-Encoding": f"{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}",
        "Transfer-Encoding twice": f"{post}{chunked}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n{smuggled}",
        "a chunk size beyond 64 bits": f"{post}{chunked}\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
        "a space before the colon": f"{get}{host}Content-Length : 44\r\n\r\n{smuggled}",
        "a header that is folded": f"{get}{host}X-Long: a\r\n b\r\n\r\n",
        "NUL in a header": f"{get}{host}X-Nul: a\0b\r\n\r\n",
        "two Hosts": f"{get}{host}Host: {UNKNOWN}\r\n\r\n",
        "no Host": f"{get}\r\n",
        "no Host, as HTTP/1.0 allows": "GET / HTTP/1.0\r\n\r\n",
        "another host in the target": f"GET http://{UNKNOWN}/ HTTP/1.1\r\n{host}\r\n",
        "90 kB of header": f"{get}{host}X-Large: {'a' * 90000}\r\n\r\n",
        "TRACE": f"TRACE / HTTP/1.1\r\n{host}\r\n",
        "CONNECT": f"CONNECT {UNKNOWN}:443 HTTP/1.1\r\nHost: {UNKNOWN}:443\r\n\r\n",
        "a path out of the folder": f"GET /static/../../../../etc/passwd HTTP/1.1\r\n{host}\r\n",
        "a path out of the folder, encoded": f"GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n{host}\r\n",
        "HTTP/9": f"GET /healthz HTTP/9.0\r\n{host}\r\n",
        "no HTTP at all": "SSH-2.0-OpenSSH_9.9\r\n\r\n",
    }  # fmt: skip
    return {what: text.encode("latin-1") for what, text in texts.items()}


def raw(subject: Subject) -> Finding:
    """What is answered to each of `raw_requests`, over TLS."""
    trust = subject.trust
    good = f"GET /healthz HTTP/1.1\r\nHost: {subject.site}\r\nConnection: close\r\n\r\n"
    looked(b" 200 " in _sent(subject, trust, good.encode())[:20], "the site itself doesn't answer a proper request")
    return raw_finding({what: _sent(subject, trust, data) for what, data in raw_requests(subject.site).items()})


def _sent(subject: Subject, trust: ssl.SSLContext, data: bytes) -> bytes:
    """All that comes back until the server closes, or is silent for two seconds."""
    received = b""
    with subject.client.connect(subject.site, trust) as connected, contextlib.suppress(OSError):
        connected.sendall(data)
        connected.settimeout(2)
        while chunk := connected.recv(65536):
            received += chunk
    return received


def raw_finding(answers: Mapping[str, bytes]) -> Finding:
    """What came back for each request: none may hold a status of 200, the first or a later one."""
    bad = [f"{what}: {_first_line(said)}" for what, said in answers.items() if b"HTTP/1.1 200" in said]
    return judged(not bad, f"{len(bad)} of {len(answers)} answered with 200", bad)
