"""sslyze and testssl.sh: what the site's TLS offers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.audit.finding import Finding, judged, looked
from tests.audit.subject import Subject

MOZILLA_6 = Path(__file__).parent / "mozilla-6.0.json"
"""Mozilla's Server Side TLS 6.0, intermediate: https://ssl-config.mozilla.org/guidelines/6.0.json. What sslyze asks for
beyond it (lists for Caddy and Go, which it doesn't use) is empty."""

SUITES = 150
"""Cipher suites that sslyze tries at least, over all versions; 6.3 tries 382."""
TESTSSL_FINDINGS = 100
"""Findings that a whole run of testssl.sh has at least; 3.2.1 has 161."""
OBJECTIONS = frozenset({"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"})
"""Severities that count; WARN and DEBUG are about the tool and its machine."""
OF_A_TEST_CA = frozenset({"cert_revocation", "DNS_CAArecord"})
"""What a certificate of a test CA can't have: a list of revoked ones, and a CAA record of a name in no DNS."""

_MARK = "=== exit status"


def sslyze(subject: Subject, profile: str) -> Finding:
    """Whether the site is as Mozilla's intermediate profile wants it.

    + profile: "intermediate" is what sslyze brings along (5.7); "6.0" is the newest
    """
    ca = ["--certinfo_ca_file", "ca.pem"] if subject.ca else []
    wanted = ["--custom_tls_config", MOZILLA_6.name] if profile == "6.0" else ["--mozilla_config", profile]
    where = f"{subject.site}:443{{{subject.auditor.address}}}"
    script = f'"$@" >text 2>errors; echo "{_MARK} $?" >>text; cat text; cat result.json >&2'
    done = subject.auditor.run(
        ["sh", "-c", script, "sh", "sslyze", "--certinfo", *ca, *wanted, "--json_out", "result.json", where],
        {"ca.pem": subject.ca, MOZILLA_6.name: MOZILLA_6.read_bytes()},
    )
    return sslyze_finding(done.output, done.errors, subject.site, trusted="Supplied CA file" if subject.ca else "")


def sslyze_finding(text: str, result: str, site: str, trusted: str) -> Finding:
    """What sslyze's text and its JSON say.

    + trusted: trust store by which the certificate must be valid; empty: any
    """
    code = re.search(rf"^{_MARK} (\d+)$", text, re.MULTILINE)
    looked(code, "sslyze printed nothing")
    assert code
    try:
        [server] = json.loads(result)["server_scan_results"]
    except (ValueError, KeyError, TypeError):
        looked(False, "sslyze wrote no result")
    looked(server["scan_status"] == "COMPLETED", f"sslyze could not connect: {server['connectivity_status']}")
    scans: dict[str, Any] = server["scan_result"]
    versions = [each["result"] for name, each in scans.items() if name.endswith("_cipher_suites") and each["result"]]
    tried = sum(len(each["accepted_cipher_suites"]) + len(each["rejected_cipher_suites"]) for each in versions)
    looked(tried >= SUITES, f"sslyze tried {tried} cipher suites, fewer than {SUITES}")
    deployments = scans["certificate_info"]["result"]["certificate_deployments"]
    named = [each["received_certificate_chain"][0]["subject_alternative_name"]["dns_names"] for each in deployments]
    looked(named and all(_covers(names, site) for names in named), f"sslyze saw a certificate of {named}, not {site}")
    valid = [
        any(path["was_validation_successful"] and trusted in ("", path["trust_store"]["name"])
            for path in each["path_validation_results"]) for each in deployments
    ]  # fmt: skip
    verdict = re.search(rf"{re.escape(site)}:443: (OK|FAILED|ERROR)\b[^\n]*((?:\n +\* [^\n]*)*)", text)
    looked(verdict and verdict[1] != "ERROR", "sslyze did not compare the site with the profile")
    assert verdict
    details = [line.strip(" *") for line in verdict[2].splitlines() if line.strip()]
    if not all(valid):
        details.append("the certificate is not trusted")
    met = verdict[1] == "OK" and code[1] == "0" and all(valid)
    says = "compliant" if met else f"not compliant: {', '.join(each.split(':')[0] for each in details)}"
    return judged(met, f"{says}; {tried} suites tried", details)


def testssl(subject: Subject) -> Finding:
    """The grade that testssl.sh gives the site, and what it objects to."""
    ca = ["--add-ca", "ca.pem"] if subject.ca else []
    tool = ["testssl", "--color", "0", "--quiet", "--ip", subject.auditor.address, *ca]
    script = '"$@" >text 2>&1; cat result.json'
    done = subject.auditor.run(
        ["sh", "-c", script, "sh", *tool, "--jsonfile", "result.json", f"{subject.site}:443"],
        {"ca.pem": subject.ca},
        timeout=900,
    )
    looked(done.code != 124, f"testssl.sh: {done.errors}")
    return testssl_finding(done.output, subject.site, OF_A_TEST_CA if subject.ca else frozenset())


def testssl_finding(result: str, site: str, allowed: frozenset[str]) -> Finding:
    """What testssl.sh's JSON says; `allowed` are ids of findings that don't count."""
    try:
        findings: list[dict[str, str]] = json.loads(result)
    except ValueError:
        findings = []
    looked(len(findings) >= TESTSSL_FINDINGS, f"testssl.sh has {len(findings)} findings, fewer than {TESTSSL_FINDINGS}")
    by_id = {each["id"]: each["finding"] for each in findings}
    names = by_id.get("cert_subjectAltName", by_id.get("cert_subjectAltName <cert#1>", "")).split()
    looked(_covers(names, site), f"testssl.sh saw a certificate of {names}, not {site}")
    grade, score = by_id.get("overall_grade"), by_id.get("final_score")
    looked(grade and score, "testssl.sh gave no grade")
    ignored = allowed | {"overall_grade"}
    objections = [each for each in findings if each["severity"] in OBJECTIONS and each["id"] not in ignored]
    met = grade == "A+" and not objections
    details = [f"{each['severity']} {each['id']}: {each['finding']}" for each in objections]
    details += [f"{name}: {text}" for name, text in by_id.items() if name.startswith("grade_cap_reason")]
    return judged(met, f"{grade} ({score}), {len(objections)} objections; {len(findings)} findings", details)


def _covers(names: list[str], site: str) -> bool:
    return site in names or f"*.{site.partition('.')[2]}" in names
