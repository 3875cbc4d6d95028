"""What the stories on machines share: an app that asks for all that Slipway runs, and the ways in."""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e import _driver
from tests.e2e._driver import Host, Public, log, wait_until
from tests.e2e.apps import copy_example

login = functools.partial(_driver.login, connect=15, seconds=120)
"""`_driver.login`, with the time that an emulated machine takes."""

OPERATOR = "ops"
"""The operator's account: one that the image doesn't have."""
HOOK = "python hook.py"
HOOKS = ("before_migrate", "after_migrate", "after_switch", "on_failure")
CHANGES: dict[str, Any] = {"firewall": {"extra": "lock.nft"}, "ssh": {"max_auth_tries": 3}}
"""A change of the firewall, by which nobody logs in anew, and of sshd; see `shut_out`."""

UPSTREAM = "cat /etc/nginx/upstreams/notes.conf"
OWN = (
    "notes-release", "notes-build", "notes-check", "notes-schema", "notes-migrate", "notes-hook", "notes-drain-*",
    "notes-retire-*", "slipway-access-revert", "slipway-access-boot", "certbot-renew", "debsums",
)  # fmt: skip
"""Units that Slipway starts and that end by themselves."""


def machine_settings(host: Host) -> None:
    """An operator of the host's own, and the app with hooks, a public that is sent by `--prove`, and a warm release."""
    source = copy_example("notes", host.folder)
    (source / "hook.py").write_text(
        'import os\nwith open(os.environ["STATE_DIRECTORY"] + "/hooks", "a") as file:\n'
        '    print(os.environ["SLIPWAY_HOOK"], file=file)\n'
    )
    key = Path(host.target["ssh"]["key"] + ".pub").read_text().strip()
    host.file("lock.nft", "tcp dport 22 drop\n")
    host.change({"operator": {"user": OPERATOR, "authorized_keys": [key]}, "ssh": {"root_login": False}})
    host.app().update(
        source={"path": str(source)},
        hooks=dict.fromkeys(HOOKS, HOOK),
        # What an emulated machine can bear beside the work of a release.
        probe={
            "short": ["/api/whoami"],
            "slow": "/api/slow?seconds=1.5",
            "websocket": "/ws",
            "connections": 4,
            "rate": 5,
        },
        watch=1,
        drain_timeout=5,
        keep_warm=60,
    )


def change_code(host: Host, mark: str, statement: str = "") -> None:
    """Change the app's code, and not what it does; or let it begin with `statement`, in the place of the last one."""
    path = Path(host.app()["source"]["path"]) / "notes/__init__.py"
    path.write_text(f'"""Notes: {mark}."""\n{statement}\n')


@contextmanager
def public(host: Host, *, gap: float = 15.0) -> Iterator[Public]:
    """The public meanwhile, as patient with an emulated machine as it must be; then nothing may be lost."""
    with host.traffic(rate=4) as seen:
        yield seen
    seen.unbroken(gap=gap)


def answers(host: Host, seconds: float = 90) -> str:
    """Wait until the site answers; returns its release."""
    return str(wait_until(lambda: host.get("/api/whoami").json()["release"], seconds, "the site"))


def show(host: Host, unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = host.ssh(f"systemctl show -p {','.join(properties)} '{unit}'").splitlines()
    return dict(line.split("=", 1) for line in lines)


def has(host: Host, unit: str, **wanted: str) -> None:
    """Fail unless a unit's properties have these values."""
    found = show(host, unit, *wanted)
    assert found == wanted, f"{unit}: {found}"


def settled(host: Host) -> None:
    """Fail unless systemd is content, with no unit that failed."""
    state = host.run("systemctl is-system-running --wait").stdout.strip()
    assert state == "running", f"{state}: {host.ssh('systemctl --failed --plain --no-legend')}"


def ways_in(host: Host) -> str:
    """All that decides who gets in."""
    files = "/etc/ssh/sshd_config /etc/ssh/sshd_config.d/* /etc/slipway/firewall.nft /etc/sudoers.d/*"
    return host.ssh(f"cat {files}; sshd -T; nft --stateless --terse list table inet slipway")


def shut_out(host: Host) -> None:
    """Start a run that shuts the operator out (CHANGES), and kill it once it has, before it can confirm that."""
    host.ssh("true")  # the connection that is kept open goes on
    process = host.start_deploy(output=host.folder / "shut-out.log")
    try:
        rule = "nft list chain inet slipway input | grep -q 'dport 22 drop' && sshd -T | grep -q 'maxauthtries 3'"
        wait_until(lambda: host.run(rule).returncode == 0, 180, "the change")
    finally:
        host.kill_deploy(process)
    assert login(host).returncode == 255, "nobody is locked out: this shows nothing"
    assert host.ssh("ls /var/lib/slipway/access") == "pending.json"


def kernel_said(host: Host, pattern: str) -> str:
    """Messages of the kernel that a pattern finds, of all boots that the journal has; not who looked for them."""
    whose = "_TRANSPORT=kernel + _TRANSPORT=audit"
    return host.ssh(f"journalctl -q --no-pager -o short {whose} -g '{pattern}' || true")


def oom(host: Host) -> str:
    """What the kernel said of memory that ran out; empty where it never did."""
    return kernel_said(host, "out of memory|oom-kill")


WELL, BADLY = "7ad2d189f7e94e70a38c781354912448", "d9b373ed55a64feb8242e02dbe79a49c"
"""What systemd says when a unit has ended (systemd.messages(7): UNIT_SUCCESS, UNIT_FAILURE_RESULT)."""


def ended(host: Host, patterns: Iterable[str]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How often units that these patterns name have ended well, by pattern; and why others ended badly, each time."""
    told = host.ssh(f"journalctl -o json --no-pager MESSAGE_ID={WELL} + MESSAGE_ID={BADLY}")
    well: dict[str, int] = {}
    badly: dict[str, list[str]] = {}
    for line in told.splitlines():
        entry = json.loads(line)
        unit = str(entry["UNIT"]) if "UNIT" in entry else ""
        for pattern in patterns:
            if fnmatch.fnmatch(unit, f"{pattern}.service"):
                if entry["MESSAGE_ID"] == WELL:
                    well[pattern] = well.get(pattern, 0) + 1
                else:
                    badly.setdefault(unit, []).append(str(entry["MESSAGE"]))
    log.info("    ended badly: %s", badly)
    return well, badly
