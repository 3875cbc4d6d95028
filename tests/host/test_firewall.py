"""roles/firewall: the rules that are loaded are those of the settings, and a reboot keeps them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roles.firewall.facts import FirewallState
from roles.ssh.facts import SshdState
from tests.host._hosts import Target


@pytest.fixture
def rules(target: Target) -> list[dict[str, Any]]:
    """What nft says of our table; skips the test where there is to be none."""
    if not target.settings.firewall.enabled:
        pytest.skip("firewall.enabled is False: nothing is filtered")
    listed = json.loads(target.run("nft --json list table inet slipway"))
    return [dict(each) for each in listed["nftables"]]


def test_what_is_not_asked_for_is_dropped(rules: list[dict[str, Any]]) -> None:
    """By IPv4 and IPv6 alike: the family is inet."""
    chains = {each["chain"]["name"]: each["chain"] for each in rules if "chain" in each}
    assert (chains["input"]["hook"], chains["input"]["policy"]) == ("input", "drop")


def test_the_open_ports_are_those_of_the_settings(target: Target, rules: list[dict[str, Any]]) -> None:
    """Of each rule that accepts TCP by its port: sshd's, nginx's and those asked for."""
    fact = SshdState()
    sshd = fact.process(target.run(fact.command().get_raw_value()).splitlines())
    listens = {int(port) for port in sshd.effective.get("port", ("22",))}
    own = {target.settings.ssh.port} if target.settings.ssh.enabled and target.settings.ssh.port else listens
    wanted = {*own, 80, 443, *target.settings.firewall.tcp_ports}
    found: set[int] = set()
    for rule in (each["rule"]["expr"] for each in rules if "rule" in each and each["rule"]["chain"] == "input"):
        match = next((one["match"] for one in rule if one.get("match", {}).get("left") == DPORT), None)
        if match and any(key in one for one in rule for key in ("accept", "goto")):
            right = match["right"]
            found |= set(right["set"]) if isinstance(right, dict) else {right}
    if target.settings.firewall.extra:
        assert wanted <= found
    else:
        assert wanted <= found <= wanted | listens


RULES = {
    "input": ("ct state established,related accept", "ct state invalid drop", 'iifname "lo" accept'),
    "output": ("ip saddr 127.83.76.87 meta skuid != 0", "meta skuid @apps goto apps", "goto local_ssh"),
    "apps": ("reject with tcp reset", "ct count over 200"),
    "local_ssh": ("limit rate over 20/second", "ct count over 8"),
}
"""Chain → what must be in it, whatever the settings."""


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("chain", RULES)
def test_rules_that_are_there_on_every_host(target: Target, chain: str) -> None:
    """As nft prints them, but for its counters."""
    told = target.run(f"nft --stateless list chain inet slipway {chain}")
    assert [rule for rule in RULES[chain] if rule not in told] == []


DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}


@pytest.mark.usefixtures("rules")
def test_the_loaded_rules_are_those_of_the_file(target: Target) -> None:
    """Nobody changed them since."""
    fact = FirewallState()
    found = fact.process(target.run(fact.command("/etc/slipway/firewall.nft").get_raw_value()).splitlines())
    assert found.loaded and found.live


@pytest.mark.usefixtures("rules")
def test_a_reboot_keeps_the_rules(target: Target) -> None:
    """They are loaded before the network is up."""
    unit = target.show("slipway-firewall.service", "UnitFileState", "ActiveState", "Before")
    assert (unit["UnitFileState"], unit["ActiveState"]) == ("enabled", "active")
    assert "network-pre.target" in unit["Before"]


def test_no_table_is_left_where_the_firewall_is_off(target: Target) -> None:
    """Nothing is half filtered."""
    if target.settings.firewall.enabled:
        pytest.skip("firewall.enabled is True")
    assert "inet slipway" not in target.host.run("nft list tables").stdout
