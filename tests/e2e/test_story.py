"""One host's life: bare, provisioned, verified, changed, broken, recovered, rebooted; on each system it can have."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from typing import Any

import pytest

from tests.e2e._disk import waiting
from tests.e2e._driver import Host, log, wait_until
from tests.e2e.conftest import MakeHost, systems
from tests.target.likeness import KERNEL

pytestmark = pytest.mark.story

APPS = ("notes", "litestar-notes")
VERDICT = "Verdict"
ABSENT = re.compile(r"/(opt/slipway|etc/nginx|srv/notes|etc/notes|etc/letsencrypt)\b")


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """The story's host, for both apps."""
    host = make_host("story", request.param, APPS, bare=True)
    for app in APPS:
        host.app(app).update(watch=1, keep_warm=0)
    return host


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


def test_the_kernel_is_set_as_on_a_machine(host: Host) -> None:
    wanted = dict(KERNEL)
    if host.target["os"] == "debian13":  # its linux-sysctl-defaults
        wanted["net.ipv4.ping_group_range"] = "0 2147483647"
    files = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in wanted)
    values = [" ".join(line.split()) for line in host.ssh(f"cat {files}").splitlines()]
    assert dict(zip(wanted, values, strict=True)) == wanted


def test_a_dry_run_on_the_bare_host_tells_what_it_would_do_and_does_nothing(host: Host) -> None:
    before = host.snapshot()
    assert not ABSENT.search(before), "the host isn't bare"
    run = host.deploy("--dry", "--diff")
    for operation in (
        "Base | Install packages",
        "App | Give each app its users and folders",
        "Nginx | Configure the sites",
        "TLS | Order the certificate of notes",
        "Release | Release notes",
        "Release | Release litestar-notes",
    ):
        assert operation in run.changed
    run.says("will create /etc/systemd/journald.conf.d/50-slipway.conf", "+SystemMaxUse=")
    run.has_no_traceback()
    host.unchanged_since(before)


def test_one_deploy_makes_it_a_host_that_serves_both_apps(host: Host) -> None:
    host.deploy()
    served = releases(host)
    for app, domain in (("notes", "notes.test"), ("litestar-notes", "litestar.test")):
        answer = host.get("/api/whoami", domain=domain).json()
        assert answer["release"] == served[app]
        assert (answer["scheme"], answer["host"]) == ("https", domain)
        assert "<html" in host.get("/", domain=domain, http2=True).text
    assert host.ssh("nginx -t -q 2>&1") == "", "nginx warns"
    # Its package has started it: what it is shut off from was there before.
    status = host.ssh("cat /proc/$(cat /run/nginx.pid)/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    created = host.request("POST", "/api/notes", json={"text": "written before the story's reboots"})
    assert created.status_code == 201


def test_all_of_a_release_is_on_the_disk_once_it_serves(host: Host) -> None:
    for app, release in releases(host).items():
        names, files = waiting(host, f"/srv/{app}/releases/{release}")
        log.info("    %s: %d of %d files aren't on the disk", app, len(names), files)
        assert files > 1000, "that shows nothing"
        assert not names, f"{len(names)} of {files} files of {app} aren't on the disk: {names[:5]}"


def test_a_power_cut_then_loses_nothing(host: Host) -> None:
    """What only memory had would be an empty file now: of a release, and of all that was provisioned for it."""
    sizes = r"find /srv /etc /opt -xdev -type f -printf '%p %s\n'"
    served, before = releases(host), host.ssh(sizes)
    host.reboot(hard=True)
    for app, domain in (("notes", "notes.test"), ("litestar-notes", "litestar.test")):
        answer = wait_until(partial(whoami, host, domain), 30, f"{app} after the power cut")
        assert answer["release"] == served[app]
    assert sorted(set(before.splitlines()) - set(host.ssh(sizes).splitlines())) == []


def test_low_ports_are_for_those_who_may_and_a_release_may(host: Host) -> None:
    """On a machine; a container's engine opens them to all, where nobody sees that a unit lacks the capability."""
    listen = "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 81))'"
    host.ssh(listen)
    refused = host.run(f"setpriv --bounding-set=-net_bind_service {listen}")
    assert refused.returncode == 1 and "Permission denied" in refused.stderr, refused.stderr
    # `nginx -t` listens, as a step of each.
    assert all(releases(host).values())


def test_the_host_is_verified(host: Host) -> None:
    host.verify()


def test_a_second_run_changes_nothing(host: Host) -> None:
    before, files = releases(host), host.snapshot()
    host.converged()
    assert releases(host) == before
    assert [len(host.releases(app)) for app in APPS] == [1, 1]
    # Not one file: neither content nor owner, mode or time.
    host.unchanged_since(files)


def test_a_dry_run_on_the_converged_host_lists_nothing(host: Host) -> None:
    run = host.deploy("--dry", "--diff")
    assert run.changed == []
    assert len(run.unchanged) > 15
    assert "] will " not in run.output


def test_the_same_inventory_as_root_changes_nothing(host: Host) -> None:
    before = releases(host)
    host.converged(user="root")
    assert releases(host) == before


def test_pyinfras_own_connector_finds_nothing_to_do_either(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "connector", "")
    host.converged()


def test_slipway_plan_tells_by_its_exit_code_that_nothing_would_change(host: Host) -> None:
    text, as_json = host.run_slipway("plan"), host.run_slipway("plan", "--json")
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout == f"{host.target['container']}: nothing to change\n"
    told = json.loads(as_json.stdout)
    assert (as_json.returncode, as_json.stderr, told["outcome"]) == (0, "", "nothing")
    assert told["hosts"][host.target["container"]]["operations"] == []


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_of_one_app_release_that_app_alone(host: Host) -> None:
    before = releases(host)
    host.settings(apps__notes__workers=3)
    with host.traffic() as notes, host.traffic("litestar.test") as litestar:
        run = host.deploy()
    only(run.changed, "Release | Write what servers share, and the apps' environments", "Release | Release notes")
    notes.unbroken()
    litestar.unbroken()
    after = releases(host)
    assert after["notes"] != before["notes"] and after["litestar-notes"] == before["litestar-notes"]
    assert notes.releases == [before["notes"], after["notes"]], "requests went back to the release from before"
    assert litestar.releases == [before["litestar-notes"]]
    workers = [args for _, _, args in host.processes() if f"/srv/notes/releases/{after['notes']}" in args]
    assert len(workers) == 4, "one Gunicorn and three workers"


def test_an_environment_variable_reaches_the_app_by_a_release_of_it(host: Host) -> None:
    before = releases(host)
    awkward = """it's a "test" with $HOME, 100 % and a \\ backslash"""
    host.settings(apps__notes__env={"GREETING": awkward})
    with host.traffic() as notes:
        run = host.deploy()
    only(run.changed, "Release | Write what servers share, and the apps' environments", "Release | Release notes")
    notes.unbroken()
    after = releases(host)
    assert after["notes"] != before["notes"] and after["litestar-notes"] == before["litestar-notes"]
    main = host.ssh(f"systemctl show --property=MainPID --value notes@{after['notes']}.service")
    seen = host.ssh(f"tr '\\0' '\\n' </proc/{main}/environ").splitlines()
    assert f"GREETING={awkward}" in seen
    assert {"WEB_CONCURRENCY=3", f"RELEASE_ID={after['notes']}", "HOME=/var/lib/notes"} <= set(seen)


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


def operations(done: subprocess.CompletedProcess[str], host: Host) -> list[dict[str, Any]]:
    """What a run of ``slipway … --json`` says that it changes, without how long that took and what it printed."""
    told: list[dict[str, Any]] = json.loads(done.stdout)["hosts"][host.target["container"]]["operations"]
    return [{key: value for key, value in each.items() if key not in ("seconds", "said")} for each in told]


def test_the_journals_size_changes_the_journal_alone_and_slipway_announces_just_that(host: Host) -> None:
    before = releases(host)
    host.settings(journal_max_size="200M")
    plan = host.run_slipway("plan", "--json")
    with host.traffic() as notes:
        applied = host.run_slipway("apply", "--json")
    assert (plan.returncode, applied.returncode) == (2, 0), plan.stderr + applied.stderr
    planned = operations(plan, host)
    only(
        [each["operation"] for each in planned],
        "Base | Make folders, and cap the journal",
        "Base | Restart the journal with its cap",
    )
    assert operations(applied, host) == planned
    assert "+SystemMaxUse=200M" in planned[0]["changes"][0]["diff"]
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
        again = host.run_slipway("apply", "--json")
        text = host.run_slipway("apply", "--quiet")
    assert "Nginx | Configure the sites" in run.errors
    told = json.loads(again.stdout)
    assert (again.returncode, told["outcome"]) == (1, "failed")
    assert any("extra/notes.conf:3" in line for line in told["hosts"][host.target["container"]]["errors"])
    assert text.returncode == 1
    assert 'unknown directive "retrun"' in text.stderr and "run it again: slipway apply " in text.stderr
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
        host.refused('unknown directive "lisen" in /etc/nginx/conf.d/foreign.conf:2', "Correct its line 2")
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
                host.refused("isn't live", "127.0.0.1:8123", "was restored")
            notes.unbroken()
        assert host.ssh("readlink /etc/nginx/slipway") == before
        assert host.ssh("nginx -t 2>&1").endswith("test is successful")
        # The notification isn't lost: once the port is free, the same inventory goes live.
        only(host.deploy().changed, "Nginx | Configure the sites")
        assert "nginx" in host.ssh("ss -Hltnp 'sport = :8123'")
    with host.traffic() as notes:
        host.deploy()
    notes.unbroken()
    assert host.ssh("ss -Hltn 'sport = :8123'") == ""


def test_the_next_run_converges(host: Host) -> None:
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
    host.verify()
