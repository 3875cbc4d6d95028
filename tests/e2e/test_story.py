"""One host's life: bare, provisioned, verified, changed, broken, healed, rebooted; on each system it can have."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, wait_until
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

APPS = ("notes", "litestar-notes")
VERDICT = "Verdict"
ABSENT = re.compile(r"/(opt/slipway|etc/nginx|srv/notes|etc/notes|etc/letsencrypt)\b")


@pytest.fixture(scope="module", params=["debian12", "debian13"])
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """The story's host, for both apps."""
    return make_host("story", request.param, APPS)


def verify(host: Host) -> None:
    """Run tests/host over it, as `make demo` does; fail unless it tested something, and all of it passed."""
    command = [sys.executable, "-m", "pytest", "tests/host", "-q", "-p", "no:cacheprovider", "-p", "no:logging"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--inventory", str(host.write_inventory())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and found, f"exit {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
    assert int(found[1]) >= 30, f"only {found[1]} tests ran"
    print(f"verified: {found[1]} tests in {time.monotonic() - began:.1f} s")


def releases(host: Host) -> dict[str, str]:
    """App → release that serves."""
    return {app: host.release(app) for app in APPS}


def whoami(host: Host, domain: str) -> dict[str, Any]:
    """The request as the app of `domain` saw it."""
    seen: dict[str, Any] = host.get("/api/whoami", domain=domain).json()
    return seen


def only(changed: list[str], *expected: str) -> None:
    """Fail unless just these operations changed something, in any order."""
    assert sorted(name for name in changed if not name.startswith(VERDICT)) == sorted(expected)


# ── bare ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_on_the_bare_host_tells_what_it_would_do_and_does_nothing(host: Host) -> None:
    before = host.snapshot()
    assert not ABSENT.search(before), "the host isn't bare"
    run = host.deploy("--dry", "--diff")
    for operation in (
        "Base | Install packages",
        "App | Create the user notes",
        "App | Create the user litestar-notes",
        "Nginx | Configure the sites",
        "TLS | Order the certificate of notes",
        "Release | Release notes",
        "Release | Release litestar-notes",
    ):
        assert operation in run.changed
    run.says("Will create /etc/systemd/journald.conf.d/50-slipway.conf", "+ SystemMaxUse=")
    run.has_no_traceback()
    assert host.differences(before) == []


def test_one_deploy_makes_it_a_host_that_serves_both_apps(host: Host) -> None:
    run = host.deploy()
    assert run.seconds < 150
    served = releases(host)
    for app, domain in (("notes", "notes.test"), ("litestar-notes", "litestar.test")):
        answer = host.get("/api/whoami", domain=domain).json()
        assert answer["release"] == served[app]
        assert (answer["scheme"], answer["host"]) == ("https", domain)
        assert "<html" in host.get("/", domain=domain, http2=True).text
    created = host.request("POST", "/api/notes", json={"text": "written before the story's reboots"})
    assert created.status_code == 201


def test_the_host_is_verified(host: Host) -> None:
    verify(host)


def test_a_second_run_changes_nothing(host: Host) -> None:
    before, files = releases(host), host.snapshot()
    run = host.converged()
    assert run.seconds < 30
    assert releases(host) == before
    assert [len(host.releases(app)) for app in APPS] == [1, 1]
    # Not one file: neither content nor owner, mode or time.
    assert host.differences(files) == []


def test_a_dry_run_on_the_converged_host_lists_nothing(host: Host) -> None:
    run = host.deploy("--dry", "--diff")
    assert run.changed == []
    assert len(run.unchanged) > 30
    assert "Will modify" not in run.output and "Will create" not in run.output


def test_the_same_inventory_as_root_changes_nothing(host: Host) -> None:
    before = releases(host)
    host.converged(user="root")
    assert releases(host) == before


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_of_one_app_release_that_app_alone(host: Host) -> None:
    before = releases(host)
    host.settings(apps__notes__workers=3)
    with host.traffic() as notes, host.traffic("litestar.test") as litestar:
        run = host.deploy()
    only(run.changed, "App | Write the environment of notes", "Release | Release notes")
    notes.unbroken()
    litestar.unbroken()
    after = releases(host)
    assert after["notes"] != before["notes"] and after["litestar-notes"] == before["litestar-notes"]
    assert notes.releases == [before["notes"], after["notes"]], "requests went back to the release from before"
    assert litestar.releases == [before["litestar-notes"]]
    workers = [args for _, _, args in host.processes() if f"/srv/notes/releases/{after['notes']}" in args]
    assert len(workers) == 4, "one Gunicorn and three workers"
    host.converged()


def test_an_environment_variable_reaches_the_app_by_a_release_of_it(host: Host) -> None:
    before = releases(host)
    awkward = """it's a "test" with $HOME, 100 % and a \\ backslash"""
    host.settings(apps__notes__env={"GREETING": awkward})
    with host.traffic() as notes:
        run = host.deploy()
    only(run.changed, "App | Write the environment of notes", "Release | Release notes")
    notes.unbroken()
    after = releases(host)
    assert after["notes"] != before["notes"] and after["litestar-notes"] == before["litestar-notes"]
    main = host.ssh(f"systemctl show --property=MainPID --value notes@{after['notes']}.service")
    seen = host.ssh(f"tr '\\0' '\\n' </proc/{main}/environ").splitlines()
    assert f"GREETING={awkward}" in seen
    assert {"WEB_CONCURRENCY=3", f"RELEASE_ID={after['notes']}", "HOME=/var/lib/notes"} <= set(seen)
    host.converged()


def test_an_upload_limit_changes_nginx_alone(host: Host) -> None:
    before = releases(host)
    assert host.request("POST", "/api/upload", content=b"x" * 2_000_000).status_code == 200
    host.settings(apps__notes__max_body_size="1m")
    with host.traffic() as notes:
        run = host.deploy()
    only(run.changed, "Nginx | Configure the sites")
    notes.unbroken()
    assert releases(host) == before
    assert host.request("POST", "/api/upload", content=b"x" * 2_000_000).status_code == 413
    assert host.request("POST", "/api/upload", domain="litestar.test", content=b"x" * 2_000_000).is_success
    host.converged()


def test_the_journals_size_changes_the_journal_alone(host: Host) -> None:
    before = releases(host)
    host.settings(journal_max_size="200M")
    with host.traffic() as notes:
        run = host.deploy()
    only(run.changed, "Base | Cap the journal's size", "Base | Restart the journal with its cap")
    notes.unbroken()
    assert releases(host) == before
    host.converged()


# ── broken nginx ─────────────────────────────────────────────────────────────────────────────────────────────────────

LIVE = (
    "readlink /etc/nginx/slipway; nginx -T 2>/dev/null; "
    "find /etc/nginx -path /etc/nginx/slipway.d -prune -o -type f,l -printf '%p %m %U:%G %C@ %l\\n' | sort"
)
"""nginx's configuration as it serves; slipway.d holds candidates too."""


def test_broken_directives_of_the_inventory_are_refused_and_the_site_goes_on(host: Host) -> None:
    before, serving = host.ssh(LIVE), releases(host)
    name = host.file("broken.conf", "keepalive_timeout 30s;\nlocation /x {\n    retrun 200;\n}\n")
    with host.changed({"apps": {"notes": {"nginx_extra": name}}}), host.traffic() as notes:
        run = host.refused("extra/notes.conf:3", 'unknown directive "retrun"', "nothing was changed")
        again = host.refused("extra/notes.conf:3")
    assert "Nginx | Configure the sites" in run.errors + again.errors
    notes.unbroken()
    # nginx itself serves on: the same generation, the same files, the same processes' answers.
    assert host.ssh(LIVE) == before
    assert releases(host) == serving


def test_a_foreign_broken_file_is_refused_by_its_name_and_the_site_goes_on(host: Host) -> None:
    before = host.ssh("readlink /etc/nginx/slipway")
    host.ssh("printf 'server {\\n  lisen 81;\\n}\\n' >/etc/nginx/conf.d/foreign.conf")
    with (
        host.afterwards("rm /etc/nginx/conf.d/foreign.conf"),
        host.changed({"apps": {"notes": {"max_body_size": "3m"}}}),
        host.traffic() as notes,
    ):
        host.refused('unknown directive "lisen" in /etc/nginx/conf.d/foreign.conf:2', "correct line 2 there")
    notes.unbroken()
    assert host.ssh("readlink /etc/nginx/slipway") == before


def test_a_configuration_that_is_valid_but_cannot_go_live_is_taken_back(host: Host) -> None:
    before = host.ssh("readlink /etc/nginx/slipway")
    # A foreign program has the port: `nginx -t` doesn't see that, and a reload returns 0 all the same.
    host.ssh("systemd-run --quiet --unit=squatter python3 -m http.server 8123 --bind 127.0.0.1")
    name = host.file("port.conf", "server {\n    listen 127.0.0.1:8123;\n    return 204;\n}\n")
    with host.changed({"nginx": {"extra": name}}):
        with host.afterwards("systemctl stop squatter.service"):
            wait_until(lambda: "8123" in host.ssh("ss -Hltn 'sport = :8123'"), 10, "the foreign program")
            with host.traffic() as notes:
                host.refused("isn't live", "127.0.0.1:8123", "put back")
            notes.unbroken()
        assert host.ssh("readlink /etc/nginx/slipway") == before
        assert host.ssh("nginx -t 2>&1").endswith("test is successful")
        # The notification isn't lost: once the port is free, the same inventory goes live.
        only(host.deploy().changed, "Nginx | Configure the sites")
        assert "nginx" in host.ssh("ss -Hltnp 'sport = :8123'")
        host.converged()
    with host.traffic() as notes:
        host.deploy()
    notes.unbroken()
    assert host.ssh("ss -Hltn 'sport = :8123'") == ""


def test_the_next_run_converges(host: Host) -> None:
    host.converged()


# ── drift ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("drift", "looks"),
    [
        pytest.param(
            "echo '# by hand' >>/etc/nginx/slipway/sites/notes.conf",
            "! grep -r 'by hand' /etc/nginx/slipway/",
            id="site",
        ),
        pytest.param(
            "cp --remove-destination /usr/share/nginx/html/index.html /etc/nginx/nginx.conf",
            "test -L /etc/nginx/nginx.conf",
            id="nginx.conf",
        ),
        pytest.param("systemctl stop nginx", "systemctl is-active nginx", id="nginx stopped"),
        pytest.param("systemctl disable --quiet nginx", "systemctl is-enabled nginx", id="nginx disabled"),
        pytest.param(
            "chmod 644 /etc/notes/env",
            "test $(stat -c %a:%U:%G /etc/notes/env) = 640:root:notes",
            id="mode of the environment",
        ),
        pytest.param("echo 'X=\"1\"' >>/etc/notes/env", "! grep '^X=' /etc/notes/env", id="environment"),
        pytest.param(
            "systemctl stop 'notes@*.service' 'notes@*.socket'",
            "systemctl is-active 'notes@*.service'",
            id="app stopped",
        ),
        pytest.param(
            "sed -i 's/[0-9]\\{8\\}T/20010101T/' /etc/nginx/upstreams/notes.conf",
            "! grep 20010101T /etc/nginx/upstreams/notes.conf",
            id="upstream",
        ),
        pytest.param(
            "rm /etc/nginx/upstreams/notes.conf", "test -s /etc/nginx/upstreams/notes.conf", id="upstream gone"
        ),
        pytest.param(
            "rm -r /srv/notes/releases/*/.venv",
            "test -x /srv/notes/current/.venv/bin/gunicorn",
            id="environment of the release gone",
        ),
        pytest.param(
            "systemctl disable --now --quiet certbot-renew.timer",
            "systemctl is-enabled certbot-renew.timer",
            id="timer",
        ),
        pytest.param(
            "rm -r /etc/letsencrypt/live/notes /etc/letsencrypt/renewal/notes.conf",
            "test -e /etc/letsencrypt/live/notes/fullchain.pem",
            id="certificate gone",
        ),
        pytest.param(
            "ln -sfn /usr/share/zoneinfo/Europe/Berlin /etc/localtime",
            "test $(readlink -f /etc/localtime) = /usr/share/zoneinfo/Etc/UTC",
            id="time zone",
        ),
        pytest.param("userdel notes", "id notes", id="user gone"),
    ],
)
def test_what_was_changed_by_hand_is_healed(host: Host, drift: str, looks: str) -> None:
    host.ssh(drift)
    run = host.deploy()
    assert run.changed
    assert host.run(looks).returncode == 0, f"`{looks}` fails after {run.changed}"
    assert host.get("/readyz").status_code == 200
    host.converged()


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("uv sync", id="building"),
        pytest.param("alembic upgrade", id="migrating"),
        pytest.param("slipway-nginx switch", id="switching"),
    ],
)
def test_a_release_killed_on_the_way_is_healed_by_the_next_run(host: Host, moment: str) -> None:
    before = releases(host)
    host.settings(apps__notes__env={"GREETING": f"killed at {moment}"})
    with host.traffic() as notes:
        host.deploy_killed_at(moment)
    notes.unbroken()
    assert releases(host) == before
    with host.traffic() as notes:
        host.deploy()
    notes.unbroken()
    after = releases(host)
    assert after["notes"] != before["notes"] and after["litestar-notes"] == before["litestar-notes"]
    assert host.get("/api/whoami").json()["release"] == after["notes"]
    host.converged()


def test_a_release_whose_operator_vanished_ends_by_itself(host: Host) -> None:
    before = releases(host)
    host.settings(apps__notes__env={"GREETING": "alone"})
    with host.traffic() as notes:
        process = host.start_deploy()
        running = partial(host.run, "pgrep -f 'slipway-release deploy [n]otes'")
        wait_until(lambda: running().returncode == 0, 60, "the release")
        process.kill()
        process.wait()
        wait_until(lambda: running().returncode != 0, 90, "the release's end")
        host.deploy()
    notes.unbroken()
    assert releases(host)["notes"] != before["notes"]
    assert len(notes.releases) == 2, "one release is all that it took"
    host.converged()


def test_a_first_deploy_killed_again_and_again_is_healed_by_the_next_run(host: Host) -> None:
    # All that the runs made goes away, but for packages and what was fetched: nearly the bare host again.
    made = "/opt/slipway /etc/slipway /var/lib/slipway /etc/nginx/slipway /etc/nginx/slipway.d /etc/nginx/upstreams"
    host.ssh(
        "systemctl stop nginx 'notes@*' 'litestar-notes@*'; systemctl disable --now --quiet certbot-renew.timer; "
        f"rm -rf {made} /etc/notes /etc/litestar-notes /srv/notes /srv/litestar-notes /etc/systemd/system/*notes@*; "
        "mv -f /etc/nginx/nginx.conf.before-slipway /etc/nginx/nginx.conf; systemctl daemon-reload"
    )
    for moment in ("pip install.*uv==", "uv pip sync", "certbot certonly", "uv sync", "gunicorn --config"):
        host.deploy_killed_at(moment)
    host.deploy()
    assert host.get("/readyz").status_code == host.get("/readyz", domain="litestar.test").status_code == 200
    host.converged()


# ── reboot ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hard", [False, True], ids=["shut down", "without warning"])
def test_after_a_reboot_everything_is_as_before_without_a_run(host: Host, hard: bool) -> None:
    before = releases(host)
    host.reboot(hard=hard)
    for app, domain in (("notes", "notes.test"), ("litestar-notes", "litestar.test")):
        answer = wait_until(partial(whoami, host, domain), 30, f"{app} after the reboot")
        assert answer["release"] == before[app]
    texts = [note["text"] for note in host.get("/api/notes").json()]
    assert "written before the story's reboots" in texts
    host.converged()
    assert releases(host) == before


def test_the_host_is_verified_once_more(host: Host) -> None:
    verify(host)
