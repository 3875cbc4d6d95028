"""Order certificates with certbot, after making sure that an order can succeed.

An ACME server counts failed orders and then refuses for hours, so every domain is looked up and asked for a
challenge file first, at each of its addresses.

A process that calls it has the mask 022: nginx must be able to read a challenge.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

from slipway_host import http
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path
    from typing import Any

    from slipway_host.protocol import Lineage
    from slipway_host.system import System

    Read = dict[str, list[Any]]
    """Name → stamp of a certificate's file, its domains, and when it ends."""

BUSY_SECONDS = 120  # a renewal takes seconds; a server that is slow, a minute
AGAIN_SECONDS = 2
SECONDS = 10  # Let's Encrypt's own validation gives up after about as long
PORT = 80
TOKEN = "slipway-"
"""Beginning of the names of our own challenge files."""
INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7")
"""Networks that the public doesn't reach: no record may lead there."""
UNREACHED = "where this host's challenge file can't be fetched"
HINT = "If this host can't reach itself by its public name, set acme.check to False in the inventory."
READ = 3  # parts of what is kept of a certificate
AGAIN = ("Another instance of Certbot", "anti-replay nonce")
"""What certbot says when the order is worth a second try: another certbot runs (the renewal timer's, most likely), or
the server found a nonce too old, which is common."""


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────


def lineage(system: System, name: str, known: Read | None = None) -> Lineage | None:
    """The certificate that certbot has stored under this name; None if there is none.

    + known: what was read of the host's certificates before; it gets what is read now
    """
    configuration, certificate = system.layout.renewal(name), system.layout.certificate(name)
    if not configuration.is_file() or not certificate.is_file():
        return None
    server = re.search(r"^server\s*=\s*(\S+)", configuration.read_text(errors="replace"), re.MULTILINE)
    told, known = certificate.stat(), {} if known is None else known
    stamp = [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns]
    read = known.get(name)
    if not isinstance(read, list) or read[:1] != [stamp] or len(read) != READ:
        read = known[name] = [stamp, *_read(system, certificate)]
    _, domains, ends = read
    return {"server": server[1] if server else None, "domains": domains, "valid": ends > system.time()}


def _read(system: System, certificate: Path) -> tuple[list[str], float]:
    """For which domains a certificate is, sorted, and when it ends, in seconds since 1970; 0 of what is none."""
    from datetime import datetime, timezone

    ask = ("openssl", "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName", "-enddate")
    told = system.run(*ask, "-dateopt", "iso_8601", check=False, raw=True).output
    ends = re.search(r"^notAfter=(\S+ \S+)Z$", told, re.MULTILINE)
    domains = sorted(set(re.findall(r"DNS:([^,\s]+)", told)))
    return domains, datetime.fromisoformat(ends[1]).replace(tzinfo=timezone.utc).timestamp() if ends else 0


def lineages(system: System) -> dict[str, Lineage]:
    """Name → certificate, for all that certbot has stored on this host.

    Each takes some milliseconds to read. It is read once, as long as its file stays the same.
    """
    names = sorted(path.stem for path in system.layout.renewals.glob(system.layout.renewal("*").name))
    told = system.json(system.layout.certificates)
    known = {name: told[name] for name in names if name in told}
    found = {name: lineage(system, name, known) for name in names}
    if known != told:
        with contextlib.suppress(OSError):  # a full memory
            system.layout.certificates.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            system.replace(system.layout.certificates, json.dumps(known), 0o600)
    return {name: each for name, each in found.items() if each}


def has(system: System, name: str, server: str, domains: Collection[str]) -> bool:
    """Whether the certificate is for just these domains, from this server, and valid."""
    return lineage(system, name) == {"server": server, "domains": sorted(set(domains)), "valid": True}


# ── whether it could be issued ───────────────────────────────────────────────────────────────────────────────────


def own_addresses(system: System) -> list[str]:
    """Addresses of this host that the public may reach, for the message; none behind NAT."""
    import ipaddress

    try:
        done = system.run("ip", "-o", "addr", "show", "scope", "global", check=False, raw=True)
    except FileNotFoundError:  # a minimal image may have no iproute2
        return []
    found = re.findall(r"inet6? ([0-9a-f.:]+)/", done.output)
    inside = [ipaddress.ip_network(each) for each in INSIDE]
    return [each for each in found if not any(ipaddress.ip_address(each) in network for network in inside)]


def problem(system: System, domain: str, token: str) -> str | None:
    """Why an ACME server couldn't validate `domain` at this host; None when it could.

    + token: name and content of a challenge file that is there
    """
    import functools
    import socket

    here = " or ".join(own_addresses(system)) or "this host's public address"
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(domain, PORT, type=socket.SOCK_STREAM)})
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return (
                f"{domain} can't be looked up on this host ({error.strerror}): correct its DNS resolver and run again"
            )
        return f"{domain} has no A or AAAA record: add one for {here}, wait until it is known, and run again"
    for address in found:
        kind = "AAAA" if ":" in address else "A"
        connect = functools.partial(socket.create_connection, (address, PORT), SECONDS)
        try:
            answer = http.ask(connect, f"/.well-known/acme-challenge/{token}", {"Host": domain}, SECONDS)
            if (answer.status, answer.body) == (200, token):
                continue
            seen = f"it answers {answer.status}" if answer.status != 200 else "another machine answers there"
        except http.NoAnswer as error:
            seen = str(error)
        wrong = f"{domain} has the {kind} record {address}, {UNREACHED}: {seen}"
        return f"{wrong}. Point it at {here}, or open port {PORT} there"
    return None


def check(system: System, domains: Sequence[str]) -> None:
    """Raise Failed, with a list of what is wrong, unless each domain leads here."""
    import secrets

    token = TOKEN + secrets.token_hex(16)
    challenges = system.layout.challenges
    challenges.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = challenges / token
    try:
        path.write_text(token)
        problems = [found for found in (problem(system, domain, token) for domain in domains) if found]
    finally:
        path.unlink(missing_ok=True)
    if problems:
        listed = "\n".join(f"  - {each}" for each in problems)
        hint = f"\n({HINT})" if any(UNREACHED in each for each in problems) else ""  # it helps no other problem
        raise Failed(f"no certificate was ordered, since it could not be issued:\n{listed}{hint}")


# ── an order ─────────────────────────────────────────────────────────────────────────────────────────────────────


def order(
    system: System,
    name: str,
    server: str,
    domains: Sequence[str],
    *,
    ca_file: str | None = None,
    check_first: bool = True,
) -> None:
    """Let certbot order the certificate, unless it is there. Raises Failed; the one from before then stays in use.

    + name: under which certbot keeps it
    + server: URL of the ACME directory
    + ca_file: CA of the ACME server's own HTTPS; None: those that the host trusts
    + check_first: fetch a challenge file from each domain first
    """
    layout = system.layout
    if has(system, name, server, domains):
        return
    for leftover in layout.challenges.glob(f"{TOKEN}*"):  # of a run that was killed
        leftover.unlink()
    if check_first:
        check(system, domains)
    known = lineage(system, name)
    if known is None:
        set_aside(system, name)
    # Write certbot's files to the disk before anything names them, or nginx may not start after a power cut.
    with contextlib.suppress(FileNotFoundError):  # not every file system can, nor has every image the program
        system.run("chattr", "-R", "-f", "+S", str(layout.letsencrypt), check=False)
    argv = [str(layout.certbot_program), "certonly", "--config", str(layout.certbot_ini)]
    argv += ["--cert-name", name, "--renew-with-new-domains"]
    if known and known["server"] != server:
        argv.append("--force-renewal")
    for domain in domains:
        argv += ["--domain", domain]
    environment = os.environ | ({"REQUESTS_CA_BUNDLE": ca_file} if ca_file else {})
    deadline = system.clock() + BUSY_SECONDS
    while True:
        done = system.run(*argv, check=False, env=environment)
        if not any(each in done.output for each in AGAIN) or system.clock() > deadline:
            break
        system.sleep(AGAIN_SECONDS)
    if done.code != 0 or not has(system, name, server, domains):
        kept = " The certificate from before stays in use." if known else ""
        raise Failed(
            f"certbot could not get the certificate for {', '.join(domains)}.{kept} It says:\n"
            f"{done.output.strip()}\nMore in {layout.certbot_log}."
        )


def set_aside(system: System, name: str) -> None:
    """Move the remains of an interrupted order away: certbot refuses to order while any of its files exist."""
    import time

    layout = system.layout
    for path in (layout.renewal(name), layout.certificate(name).parent, layout.certbot_archive(name)):
        if path.exists():
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(system.time()))
            aside = layout.set_aside / stamp / path.relative_to(layout.letsencrypt)
            layout.set_aside.mkdir(mode=0o700, exist_ok=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.rename(aside)
