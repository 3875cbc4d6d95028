"""Runs that were killed, and hosts changed by hand: the next run heals them, and the one after has nothing to do."""

from __future__ import annotations

import pytest

from tests.e2e._driver import Host, log, wait_until
from tests.e2e.apps import ON_HOST
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """The story's host, bare at first."""
    host = make_host("healing", "debian12", bare=True)
    host.settings(apps__notes__watch=1, apps__notes__keep_warm=0)
    return host


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

MOMENTS = (
    "dpkg .*--unpack",
    "dpkg .*--configure",
    "pip install .*--require-hashes",
    "uv python install",
    "uv pip sync",
    "certbot certonly",
    "uv sync",
    "schema/__main__.py upgrade",
    "gunicorn --config",
)
"""Command lines on the host that a first deploy runs, in this order; each is met in another state of the host."""


def test_a_first_deploy_killed_again_and_again_goes_on_from_where_it_was(host: Host) -> None:
    for moment in MOMENTS:
        host.deploy_killed_at(moment)
        # The release is a unit of its own, which the end of a connection doesn't end.
        host.ssh("systemctl kill --signal=KILL 'notes-*.service'", check=False)
    assert host.release() == ""


def test_the_next_run_ends_it_and_the_one_after_changes_nothing(host: Host) -> None:
    host.deploy()
    assert host.get("/readyz").status_code == 200
    assert len(host.releases()) == 1
    host.converged()


# ── changed by hand ──────────────────────────────────────────────────────────────────────────────────────────────────

Drift = tuple[str, str]
"""What is done by hand, and what is true again after the next run."""

EDITED: tuple[Drift, ...] = (
    ("echo '# by hand' >>/etc/nginx/slipway/sites/notes.conf", "! grep -r 'by hand' /etc/nginx/slipway/"),
    ("echo 'X=\"1\"' >>/etc/notes/env", "! grep '^X=' /etc/notes/env"),
    ("chmod 644 /etc/notes/env", "[ $(stat -c %a:%U:%G /etc/notes/env) = 640:root:notes ]"),
    ("chown notes /srv/notes", "[ $(stat -c %a:%U:%G /srv/notes) = 755:root:root ]"),
    ("sed -i s/release_/relase_/ /etc/nginx/upstreams/notes.conf", "! grep relase_ /etc/nginx/upstreams/notes.conf"),
    ("echo 'raise SystemExit' >/opt/slipway/bin/slipway", "/opt/slipway/bin/slipway nginx status"),
    ("echo >/etc/systemd/journald.conf.d/50-slipway.conf", "grep SystemMaxUse /etc/systemd/journald.conf.d/*"),
    (
        "ln -sfn /usr/share/zoneinfo/Europe/Berlin /etc/localtime",
        "[ $(readlink -f /etc/localtime) = $(readlink -f /usr/share/zoneinfo/Etc/UTC) ]",
    ),
)
OFF: tuple[Drift, ...] = (
    ("systemctl disable --now --quiet nginx", "systemctl is-active nginx && systemctl is-enabled nginx"),
    ("systemctl stop 'notes@*.service' 'notes@*.socket'", "systemctl is-active 'notes@*.service'"),
    (
        "systemctl disable --quiet $(cd /etc/systemd/system; ls -d notes@*.socket)",
        "systemctl is-enabled $(cd /etc/systemd/system; ls -d notes@*.socket)",
    ),
    ("systemctl disable --now --quiet certbot-renew.timer", "systemctl is-enabled certbot-renew.timer"),
)
LOST: tuple[Drift, ...] = (
    ("cp --remove-destination /usr/share/nginx/html/index.html /etc/nginx/nginx.conf", "[ -L /etc/nginx/nginx.conf ]"),
    ("rm /etc/nginx/upstreams/notes.conf", "[ -s /etc/nginx/upstreams/notes.conf ]"),
    ("rm -r /srv/notes/releases/*/.venv", "[ -x /srv/notes/current/.venv/bin/gunicorn ]"),
    ("rm -r /etc/notes/releases", "[ -d /etc/notes/releases ]"),
    (
        "rm -r /opt/slipway/certbot /opt/slipway/python /opt/slipway/bin /opt/slipway/host",
        "/opt/slipway/certbot/bin/certbot --version",
    ),
    ("rm -r /etc/letsencrypt/live /etc/letsencrypt/renewal", "[ -e /etc/letsencrypt/live/notes/fullchain.pem ]"),
)


def heal(host: Host, drifts: tuple[Drift, ...]) -> None:
    """Do all that by hand, run, and look at each; then there is nothing left to do."""
    for drift, _ in drifts:
        log.info("    by hand: %s", drift)
        host.ssh(drift)
    run = host.deploy()
    assert run.changed
    seen = {f"`{looks}` after `{drift}`": host.run(looks) for drift, looks in drifts}
    wrong = {what: done for what, done in seen.items() if done.returncode != 0}
    assert not wrong, wrong
    assert host.get("/readyz").status_code == 200
    host.converged()


def test_what_was_edited_is_as_before_and_nobody_noticed(host: Host) -> None:
    with host.traffic() as notes:
        heal(host, EDITED)
    notes.unbroken()


def test_what_was_stopped_and_disabled_runs_again(host: Host) -> None:
    heal(host, OFF)


def test_what_was_lost_is_made_anew(host: Host) -> None:
    heal(host, LOST)


def test_uv_and_certbot_come_from_the_package_index_of_the_settings(host: Host) -> None:
    host.ssh("cat >/root/index.py", stdin=(ON_HOST / "index.py").read_text())
    host.ssh("systemd-run --quiet --unit=index python3 /root/index.py")
    host.ssh("rm -r /opt/slipway/uv /opt/slipway/certbot")
    with (
        host.afterwards("systemctl stop index"),
        host.changed({"python": {"index_url": "http://127.0.0.1:8099/simple"}}),
    ):
        host.deploy()
        asked = host.ssh("journalctl -o cat -u index").split()
    assert {"/simple/uv/", "/simple/certbot/", "/simple/acme/"} <= set(asked)
    host.ssh("/opt/slipway/certbot/bin/certbot --version")
    host.converged()


def test_after_all_that_the_host_is_verified(host: Host) -> None:
    host.reboot()
    wait_until(lambda: host.get("/readyz").status_code == 200, 30, "the site after a reboot")
    host.verify()
