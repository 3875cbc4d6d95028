"""pyinfra killed at random moments of a deploy, again and again: in the end the host is as if nothing had happened.

SLIPWAY_SEED=n   the moments of an earlier run, which the log names
SLIPWAY_KILLS=n  how many (5; the whole of what is promised is 20: `make test-hours`)
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e._driver import Host, log
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]

KILLS = int(os.environ.get("SLIPWAY_KILLS") or 5)
SEED = int(os.environ.get("SLIPWAY_SEED") or time.time())

# Names that are new each time: of releases, ACME accounts and orders, tools' own temporary names.
RANDOM = re.compile(r"\d{8}T\d{6}Z-[0-9a-z]+|\b[0-9a-f]{32}\b|\d{4}_(key|csr)-certbot|_\d{4}|\d+\.pem|-\d+-\w{8,}")
FIRST_RUN, LATER_RUN = 25.0, 12.0
"""Seconds within which a run is killed: most of what a first deploy takes in a container, and one that mends."""
PLACES = (
    "/etc /opt/slipway /srv /root /home /usr/local /var/lib/slipway /var/lib/notes /var/lib/nginx /var/log/letsencrypt "
    "/var/spool/cron /var/cache/slipway /run/notes /run/systemd/system"
)
# What only tells of the past (the history, backups of what was replaced), and caches, whose content is uv's affair.
PAST = (
    "/etc/letsencrypt/archive",
    "/etc/letsencrypt/accounts",
    "/etc/letsencrypt/csr",
    "/etc/letsencrypt/keys",
    "/var/cache/slipway/python/*",
    "/var/cache/slipway/notes/uv/*",
    "/var/cache/slipway/notes/home/*",
    "/var/lib/slipway/notes/*",
    "/var/log/letsencrypt/*",
)


def state(host: Host) -> set[str]:
    """Every file, folder and link that a deploy is responsible for, with mode, owner, target and what it holds; units
    with their states; users and packages."""
    live = host.ssh("readlink /etc/nginx/slipway")
    pruned = " -o ".join(f"-path '{path}'" for path in PAST)
    # The configuration of nginx that serves; the one before it is kept as well, if there was one.
    pruned += rf" -o \( -path '/etc/nginx/slipway.d/*' -not -path '/etc/nginx/{live}*' \)"
    listed = host.ssh(
        f"find {PLACES} \\( {pruned} \\) -prune -o -not -name '*.pyc' -not -name __pycache__ "
        "-printf '%p %y %m %U:%G %l\\n' 2>/dev/null; "
        f"find /etc/systemd /etc/nginx/{live} /etc/nginx/upstreams /etc/nginx/*.conf /etc/notes /opt/slipway/bin "
        "/opt/slipway/host -name __pycache__ -prune -o -type f -print | while read -r path; do "
        "echo $path $(sed -E 's/[0-9]{8}T[0-9]{6}Z-[0-9a-z]+/<id>/g' $path | sha256sum); done; "
        "systemctl list-units --all --plain --no-legend 'notes*' 'nginx*' 'certbot*' | awk '{print $1, $2, $3, $4}'; "
        "systemctl list-unit-files --plain --no-legend 'notes*' 'nginx*' 'certbot*' | awk '{print $1, $2}'; "
        "getent passwd; getent group; dpkg-query -W -f '${binary:Package} ${Version} ${Status}\\n'"
    )
    return {RANDOM.sub("<random>", line) for line in listed.splitlines()}


def killed(host: Host, seconds: float) -> bool:
    """Start a deploy and kill pyinfra with -9 after some seconds; False if it had ended by then, which must be well."""
    process = host.start_deploy(output=host.folder / "killed.log")
    try:
        assert process.wait(seconds) == 0, (host.folder / "killed.log").read_text()[-4000:]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


BROKEN = (
    "rm -r /srv/notes/releases/*/.venv",
    "rm -r /opt/slipway/certbot",
    "rm -r /etc/nginx/slipway.d /etc/nginx/upstreams/notes.conf",
    "systemctl disable --now --quiet certbot-renew.timer; rm /etc/systemd/system/certbot-renew.*",
    "echo 'X=\"1\"' >>/etc/notes/env; rm /etc/notes/release.json",
    "rm -r /opt/slipway/python /opt/slipway/bin /opt/slipway/host",
)
"""What is taken away when a run wasn't killed in time, so that the next one has work to be killed at."""


def kill_again_and_again(host: Host, first: float, later: float) -> None:
    """Kill runs on a bare host until KILLS of them were, and let the last one end.

    + first: seconds within which a run is killed that provisions the host
    + later: the same of one that mends something
    """
    moments, hits, runs, limit = random.Random(SEED), 0, 0, first
    log.info("    SLIPWAY_SEED=%d", SEED)
    while hits < KILLS:
        runs += 1
        assert runs <= 6 * KILLS, "most runs end before they are killed: this shows nothing"
        seconds, began = moments.uniform(0.3, limit), time.monotonic()
        if killed(host, seconds):
            hits += 1
            log.info("    kill %d after %.1f s", hits, seconds)
        else:  # then there must be something to do again
            # On a quick machine a run that mends something takes a second: the next one is killed within as long.
            broken, limit = moments.choice(BROKEN), min(later, time.monotonic() - began)
            log.info("    a run ended by itself within %.1f s; by hand: %s", seconds, broken)
            host.ssh(broken)
    host.deploy()
    host.converged()


def same(undisturbed: set[str], disturbed: set[str]) -> None:
    """Fail, and show what differs, unless a host whose runs were killed is as one whose run was not."""
    gone, new = sorted(undisturbed - disturbed), sorted(disturbed - undisturbed)
    assert len(undisturbed) > 1000
    assert not gone and not new, "\n".join([*(f"- {line}" for line in gone[:40]), *(f"+ {line}" for line in new[:40])])


def test_a_deploy_killed_at_random_moments_converges_to_that_of_an_undisturbed_one(make_host: MakeHost) -> None:
    """Two bare hosts; one is deployed at once, on the other the first runs are killed. Then there is no difference."""
    calm, killed_host = make_host("calm", "debian13", bare=True), make_host("killed", "debian13", bare=True)
    for host in (calm, killed_host):
        host.settings(apps__notes__watch=1, apps__notes__keep_warm=0)
    calm.deploy()
    kill_again_and_again(killed_host, FIRST_RUN, LATER_RUN)
    with ThreadPoolExecutor(2) as pool:
        same(*pool.map(state, (calm, killed_host)))
    assert killed_host.get("/readyz").status_code == 200
    killed_host.verify()
