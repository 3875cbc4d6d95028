"""The table: every tool, its bar, and what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.audit import bystander, forged, guests, neighbours, network, openscap, secrets, system, tls, web
from tests.audit.finding import Finding
from tests.audit.subject import Subject
from tests.host._hosts import EXPOSURE


@dataclass(frozen=True)
class Row:
    """One row."""

    name: str
    """For --rows."""
    tool: str
    bar: str
    look: Callable[[Subject], Finding]
    alone: bool = False
    """Whether nothing else may run meanwhile: it wears the host out."""


ANSWERED = f"{network.PROBES} of {network.PROBES} probes"

ROWS = (
    Row("testssl", "testssl.sh", "A+, nothing at LOW or above", tls.testssl),
    Row("lynis", "lynis", f"≥ {system.LYNIS_INDEX}, no warnings", system.lynis),
    Row("openscap", "OpenSCAP, ANSSI-BP-028", f"all of minimal, intermediary; enhanced ≥ {openscap.ENHANCED} %",
        openscap.anssi),
    Row("mozilla", "sslyze, Mozilla intermediate", "compliant", lambda subject: tls.sslyze(subject, "intermediate")),
    Row("mozilla-6.0", "sslyze, Mozilla 6.0", "compliant", lambda subject: tls.sslyze(subject, "6.0")),
    Row("observatory", "HTTP Observatory", f"A+, ≥ {web.OBSERVATORY_SCORE}, all tests", web.observatory),
    Row("gixy", "gixy-ng", "nothing at any level", web.gixy),
    Row("ssh", "ssh-audit, pyinfra", "policy passed; pyinfra connects", system.ssh),
    Row("app-unit", "systemd-analyze, apps",
        f"≤ {EXPOSURE['internet']} (≤ {EXPOSURE['unix']} without network)", system.app_units),
    Row("nginx-unit", "systemd-analyze, nginx", f"≤ {system.NGINX_EXPOSURE}", system.nginx_unit),
    Row("own-units", "systemd-analyze, other own", f"≤ {system.OWN_EXPOSURE:.1f}", system.own_units),
    Row("guest-units", "systemd-analyze, build and release",
        f"≤ {guests.BUILD_EXPOSURE} and ≤ {guests.RELEASE_EXPOSURE}", guests.guest_units),
    Row("ports", "nmap, IPv4", "22, 80, 443 only", network.ports4),
    Row("ports6", "nmap, IPv6", "22, 80, 443 only", network.ports6),
    Row("headers", "forged headers", "none believed", forged.headers),
    Row("names", "unknown Host and SNI", "no 200, no certificate", forged.names),
    Row("raw", "malformed requests", "no 200", forged.raw),
    Row("bystander", "smuggled requests", "own answers, whole bodies", bystander.bystander, alone=True),
    Row("neighbours", "attacks from an app and a build", "nothing succeeds", neighbours.neighbours, alone=True),
    Row("secrets-output", "secrets, deploy at -vvv", "nothing", secrets.deploy_output),
    Row("secrets-files", "secrets, readable files", "nothing", secrets.readable_files),
    Row("secrets-processes", "secrets, process list", "nothing", secrets.process_list),
    Row("slow-headers", "slowhttptest, 4,000 headers", ANSWERED, network.slow_headers, alone=True),
    Row("slow-bodies", "slowhttptest, 4,000 bodies", ANSWERED, network.slow_bodies, alone=True),
    Row("slow-many", "slowhttptest, 12,000 headers", ANSWERED, network.many_slow_headers, alone=True),
)  # fmt: skip
