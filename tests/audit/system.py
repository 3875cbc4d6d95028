"""What is measured on the host itself, over SSH: ssh-audit's other half, systemd's sandboxes, lynis."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from tests.audit.finding import Finding, Verdict, judged, looked
from tests.audit.subject import Subject
from tests.host._hosts import EXPOSURE

OWN_POLICY = Path(__file__).parent / "ssh-debian13.policy"
POLICIES = {"debian12": "Hardened Debian 12 (version 3)"}
"""ssh-audit's built-in policy of a system; all others are held to `OWN_POLICY`."""

NGINX_EXPOSURE, OWN_EXPOSURE = 2.5, 2.0
LYNIS_INDEX = 78
LYNIS_TESTS = 200
"""Tests that lynis makes at least; 3.0.8 makes 245, 3.1.4 makes 250."""


def ssh(subject: Subject) -> Finding:
    """Whether sshd offers what the policy allows and no more; and whether pyinfra still connects."""
    policy = POLICIES.get(subject.system, OWN_POLICY.name)
    files = {OWN_POLICY.name: OWN_POLICY.read_bytes()}
    # Its test of connection rates would get the auditor refused, which is what OpenSSH answers to that.
    tool = ["ssh-audit", "--no-colors", "--json", "--skip-rate-test", "--port", str(subject.ssh_port)]
    done = subject.auditor.run([*tool, "--policy", policy, subject.auditor.address], files)
    connected = subject.pyinfra(str(subject.inventory), "fact", "server.Os")
    return ssh_finding(done.output, connected.returncode == 0 and "Linux" in connected.stdout, connected.stdout)


def ssh_finding(result: str, connects: bool, log: str = "") -> Finding:
    """What ssh-audit's JSON says of a policy; `connects`: pyinfra did, which `log` shows."""
    try:
        found = json.loads(result)
        passed, policy, wrong = found["passed"], found["policy"], found["errors"]
    except (ValueError, KeyError, TypeError):
        looked(False, f"ssh-audit printed no result: {result[:200]}")
    details = [f"{each['mismatched_field']}: {', '.join(each['actual'])}" for each in wrong]
    if not connects:
        details.append(f"pyinfra can't connect: {log[-300:].strip()}")
    says = "passed" if passed else f"failed in {len(wrong)} lists"
    return judged(
        passed and connects, f"{says}; pyinfra {'connects' if connects else 'is locked out'}", [policy, *details]
    )


def app_units(subject: Subject) -> Finding:
    """How exposed the apps' processes are."""
    looked(subject.apps, "no app runs")
    private = subject.run(f"systemctl show --property=Id,PrivateNetwork,ActiveState -- {' '.join(subject.apps)}")
    shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in private.strip().split("\n\n")]
    looked(all(each["ActiveState"] == "active" for each in shown), f"not active: {subject.apps}")
    bars = {each["Id"]: EXPOSURE["unix" if each["PrivateNetwork"] == "yes" else "internet"] for each in shown}
    return units_finding(_security(subject, *bars), bars)


def nginx_unit(subject: Subject) -> Finding:
    """How exposed nginx's processes are."""
    return units_finding(_security(subject, "nginx.service"), {"nginx.service": NGINX_EXPOSURE})


def own_units(subject: Subject) -> Finding:
    """How exposed the processes of all other services are that no package brought."""
    services = subject.services()
    if not services:
        return Finding(Verdict.LEFT_OUT, "the host has no service of its own")
    return units_finding(_security(subject, *services), dict.fromkeys(services, OWN_EXPOSURE))


def _security(subject: Subject, *units: str) -> str:
    return subject.run(f"systemd-analyze security --no-pager -- {' '.join(units)}", check=False)


def units_finding(printed: str, bars: Mapping[str, float]) -> Finding:
    """What `systemd-analyze security` says of units; `bars` is the highest exposure of each."""
    found = re.findall(r"^\W*Overall exposure level for (\S+): ([\d.]+) ", printed, re.MULTILINE)
    levels = {unit: float(level) for unit, level in found}
    looked(levels.keys() >= bars.keys(), f"systemd-analyze says nothing of {sorted(bars.keys() - levels.keys())}")
    over = [f"{unit}: {levels[unit]} > {bar}" for unit, bar in bars.items() if levels[unit] > bar]
    shown = ", ".join(f"{re.sub(r'@.*', '', unit).removesuffix('.service')} {levels[unit]}" for unit in bars)
    return judged(not over, shown, over)


# From the distribution's package, which is unpacked and not installed, and goes with its folder. apt's own user
# downloads it, into a folder that is open for that.
_LYNIS = """set -e
d=$(mktemp -d) && trap 'rm -rf "$d" /run/lynis.pid' EXIT && chmod 755 "$d" && mkdir "$d/deb" && chmod 777 "$d/deb"
cd "$d/deb"
apt-get -qq download lynis >&2 || { apt-get -qq update >&2; apt-get -qq download lynis >&2; }
dpkg-deb -x lynis_*.deb "$d/lynis" && chown -R root:root "$d/lynis" && cd "$d/lynis/usr/share/lynis"
rm -f /run/lynis.pid
sh ../../sbin/lynis audit system --quick --no-colors --quiet --profile "$d/lynis/etc/lynis/default.prf" \
    --plugindir "$d/lynis/etc/lynis/plugins" --logfile "$d/log" --report-file "$d/report" >"$d/out" 2>&1 || true
grep -q ^finish=true "$d/report" || cat "$d/out"
cat "$d/report"
"""


def lynis(subject: Subject) -> Finding:
    """The hardening index of the host."""
    return lynis_finding(subject.run(_LYNIS))


def lynis_finding(report: str) -> Finding:
    """What lynis' report says."""
    fields = dict(line.split("=", 1) for line in report.splitlines() if "=" in line and not line.startswith("#"))
    tests = [each for each in fields.get("tests_executed", "").split("|") if each]
    looked(fields.get("finish") == "true", f"lynis did not finish: {report[:200]}")
    looked(len(tests) >= LYNIS_TESTS, f"lynis made {len(tests)} tests, fewer than {LYNIS_TESTS}")
    index = int(fields["hardening_index"])
    warnings = re.findall(r"^warning\[\]=(.*)$", report, re.MULTILINE)
    suggestions = re.findall(r"^suggestion\[\]=(.*)$", report, re.MULTILINE)
    met = index >= LYNIS_INDEX and not warnings
    details = [f"warning {each}" for each in warnings] + ([] if met else [f"suggestion {each}" for each in suggestions])
    return judged(met, f"{index}, {len(warnings)} warnings; {len(tests)} tests", details)
