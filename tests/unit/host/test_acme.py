"""Certificates on a host that is a folder, with an Internet and a certbot that answer as they are told to."""

from __future__ import annotations

import functools
import json
import socket
import stat
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from slipway_host import acme, http
from slipway_host.system import Done, Failed
from typing_extensions import override

from tests.unit.host.fakes import FakeSystem
from tests.unit.host.folders import tree
from tests.unit.inventories import certificate, new_key

SERVER = "https://ca.example.com/dir"
STAGING = "https://staging.example.com/dir"
NOW = int(time.time())
"""Certificates here are made for just this time."""
HERE = "2: eth0 inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\n2: eth0 inet6 2001:db8::1/64 scope global\n"


class Certbot(FakeSystem):
    """A host whose certbot issues what it is told to; openssl runs for real."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, NOW)
        self.printing["ip -o addr"] = HERE
        self.outputs: list[tuple[int, str]] = [(0, "")]
        """Exit status and output of certbot, each time; the last of them from then on."""
        self.issues: list[str] = []
        self.argv: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.asked = 0
        """How often certbot was called."""
        self.looked = 0
        """How often openssl was."""

    @override
    def run(self, *argv: str, check: bool = True, said: str | bytes = "", **options: Any) -> Done:
        if argv[0] == "openssl":
            self.looked += 1
            told = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
            return Done(argv, told.returncode, told.stdout)
        if argv[0] != str(self.layout.certbot_program):
            return super().run(*argv, check=check, said=said, **options)
        self.argv, self.environment = argv, options["env"]
        code, output = self.outputs[min(self.asked, len(self.outputs) - 1)]
        self.asked += 1
        if self.issues and code == 0:
            issue(self, self.issues)
        return Done(argv, code, output)


@pytest.fixture
def host(tmp_path: Path) -> Certbot:
    """A host without certificates."""
    made = Certbot(tmp_path)
    made.layout.letsencrypt.mkdir(parents=True)
    return made


def issue(
    host: FakeSystem, names: list[str], *, days: int = 30, server: str | None = SERVER, name: str = "notes"
) -> None:
    """What certbot leaves after an order."""
    live, renewal = host.layout.certificate(name), host.layout.renewal(name)
    live.parent.mkdir(parents=True, exist_ok=True)
    renewal.parent.mkdir(exist_ok=True)
    live.write_bytes(certificate(new_key(), names, days))
    lines = ["version = 5.1.0", "[renewalparams]", *([f"server = {server}"] if server else []), "account = a"]
    renewal.write_text("\n".join(lines) + "\n")


def order(host: Certbot, *domains: str, ca_file: str | None = None, check_first: bool = False) -> None:
    """Order the certificate "notes"."""
    acme.order(host, "notes", SERVER, domains, ca_file=ca_file, check_first=check_first)


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_lineage(host: Certbot) -> None:
    assert acme.lineage(host, "notes") is None and acme.lineages(host) == {}
    assert not acme.has(host, "notes", SERVER, ["notes.example.com"])


def test_a_lineage(host: Certbot) -> None:
    issue(host, ["www.notes.example.com", "notes.example.com"])
    domains = ["notes.example.com", "www.notes.example.com"]
    assert acme.lineage(host, "notes") == {"server": SERVER, "domains": domains, "valid": True}


def test_all_lineages_at_once(host: Certbot) -> None:
    issue(host, ["notes.example.com"])
    issue(host, ["wiki.example.com"], name="wiki.next", server=STAGING, days=-1)
    issue(host, ["gone.example.com"], name="gone")
    host.layout.certificate("gone").unlink()
    assert acme.lineages(host) == {
        "notes": {"server": SERVER, "domains": ["notes.example.com"], "valid": True},
        "wiki.next": {"server": STAGING, "domains": ["wiki.example.com"], "valid": False},
    }
    assert host.looked == 2, "a program's start for each, and no more"


def test_a_certificate_is_read_once(host: Certbot) -> None:
    """As long as its file stays the same, whatever else changes."""
    for name in ("notes", "wiki", "lab"):
        issue(host, [f"{name}.example.com"], name=name)
    first = acme.lineages(host)
    assert acme.lineages(host) == first and host.looked == 3
    assert stat.S_IMODE(host.layout.certificates.stat().st_mode) == 0o600
    issue(host, ["other.example.com"], name="wiki", server=STAGING)
    assert acme.lineages(host) == first | {"wiki": {"server": STAGING, "domains": ["other.example.com"], "valid": True}}
    assert host.looked == 4
    host.layout.renewal("lab").unlink()
    assert [*acme.lineages(host)] == ["notes", "wiki"] and host.looked == 4
    assert [*json.loads(host.layout.certificates.read_text())] == ["notes", "wiki"], "what is gone is forgotten"
    host.at += 31 * 86_400
    assert {name: each["valid"] for name, each in acme.lineages(host).items()} == {"notes": False, "wiki": False}
    assert host.looked == 4, "also when it has expired since"


@pytest.mark.parametrize("kept", ["", "[]", '{"notes": 1}', '{"notes": []}', '{"notes": [[1], ["x"]]}'])
def test_what_was_kept_of_certificates_may_be_damaged(host: Certbot, kept: str) -> None:
    issue(host, ["notes.example.com"])
    host.layout.certificates.parent.mkdir(parents=True, exist_ok=True)
    host.layout.certificates.write_text(kept)
    assert acme.lineages(host)["notes"]["domains"] == ["notes.example.com"]


def test_nothing_need_be_kept_of_certificates(host: Certbot, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(host, ["notes.example.com"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host, "replace", full)
    assert acme.lineages(host)["notes"]["valid"] is True


def test_a_certificate_that_is_there_is_not_ordered(host: Certbot) -> None:
    issue(host, ["a.example.com", "b.example.com"])
    order(host, "b.example.com", "a.example.com", check_first=True)
    assert host.asked == 0


def test_a_lineage_without_its_certificate_or_configuration(host: Certbot) -> None:
    issue(host, ["notes.example.com"])
    host.layout.renewal("notes").unlink()
    assert acme.lineage(host, "notes") is None
    issue(host, ["notes.example.com"])
    host.layout.certificate("notes").unlink()
    assert acme.lineage(host, "notes") is None


def test_a_lineage_that_is_broken_is_no_certificate(host: Certbot) -> None:
    issue(host, ["notes.example.com"], server=None)
    assert acme.lineage(host, "notes") == {"server": None, "domains": ["notes.example.com"], "valid": True}
    host.layout.certificate("notes").write_text("half")
    assert acme.lineage(host, "notes") == {"server": None, "domains": [], "valid": False}


@pytest.mark.parametrize(
    ("names", "days", "server", "asked", "answer"),
    [
        (["a.example.com", "b.example.com"], 30, SERVER, ["b.example.com", "a.example.com"], True),
        (["a.example.com"], 30, SERVER, ["a.example.com", "b.example.com"], False),
        (["a.example.com", "b.example.com"], 30, SERVER, ["a.example.com"], False),
        (["a.example.com"], -1, SERVER, ["a.example.com"], False),
        (["a.example.com"], 30, STAGING, ["a.example.com"], False),
    ],
)
def test_whether_there_is_such_a_certificate(
    host: Certbot, names: list[str], days: int, server: str, asked: list[str], answer: bool
) -> None:
    issue(host, names, days=days, server=server)
    assert acme.has(host, "notes", SERVER, asked) is answer


# ── whether it could be issued ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Internet:
    """In place of the network: what answers at an address."""

    answers: dict[str, tuple[int, str] | OSError] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def ask(
        self, connect: functools.partial[socket.socket], path: str, headers: dict[str, str], seconds: float
    ) -> http.Answer:
        """As `http.ask`."""
        (address, port), timeout = connect.args
        assert port == 80 and timeout > 0 and seconds > 0
        self.asked.append((address, path, headers["Host"]))
        answer = self.answers[address]
        if isinstance(answer, OSError):
            raise http.NoAnswer(f"no answer ({answer})")
        return http.Answer(answer[0], answer[1].strip(), {})


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    """Names have the addresses of `answers`, and they answer so."""
    made = Internet()

    def getaddrinfo(domain: str, port: int, **_: Any) -> list[Any]:
        if not made.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in made.answers]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(http, "ask", made.ask)
    return made


def test_a_domain_that_leads_here(host: Certbot, internet: Internet) -> None:
    internet.answers |= {"192.0.2.1": (200, "token\n"), "2001:db8::1": (200, "token")}
    assert acme.problem(host, "a.example.com", "token") is None
    path = "/.well-known/acme-challenge/token"
    assert internet.asked == [("192.0.2.1", path, "a.example.com"), ("2001:db8::1", path, "a.example.com")]


@pytest.mark.usefixtures("internet")
def test_a_domain_without_a_record(host: Certbot) -> None:
    assert acme.problem(host, "a.example.com", "token") == (
        "a.example.com has no A or AAAA record: add one for 192.0.2.1 or 2001:db8::1, wait until it is known, and run "
        "again"
    )


def test_a_resolver_that_does_not_answer(host: Certbot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The domain may be right."""

    def failing(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    assert acme.problem(host, "a.example.com", "token") == (
        "a.example.com can't be looked up on this host (Temporary failure in name resolution): correct its DNS "
        "resolver and run again"
    )


WRONG = (
    "a.example.com has the {kind} record {address}, where this host's challenge file can't be fetched: {seen}. Point "
    "it at 192.0.2.1 or 2001:db8::1, or open port 80 there"
)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((404, "nginx"), "it answers 404"),
        ((301, ""), "it answers 301"),
        ((200, "welcome"), "another machine answers there"),
        (TimeoutError("timed out"), "no answer (timed out)"),
        (ConnectionRefusedError(111, "Connection refused"), "no answer ([Errno 111] Connection refused)"),
    ],
)
def test_a_domain_that_leads_elsewhere(
    host: Certbot, internet: Internet, answer: tuple[int, str] | OSError, seen: str
) -> None:
    internet.answers |= {"192.0.2.9": answer}
    expected = WRONG.format(kind="A", address="192.0.2.9", seen=seen)
    assert acme.problem(host, "a.example.com", "token") == expected


def test_every_address_of_a_domain_must_lead_here(host: Certbot, internet: Internet) -> None:
    """An ACME server prefers IPv6: a forgotten AAAA record is the classic reason for a failed order."""
    internet.answers |= {"192.0.2.1": (200, "token"), "2001:db8::9": (404, "")}
    expected = WRONG.format(kind="AAAA", address="2001:db8::9", seen="it answers 404")
    assert acme.problem(host, "a.example.com", "token") == expected


def test_a_host_that_does_not_know_its_addresses(host: Certbot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minimal image may have no iproute2."""
    assert acme.own_addresses(host) == ["192.0.2.1", "2001:db8::1"]

    def missing(*argv: str, **options: Any) -> None:
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(host, "run", missing)
    assert acme.own_addresses(host) == []


def test_the_check_tells_of_every_domain_at_once(host: Certbot, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = []

    def problem(system: FakeSystem, domain: str, token: str) -> str | None:
        assert (system.layout.challenges / token).read_text() == token
        tokens.append(token)
        return None if domain == "good" else f"{domain} is wrong, {acme.UNREACHED}"

    monkeypatch.setattr(acme, "problem", problem)
    acme.check(host, ["good"])
    with pytest.raises(Failed) as told:
        acme.check(host, ["bad", "good", "worse"])
    assert str(told.value) == (
        "no certificate was ordered, since it could not be issued:\n"
        "  - bad is wrong, where this host's challenge file can't be fetched\n"
        "  - worse is wrong, where this host's challenge file can't be fetched\n"
        "(If this host can't reach itself by its public name, set acme.check to False in the inventory.)"
    )
    assert list(host.layout.challenges.iterdir()) == [], "the challenge file must not stay"
    assert len(set(tokens)) == 2 and all(len(token) > 32 for token in tokens), "nobody may guess it"


@pytest.mark.usefixtures("internet")
def test_a_domain_without_a_record_is_not_a_matter_of_the_check(host: Certbot) -> None:
    """No order could succeed without it either."""
    with pytest.raises(Failed) as told:
        acme.check(host, ["a.example.com"])
    assert str(told.value).endswith("wait until it is known, and run again")


INSIDE = ("10.1.2.3", "172.31.0.1", "192.168.64.10", "100.64.0.1", "169.254.3.4", "fd73:7d::1", "fc00::1")
PUBLIC = ("172.32.0.1", "100.128.0.1", "2001:db8::1")


@pytest.mark.parametrize("public", [(), PUBLIC], ids=["behind NAT", "public"])
def test_no_record_may_lead_to_an_address_that_only_the_host_knows(
    host: Certbot, internet: Internet, public: tuple[str, ...]
) -> None:
    host.printing["ip -o addr"] = "".join(
        f"2: eth0    inet{'6' if ':' in each else ''} {each}/24 scope global eth0\n" for each in (*INSIDE, *public)
    )
    here = "172.32.0.1 or 100.128.0.1 or 2001:db8::1" if public else "this host's public address"
    told = acme.problem(host, "a.example.com", "token")
    assert told == f"a.example.com has no A or AAAA record: add one for {here}, wait until it is known, and run again"
    internet.answers |= {"192.0.2.9": (404, "")}
    told = acme.problem(host, "a.example.com", "token")
    assert told and told.endswith(f"it answers 404. Point it at {here}, or open port 80 there")


# ── an order ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_order(host: Certbot) -> None:
    host.issues = ["a.example.com", "b.example.com"]
    order(host, "a.example.com", "b.example.com", ca_file="/ca.pem")
    assert host.argv == (
        *(str(host.layout.certbot_program), "certonly", "--config", str(host.layout.certbot_ini)),
        *("--cert-name", "notes", "--renew-with-new-domains"),
        *("--domain", "a.example.com", "--domain", "b.example.com"),
    )
    assert host.environment["REQUESTS_CA_BUNDLE"] == "/ca.pem" and "PATH" in host.environment
    assert host.calls == [f"chattr -R -f +S {host.layout.letsencrypt}"]


def test_an_order_from_another_server_is_a_new_one(host: Certbot) -> None:
    issue(host, ["a.example.com"], server=STAGING)
    host.issues = ["a.example.com"]
    order(host, "a.example.com")
    assert "--force-renewal" in host.argv


def test_an_order_for_other_domains_is_no_forced_one(host: Certbot) -> None:
    issue(host, ["a.example.com"])
    host.issues = ["b.example.com"]
    order(host, "b.example.com")
    assert "--force-renewal" not in host.argv


@pytest.mark.parametrize("before", [False, True])
def test_an_order_that_fails(host: Certbot, before: bool) -> None:
    if before:
        issue(host, ["a.example.com"])
    host.outputs = [(1, "\nurn:ietf:params:acme:error:rateLimited\n")]
    with pytest.raises(Failed) as told:
        order(host, "a.example.com", "b.example.com")
    kept = " The certificate from before stays in use." if before else ""
    assert str(told.value) == (
        f"certbot could not get the certificate for a.example.com, b.example.com.{kept} It says:\n"
        f"urn:ietf:params:acme:error:rateLimited\nMore in {host.layout.root}/var/log/letsencrypt/letsencrypt.log."
    )


def test_an_order_is_believed_only_when_the_certificate_is_there(host: Certbot) -> None:
    host.issues = ["other.example.com"]
    with pytest.raises(Failed, match=r"could not get the certificate for a\.example\.com"):
        order(host, "a.example.com")


@pytest.mark.parametrize(
    "output", ["Another instance of Certbot is already running.", "JWS has an invalid anti-replay nonce"]
)
def test_an_order_that_has_to_wait(host: Certbot, output: str) -> None:
    host.issues = ["a.example.com"]
    host.outputs = [(1, output), (1, output), (0, "")]
    order(host, "a.example.com")
    assert host.asked == 3 and host.slept == [2, 2]


def test_an_order_does_not_wait_for_ever(host: Certbot) -> None:
    host.outputs = [(1, "Another instance of Certbot is already running.")]
    with pytest.raises(Failed, match="Another instance of Certbot is already running"):
        order(host, "a.example.com")
    assert 120 <= sum(host.slept) <= 122


def test_an_order_sweeps_a_killed_runs_challenges(host: Certbot) -> None:
    host.layout.challenges.mkdir(parents=True)
    (host.layout.challenges / "slipway-old").write_text("")
    (host.layout.challenges / "certbots-own").write_text("")
    host.issues = ["a.example.com"]
    order(host, "a.example.com")
    assert [path.name for path in host.layout.challenges.iterdir()] == ["certbots-own"]


@pytest.mark.parametrize("check", [False, True])
def test_the_check_can_be_switched_off(host: Certbot, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    checked: list[list[str]] = []
    monkeypatch.setattr(acme, "check", lambda system, domains: checked.append([*domains]))
    host.issues = ["a.example.com"]
    order(host, "a.example.com", check_first=check)
    assert checked == ([["a.example.com"]] if check else [])


def test_what_is_left_of_a_half_made_certificate_is_set_aside(host: Certbot) -> None:
    """certbot refuses a name of which any part is there."""
    issue(host, ["a.example.com"])
    archive, aside = host.layout.letsencrypt / "archive", host.layout.letsencrypt / "set-aside"
    (archive / "notes").mkdir(parents=True)
    (archive / "notes/privkey1.pem").write_text("key")
    (archive / "other").mkdir()
    host.layout.renewal("notes").unlink()
    host.issues = ["a.example.com"]
    order(host, "a.example.com")
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW))
    assert [path.name for path in aside.iterdir()] == [at]
    left = ["archive/notes/privkey1.pem", "live/notes/fullchain.pem"]
    assert sorted(tree(aside / at)) == left, "nothing is thrown away"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    assert (archive / "other").is_dir()
    assert acme.has(host, "notes", SERVER, ["a.example.com"])


def test_a_certificate_that_is_whole_stays_where_it_is(host: Certbot) -> None:
    issue(host, ["a.example.com"])
    host.issues = ["a.example.com", "b.example.com"]
    order(host, "a.example.com", "b.example.com")
    assert not host.layout.set_aside.exists()
