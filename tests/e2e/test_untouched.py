"""What is refused leaves the host as it was: to the last file, package and unit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.conftest import MakeHost

LISTEN = (
    "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die; "
    "while ($c = $s->accept) { close $c }"
)
"""A foreign program at port 80: Perl is on the barest Debian."""


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A bare host that no test here may change."""
    return make_host("untouched", "debian12", bare=True)


@pytest.fixture
def _untouched(host: Host) -> Iterator[None]:
    """The test, with the host compared before and after it."""
    before = host.snapshot()
    assert len(before.splitlines()) > 2000
    yield
    host.unchanged_since(before)


@pytest.mark.usefixtures("_untouched")
@pytest.mark.parametrize("options", [(), ("--dry",)], ids=["run", "dry run"])
def test_all_mistakes_of_an_inventory_are_told_at_once_and_nothing_is_done(
    host: Host, options: tuple[str, ...]
) -> None:
    wrong = {
        "journal_max_size": "lots",
        "hots": {},
        "acme": {"email": "nobody"},
        "apps": {
            "notes": {
                "domains": ["http://notes.test/"],
                "workers": "3",
                "sourc": {"path": "."},
                "app": "notes.main",
                "env_file": "missing.env",
                "max_body_size": "10 MB",
                "tls": {"mode": "selfsigned"},
            },
            "Root": {"domains": ["extra.test"], "source": {"path": "."}, "app": "root.main:app"},
        },
    }
    with host.changed(wrong):
        run = host.deploy(*options, check=False)
    assert run.code != 0
    run.has_no_traceback()
    assert not run.changed
    run.says(
        "12 settings are wrong; the host was not touched",
        "slipway.apps.notes.domains[0] expected: a host name in lower-case ASCII, such as notes.example.com "
        'found: "http://notes.test/"',
        'slipway.apps.notes.workers expected: a whole number from 1 to 256, or None found: "3"',
        'slipway.apps.notes.app expected: an application as module:attribute, or None found: "notes.main"',
        "slipway.apps.notes.max_body_size expected: a size as nginx writes it: digits with k, m or g, or 0 for no",
        'found: "10 MB"',
        "slipway.apps.notes.env_file expected: a .env file",
        'slipway.apps.notes.sourc expected: a setting of slipway.apps.notes found: "sourc", which is unknown '
        'do: rename it to "source"',
        'slipway.apps.notes.tls.mode expected: one of "acme", "self-signed", "files", "off" found: "selfsigned"',
        "slipway.apps.Root expected: a name of 1 to 30 lower-case letters",
        'slipway.journal_max_size expected: a size as journald writes it: digits with K, M, G or T found: "lots"',
        'slipway.acme.email expected: an e-mail address, or None found: "nobody"',
        "slipway.apps.Root.source.path expected: a project with pyproject.toml",
        'slipway.hots expected: a setting of slipway found: "hots", which is unknown',
    )


@pytest.mark.usefixtures("_untouched")
def test_a_pasted_secret_is_refused_and_not_repeated(host: Host) -> None:
    with host.changed({"apps": {"notes": {"env": {"SECRET KEY": "hunter2-hunter2"}, "env_file": "hunter3=hunter3"}}}):
        run = host.refused("settings are wrong")
    assert "hunter2" not in run.output


@pytest.mark.usefixtures("_untouched")
def test_without_root_nothing_is_tried(host: Host) -> None:
    host.data["_sudo"] = False
    try:
        host.refused("can't be provisioned, for 1 reason", "commands don't run as root", '"_sudo": True')
    finally:
        host.data.clear()


@pytest.mark.usefixtures("_untouched")
@pytest.mark.parametrize("verb", ["release", "rollback", "releases"])
def test_what_is_for_provisioned_hosts_is_refused(host: Host, verb: str) -> None:
    run = host.task(f"tasks/{verb}.py", check=False)
    assert run.code != 0
    run.says("isn't ready for notes: run `slipway apply` first; nothing was touched")
    run.has_no_traceback()


def test_reasons_against_a_host_are_told_at_once_and_nothing_is_done(host: Host) -> None:
    host.ssh(f"systemd-run --quiet --unit=squatter perl -e '{LISTEN}'")
    host.ssh("useradd --create-home --home-dir /home/somebody notes")
    wait_until(lambda: "perl" in host.ssh("ss -Hltnp 'sport = :80'"), 10, "the foreign program at port 80")
    before = host.snapshot()
    try:
        run = host.refused(
            "can't be provisioned, for 2 reasons; it was not touched",
            "port 80 is taken by perl (process ",
            "stop and disable that program",
            "slipway.apps.notes: the host already has a user notes with the home /home/somebody, group notes, of ",
        )
        assert not run.changed
        host.unchanged_since(before)
        assert "perl" in host.ssh("ss -Hltnp 'sport = :80'"), "the foreign program was ended"
    finally:
        host.ssh("systemctl stop squatter.service; userdel --remove notes 2>/dev/null")
