"""The HTTP Observatory and gixy: the site's headers, and nginx's configuration."""

from __future__ import annotations

import json

from tests.audit.finding import Finding, judged, looked
from tests.audit.subject import Subject

OBSERVATORY_TESTS = 10
OBSERVATORY_SCORE = 115
"""MDN gives 135 at most; an A+ begins at 100."""

_OBSERVATORY = "/opt/observatory/node_modules/@mdn/mdn-http-observatory"


def observatory(subject: Subject) -> Finding:
    """MDN's grade of the site's headers."""
    # Its list of top-level domains is downloaded otherwise; what it needs there is the site's own.
    top = json.dumps([subject.site.rpartition(".")[2]])
    script = 'cp tld-list.json "$1/conf/" && cd "$1" && exec node src/scan.js "$2"'
    done = subject.auditor.run(
        ["sh", "-c", script, "sh", _OBSERVATORY, subject.site],
        {"ca.pem": subject.ca, "tld-list.json": top.encode()},
        options=["--env=NODE_EXTRA_CA_CERTS=/work/ca.pem"] if subject.ca else [],
    )
    return observatory_finding(done.output, done.errors)


def observatory_finding(result: str, errors: str = "") -> Finding:
    """What its JSON says."""
    try:
        found = json.loads(result)
        scan = found["scan"]
    except (ValueError, KeyError, TypeError):
        looked(False, f"the Observatory printed no result: {errors[-200:]}")
    looked(not scan.get("error"), f"the Observatory failed: {scan.get('error')}")
    looked(scan["statusCode"] == 200, f"the Observatory got status {scan['statusCode']}")
    looked(scan["testsQuantity"] >= OBSERVATORY_TESTS, f"the Observatory made {scan['testsQuantity']} tests only")
    failed = [f"{name}: {test['result']} ({test['scoreModifier']:+})" for name, test in found["tests"].items()
              if not test["pass"]]  # fmt: skip
    met = scan["grade"] == "A+" and scan["score"] >= OBSERVATORY_SCORE and not failed
    return judged(met, f"{scan['grade']}, {scan['score']}; {scan['testsPassed']}/{scan['testsQuantity']} tests", failed)


def gixy(subject: Subject) -> Finding:
    """What gixy-ng says of the configuration that nginx would load."""
    dump = subject.run("nginx -T 2>/dev/null")
    done = subject.auditor.run(["gixy", "--format", "json", "nginx.dump"], {"nginx.dump": dump.encode()})
    return gixy_finding(done.output, done.errors, dump, subject.site)


def gixy_finding(result: str, errors: str, dump: str, site: str) -> Finding:
    """What its JSON says of this dump."""
    looked(dump.count("\nserver {") + dump.count("\n    server {") and site in dump, f"nginx -T shows no site {site}")
    looked("configuration dump" in errors, "gixy did not take its input for a dump of nginx -T")
    try:
        issues: list[dict[str, str]] = json.loads(result)
    except ValueError:
        looked(False, "gixy printed no result")
    levels = ", ".join(
        f"{count} {level.lower()}" for level in ("HIGH", "MEDIUM", "LOW", "UNSPECIFIED")
        if (count := sum(each["severity"] == level for each in issues))
    )  # fmt: skip
    servers = dump.count("server {")
    details = [f"{each['severity']} {each['plugin']}: {each['summary']} ({each['file']})" for each in issues]
    return judged(not issues, f"{levels or 'nothing'}; {servers} servers read", details)
