"""What the audit's row of OpenSCAP makes of results."""

from __future__ import annotations

import json

import pytest

from tests.audit import openscap
from tests.audit.finding import DidNotLook, Verdict


def told(*failed: str, passed: int = 90) -> str:
    """Results of a host that keeps so many rules of each profile, and not these."""
    rules = {f"rule_{number}": "pass" for number in range(passed)} | dict.fromkeys(failed, "fail")
    return json.dumps(dict.fromkeys(openscap.PROFILES, rules | {"other": "notapplicable"}))


def test_a_listed_rule_is_told_with_its_reason() -> None:
    finding = openscap.anssi_finding(told("sudo_add_noexec"), container=True)
    assert finding.verdict is Verdict.MET
    assert finding.measured == "minimal 100.0, intermediary 100.0, enhanced 100.0"
    assert finding.details == (f"listed: sudo_add_noexec: {openscap.LISTED['sudo_add_noexec']}",)


def test_any_other_rule_falls_short_where_all_must_be_kept() -> None:
    finding = openscap.anssi_finding(told("sshd_idle_timeout"), container=True)
    assert finding.verdict is Verdict.SHORT and "minimal: sshd_idle_timeout" in finding.details


def test_of_the_highest_profile_a_share_is_asked_for() -> None:
    results = json.loads(told())
    results["enhanced"] |= dict.fromkeys(("a", "b", "c"), "fail")
    assert openscap.anssi_finding(json.dumps(results), container=True).verdict is Verdict.MET
    results["enhanced"] |= dict.fromkeys(map(str, range(10)), "fail")
    assert openscap.anssi_finding(json.dumps(results), container=True).verdict is Verdict.SHORT


def test_a_rule_about_the_kernel_is_listed_in_containers_alone() -> None:
    assert openscap.anssi_finding(told("prefer_64bit_os"), container=True).verdict is Verdict.MET
    assert openscap.anssi_finding(told("prefer_64bit_os"), container=False).verdict is Verdict.SHORT


@pytest.mark.parametrize("printed", [told(passed=20), json.dumps(json.loads(told()) | {"minimal": {"x": "error"}})])
def test_what_judged_too_little_did_not_look(printed: str) -> None:
    with pytest.raises(DidNotLook):
        openscap.anssi_finding(printed, container=True)
