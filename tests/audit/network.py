"""nmap and slowhttptest: which ports answer, and whether visitors are served while somebody wears the host out."""

from __future__ import annotations

import csv
import http.client
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.audit.finding import DidNotLook, Finding, Verdict, judged, looked
from tests.audit.subject import Subject

PORTS = 65535
OPEN = frozenset({22, 80, 443})
CONNECTIONS = 4000
"""Slow connections that one attacker makes."""
RATE = 1000
"""How many of them a second; a busy machine makes fewer."""
WARM = (5, 20)
"""Seconds from an attack's beginning to the first probe; the second where a busy machine had not attacked enough by
then."""
PROBES = 15
PROBE_SECONDS = 3.0
"""Time in which a visitor must be answered."""


def ports4(subject: Subject) -> Finding:
    """The TCP ports that are open."""
    return _ports(subject, subject.auditor.address)


def ports6(subject: Subject) -> Finding:
    """The same over IPv6."""
    if subject.address6 is None:
        return Finding(Verdict.LEFT_OUT, "no IPv6 on this host")
    return _ports(subject, subject.address6)


def _ports(subject: Subject, address: str) -> Finding:
    # A container of its own has no other way to tell a dropped packet than to wait: at a rate that a firewall bears.
    tool = ["nmap", "-n", "-Pn", "-p-", "-T4", "--min-rate=4000", "--max-retries=2", "-oX", "-"]
    tool += ["-6"] if ":" in address else []
    done = subject.auditor.run([*tool, address], timeout=300)
    return ports_finding(done.output, OPEN | {subject.ssh_port} - ({22} if subject.ssh_port != 22 else set()))


def ports_finding(result: str, allowed: frozenset[int]) -> Finding:
    """What nmap's XML says."""
    try:
        run = ET.fromstring(result)
    except ET.ParseError:
        looked(False, "nmap printed no result")
    finished = run.find("runstats/finished")
    looked(finished is not None and finished.get("exit") == "success", "nmap did not finish")
    listed = {int(port.get("portid", 0)): _state(port) for port in run.iterfind("host/ports/port")}
    rest = {each.get("state"): int(each.get("count", 0)) for each in run.iterfind("host/ports/extraports")}
    looked(len(listed) + sum(rest.values()) == PORTS, f"nmap scanned {len(listed) + sum(rest.values())} ports")
    open_ports = sorted(port for port, state in listed.items() if state == "open")
    # Nothing at all is what a scan of an address sees that nobody has.
    looked(open_ports, "nmap saw no open port, so it didn't reach the host")
    others = [port for port in open_ports if port not in allowed]
    return judged(
        not others, f"{', '.join(map(str, open_ports))} open of {PORTS}", [f"{port} is open" for port in others]
    )


def _state(port: ET.Element) -> str:
    state = port.find("state")
    return "" if state is None else state.get("state", "")


def slow_headers(subject: Subject) -> Finding:
    """4,000 requests whose headers don't end."""
    return _slow(subject, "-H")


def slow_bodies(subject: Subject) -> Finding:
    """4,000 requests whose bodies don't end."""
    return _slow(subject, "-B")


def many_slow_headers(subject: Subject) -> Finding:
    """12,000 requests whose headers don't end, from three addresses."""
    return _slow(subject, "-H", attackers=3)


def _slow(subject: Subject, kind: str, attackers: int = 1) -> Finding:
    if not subject.local:
        return Finding(Verdict.LEFT_OUT, "an attack: made on this machine's own containers only")
    looked(_answers(subject, subject.trust), "the site does not answer before the attack")
    try:
        return _attacked(subject, kind, attackers, WARM[0])
    except DidNotLook:
        return _attacked(subject, kind, attackers, WARM[1])


def _attacked(subject: Subject, kind: str, attackers: int, warm: int) -> Finding:
    tool = ["slowhttptest", kind, "-c", str(CONNECTIONS), "-u", f"http://{subject.site}/", "-i", "10", "-r", str(RATE)]
    tool += ["-p", "3", "-l", str(warm + PROBES + 3), "-g", "-o", "stats"]
    command = ["sh", "-c", '"$@" >/dev/null 2>&1; cat stats.csv', "sh", *tool]
    with ThreadPoolExecutor(attackers + PROBES) as pool:
        attacks = [pool.submit(subject.auditor.run, command) for _ in range(attackers)]
        time.sleep(warm)
        probes = []
        # From this machine, which has another address than the attackers' containers; one each second.
        for _ in range(PROBES):
            probes.append(pool.submit(_answers, subject, subject.trust))
            time.sleep(1)
        return slow_finding([attack.result().output for attack in attacks], [probe.result() for probe in probes])


def _answers(subject: Subject, trust: ssl.SSLContext) -> bool:
    """Whether the site answers within `PROBE_SECONDS`."""
    began = time.monotonic()
    try:
        status = subject.client.request(subject.site, "/healthz", trust=trust).status
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return status == 200 and time.monotonic() - began < PROBE_SECONDS


def slow_finding(stats: Sequence[str], answered: Sequence[bool]) -> Finding:
    """What the visitor's probes say, and each slowhttptest's statistics, a line a second."""
    tried = held = 0
    for text in stats:
        rows = list(csv.DictReader(text.splitlines()))
        looked(rows and "Connected" in rows[0], "slowhttptest wrote no statistics")
        tried += max(sum(int(row[key]) for key in ("Closed", "Pending", "Connected")) for row in rows)
        held += max(int(row["Connected"]) for row in rows)
    wanted, good = CONNECTIONS * len(stats), sum(answered)
    looked(held, "slowhttptest held no connection")
    looked(len(answered) == PROBES, f"{len(answered)} probes were made of {PROBES}")
    # What wears a host out needn't be all of it; what doesn't must be.
    enough = tried >= 0.9 * wanted or good < PROBES
    looked(enough, f"slowhttptest made {tried:,} connections of {wanted:,}: this machine is too busy")
    return judged(good == PROBES, f"{good}/{PROBES} probes; {tried:,} made, {held:,} held at once")
