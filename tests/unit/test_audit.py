"""What the audit makes of the tools' output: captured runs (tests/unit/audit), and runs that saw nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.audit import __main__ as audit
from tests.audit import bystander, forged, network, secrets, system, tls, web
from tests.audit.finding import DidNotLook, Finding, Verdict
from tests.audit.rows import ROWS
from tests.host._hosts import FORGED_ADDRESS

CAPTURED = Path(__file__).parent / "audit"
SITE = "notes.test"
TRUSTED = "Supplied CA file"
DUMP = "\nserver {\n    server_name notes.test;\n}\n"
IS_DUMP = "Switched to parse nginx configuration dump."


def captured(name: str) -> str:
    """Output of a real run against a host without hardening, shortened to what is read of it."""
    return (CAPTURED / name).read_text()


def compliant() -> str:
    """sslyze's text where it has no objection."""
    text = captured("sslyze.txt").replace("FAILED - Not compliant.", "OK - Compliant.").replace("status 1", "status 0")
    return "\n".join(line for line in text.splitlines() if "* tls_curves" not in line) + "\n"


def test_captured_runs_fall_short() -> None:
    """Each says in a few words what it measured, and what to look at."""
    found = {
        "sslyze": tls.sslyze_finding(captured("sslyze.txt"), captured("sslyze.json"), SITE, TRUSTED),
        "testssl": tls.testssl_finding(captured("testssl.json"), SITE, tls.OF_A_TEST_CA),
        "observatory": web.observatory_finding(captured("observatory.json")),
        "ssh": system.ssh_finding(captured("ssh-audit.json"), connects=True),
        "units": system.units_finding(captured("security.txt"), {"nginx.service": 2.5}),
        "lynis": system.lynis_finding(captured("lynis-report.dat")),
        "ports": network.ports_finding(captured("nmap.xml"), frozenset({22, 443})),
        "secrets": secrets.secrets_finding(captured("detect-secrets.json"), [], "1 kB"),
    }
    assert {name: finding.verdict for name, finding in found.items()} == dict.fromkeys(found, Verdict.SHORT)
    assert {name: finding.measured for name, finding in found.items()} == {
        "sslyze": "not compliant: tls_curves; 408 suites tried",
        "testssl": "A (96), 3 objections; 161 findings",
        "observatory": "D, 30; 6/10 tests",
        "ssh": "failed in 6 lists; pyinfra connects",
        "units": "nginx 9.6",
        "lynis": "63, 0 warnings; 251 tests",
        "ports": "22, 80, 443 open of 65535",
        "secrets": "0 known, 1 suspected; 1 kB",
    }
    assert all(finding.details for finding in found.values())
    assert found["ports"].details == ("80 is open",)
    assert found["secrets"].details == ("Secret Keyword in etc/app.env:1",)


def test_mozilla_s_profile_is_met() -> None:
    found = tls.sslyze_finding(compliant(), captured("sslyze.json"), SITE, TRUSTED)
    assert found == Finding(Verdict.MET, "compliant; 408 suites tried")


def test_untrusted_certificate_falls_short() -> None:
    """sslyze's comparison doesn't look at who signed it."""
    found = tls.sslyze_finding(compliant(), captured("sslyze.json"), SITE, "Mozilla")
    assert found.verdict is Verdict.SHORT
    assert found.details == ("the certificate is not trusted",)


def test_exit_code_counts_too() -> None:
    text = compliant().replace("status 0", "status 1")
    assert tls.sslyze_finding(text, captured("sslyze.json"), SITE, TRUSTED).verdict is Verdict.SHORT


def test_grade_and_objections_count() -> None:
    findings = [each for each in json.loads(captured("testssl.json")) if each["severity"] in {"OK", "INFO", "WARN"}]
    assert tls.testssl_finding(json.dumps(findings), SITE, frozenset()).verdict is Verdict.SHORT, "grade A"
    best = [each | {"finding": "A+"} if each["id"] == "overall_grade" else each for each in findings]
    assert tls.testssl_finding(json.dumps(best), SITE, frozenset()).verdict is Verdict.MET
    objected = [*best, {"id": "cert_revocation", "severity": "HIGH", "finding": "none"}]
    assert tls.testssl_finding(json.dumps(objected), SITE, frozenset()).verdict is Verdict.SHORT
    assert tls.testssl_finding(json.dumps(objected), SITE, tls.OF_A_TEST_CA).verdict is Verdict.MET


def test_observatory_bar() -> None:
    found = json.loads(captured("observatory.json"))
    found["scan"] |= {"grade": "A+", "score": 115}
    assert web.observatory_finding(json.dumps(found)).verdict is Verdict.SHORT, "tests failed"
    found["tests"] = {name: test for name, test in found["tests"].items() if test["pass"]}
    assert web.observatory_finding(json.dumps(found)).verdict is Verdict.MET
    found["scan"]["score"] = 110
    assert web.observatory_finding(json.dumps(found)).verdict is Verdict.SHORT


def test_gixy_bar() -> None:
    issue = {"severity": "LOW", "plugin": "p", "summary": "s", "file": "f"}
    assert web.gixy_finding("[]", IS_DUMP, DUMP, SITE).verdict is Verdict.MET
    assert web.gixy_finding(json.dumps([issue]), IS_DUMP, DUMP, SITE).verdict is Verdict.SHORT


def test_policy_without_a_connection_falls_short() -> None:
    passed = json.dumps({"passed": True, "policy": "p", "errors": []})
    assert system.ssh_finding(passed, connects=True).verdict is Verdict.MET
    assert system.ssh_finding(passed, connects=False).verdict is Verdict.SHORT


def test_exposures_are_held_to_their_own_bars() -> None:
    bars = {"nginx.service": 9.6, "certbot-renew.service": 9.0}
    assert system.units_finding(captured("security.txt"), bars).verdict is Verdict.MET
    bars["certbot-renew.service"] = 8.9
    assert system.units_finding(captured("security.txt"), bars).details == ("certbot-renew.service: 9.0 > 8.9",)


def test_lynis_bar() -> None:
    good = captured("lynis-report.dat").replace("hardening_index=63", "hardening_index=78")
    assert system.lynis_finding(good).verdict is Verdict.MET
    assert system.lynis_finding(good + "warning[]=SSH-7402|x|-|-|\n").verdict is Verdict.SHORT


def test_ports_bar() -> None:
    assert network.ports_finding(captured("nmap.xml"), network.OPEN).verdict is Verdict.MET


def test_every_probe_must_be_answered() -> None:
    stats = "Seconds,Closed,Pending,Connected,Service Available\n0,0,1,0,4000\n5,10,1000,2990,4000\n"
    answered = [True] * network.PROBES
    assert network.slow_finding([stats], answered) == Finding(
        Verdict.MET, "15/15 probes; 4,000 made, 2,990 held at once"
    )
    assert network.slow_finding([stats, stats], [False, *answered[1:]]).verdict is Verdict.SHORT


def test_a_host_worn_out_by_part_of_an_attack_falls_short() -> None:
    """Where every visitor was answered, that part shows nothing (`test_what_saw_nothing_did_not_look`)."""
    found = network.slow_finding([captured("slowhttptest.csv")], [False] * network.PROBES)
    assert found == Finding(Verdict.SHORT, "0/15 probes; 1,676 made, 1,675 held at once")


def test_what_the_app_believes_is_told() -> None:
    seen = {"client": "172.31.0.1", "scheme": "https", "host": SITE, "url": f"https://{SITE}/api/whoami"}
    true = {"x-forwarded-for": "172.31.0.1", "x-forwarded-port": "443"}
    assert forged.headers_finding(200, json.dumps(seen | {"headers": true})).verdict is Verdict.MET
    appended = true | {"x-forwarded-for": f"{FORGED_ADDRESS}, 172.31.0.1"}
    found = forged.headers_finding(200, json.dumps(seen | {"headers": appended}))
    assert found.details == ("x-forwarded-for: 6.6.6.6, 172.31.0.1",)


def test_a_second_answer_counts_as_one() -> None:
    """A smuggled request is answered after the one that carried it."""
    both = b"HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    assert forged.raw_finding({"a": both}).verdict is Verdict.SHORT
    assert forged.raw_finding({"a": b"", "b": b"HTTP/1.1 400 Bad Request\r\n\r\n"}).verdict is Verdict.MET


def test_unknown_names_get_nothing() -> None:
    refused = {"Host": "HTTP/1.1 421 Misdirected Request", "SNI": "refused"}
    assert forged.names_finding(refused).verdict is Verdict.MET
    assert forged.names_finding(refused | {"SNI": "a certificate of CN=notes.test"}).verdict is Verdict.SHORT
    assert forged.names_finding(refused | {"Host": "HTTP/1.1 200 OK"}).verdict is Verdict.SHORT


def test_known_and_suspected_secrets_fall_short() -> None:
    found = json.loads(captured("detect-secrets.json"))
    del found["results"]["scanned/etc/app.env"]
    assert secrets.secrets_finding(json.dumps(found), [], "").verdict is Verdict.MET
    assert secrets.secrets_finding(json.dumps(found), ["a token is in x"], "").verdict is Verdict.SHORT


OTHER_SITE = captured("sslyze.json").replace('"dns_names": ["notes.test"]', '"dns_names": ["other.test"]')
FEW_SUITES = json.dumps(
    {"server_scan_results": [{"scan_status": "COMPLETED", "connectivity_status": "COMPLETED", "scan_result": {}}]}
)
BARE_TEXT = compliant().replace("OK - Compliant.", "")
NO_CANARY = json.dumps({"results": {}})
FEW_PORTS = captured("nmap.xml").replace('count="65532"', 'count="997"')
ALL_CLOSED = captured("nmap.xml").replace('state="open"', 'state="filtered"')
UNFINISHED = captured("lynis-report.dat").replace("finish=true", "")
FEW_TESTS = captured("lynis-report.dat").replace("HRDN-7231|", "\nx=")
ANSWERED = [True] * network.PROBES


@pytest.mark.parametrize(
    "parse",
    [
        lambda: tls.sslyze_finding("", "", SITE, TRUSTED),
        lambda: tls.sslyze_finding(compliant(), "", SITE, TRUSTED),
        lambda: tls.sslyze_finding(compliant(), FEW_SUITES, SITE, TRUSTED),
        lambda: tls.sslyze_finding(compliant(), OTHER_SITE, SITE, TRUSTED),
        lambda: tls.sslyze_finding(compliant(), json.dumps({"server_scan_results": []}), SITE, TRUSTED),
        lambda: tls.sslyze_finding(BARE_TEXT, captured("sslyze.json"), SITE, TRUSTED),
        lambda: tls.testssl_finding("", SITE, frozenset()),
        lambda: tls.testssl_finding("[]", SITE, frozenset()),
        lambda: tls.testssl_finding(captured("testssl.json"), "other.test", frozenset()),
        lambda: tls.testssl_finding(captured("testssl.json").replace("overall_grade", "x"), SITE, frozenset()),
        lambda: web.observatory_finding(""),
        lambda: web.observatory_finding('{"error": "site down"}'),
        lambda: web.observatory_finding(captured("observatory.json").replace('"statusCode": 200', '"statusCode": 503')),
        lambda: web.observatory_finding(
            captured("observatory.json").replace('"testsQuantity": 10', '"testsQuantity": 0')
        ),
        lambda: web.gixy_finding("", IS_DUMP, DUMP, SITE),
        lambda: web.gixy_finding("[]", IS_DUMP, "", SITE),
        lambda: web.gixy_finding("[]", IS_DUMP, DUMP, "other.test"),
        lambda: web.gixy_finding("[]", "", DUMP, SITE),
        lambda: system.ssh_finding("", connects=True),
        lambda: system.ssh_finding("[exception] cannot connect to 192.0.2.1 port 22: No route to host", connects=True),
        lambda: system.units_finding("", {"nginx.service": 9.9}),
        lambda: system.units_finding(captured("security.txt"), {"nginx.service": 9.9, "app.service": 9.9}),
        lambda: system.lynis_finding(""),
        lambda: system.lynis_finding(UNFINISHED),
        lambda: system.lynis_finding(FEW_TESTS),
        lambda: network.ports_finding("", network.OPEN),
        lambda: network.ports_finding(captured("nmap-nobody.xml"), network.OPEN),
        lambda: network.ports_finding(FEW_PORTS, network.OPEN),
        lambda: network.ports_finding(ALL_CLOSED, network.OPEN),
        lambda: network.slow_finding([""], ANSWERED),
        lambda: network.slow_finding([captured("slowhttptest.csv")], ANSWERED),
        lambda: network.slow_finding(["Closed,Pending,Connected\n4000,0,0\n"], ANSWERED),
        lambda: network.slow_finding(["Closed,Pending,Connected\n0,0,4000\n"], ANSWERED[1:]),
        lambda: forged.headers_finding(502, "<html>"),
        lambda: forged.headers_finding(200, "[]"),
        lambda: bystander.bystander_finding(bystander.Seen(forms=35, visits=99)),
        lambda: bystander.bystander_finding(bystander.Seen(forms=27, visits=500)),
        lambda: secrets.secrets_finding("", [], ""),
        lambda: secrets.secrets_finding(NO_CANARY, [], ""),
    ],
)
def test_what_saw_nothing_did_not_look(parse: Callable[[], Finding]) -> None:
    """Whatever its exit code: nothing objected to is no good sign where nothing was looked at."""
    with pytest.raises(DidNotLook):
        parse()


def test_a_visitor_gets_the_own_answers() -> None:
    """One of another's is a fault, and one body that didn't arrive whole."""
    good = bystander.Seen(forms=35, visits=500)
    assert bystander.bystander_finding(good).verdict is Verdict.MET
    strange = bystander.bystander_finding(replace(good, strange=["visit 7: 200 /api/whoami?hidden"]))
    assert (strange.verdict, strange.details) == (Verdict.SHORT, ("visit 7: 200 /api/whoami?hidden",))
    assert bystander.bystander_finding(replace(good, cut=["POST, h2c"])).details == ("cut: POST, h2c",)


def test_an_upgrade_is_asked_for_in_many_forms() -> None:
    """With methods that have a body and those that haven't, of each version, and with requests in the bodies."""
    sent = [what for what, _, _ in bystander.attacks(lambda protocol: pytest.fail(protocol), SITE, b"")]
    assert len(set(sent)) == len(sent) == 35
    assert {what.split(",")[0] for what in sent} == {*bystander.STARTS, "HTTP/2"}
    for before in (0, 24_576):
        body = bystander.hiding(SITE, before)
        assert body[before:].startswith(b"GET /api/whoami?hidden HTTP/1.1\r\n") and body.endswith(b"\r\n\r\n")
        assert 40_000 < len(body) < 41_000


def test_requests_are_malformed_each_in_its_own_way() -> None:
    requests = forged.raw_requests(SITE)
    assert len(set(requests.values())) == len(requests) >= 20


def test_verdict_is_of_both_hosts() -> None:
    """A row that can't look fails on either; one that an unhardened host passes proves nothing."""
    found = {str(verdict): Finding(verdict, "") for verdict in Verdict}
    assert audit.failed(found) == ["falls short", "did not look"]
    assert audit.summary(found) == "1 of 4 rows meet their bars, 1 left out."
    assert audit.unproven(found) == ["meets", "did not look"]


def test_table_has_every_row() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    findings = {row.name: Finding(Verdict.MET, "seen") for row in ROWS}
    lines = audit.table(ROWS, findings).splitlines()
    assert len(lines) == len(ROWS) + 1
    assert all(line.endswith("meets") and row.bar in line for row, line in zip(ROWS, lines[1:], strict=True))


def test_unknown_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        audit.main(["--rows", "ports,prots"])
    assert "prots: choose from testssl" in capsys.readouterr().err


def test_mozilla_profile_is_the_newest_guideline_s() -> None:
    """Six suites of TLS 1.2, no finite-field DH, and a post-quantum curve."""
    profile = json.loads(tls.MOZILLA_6.read_text())
    assert profile["tls_versions"] == ["TLSv1.2", "TLSv1.3"]
    assert len(profile["ciphers"]["openssl"]) == len(profile["ciphers"]["iana"]) == 6
    assert profile["tls_curves"][0] == "X25519MLKEM768"
