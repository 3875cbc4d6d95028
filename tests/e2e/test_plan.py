"""The plan is the apply: what a dry run lists is what the run after it changes, whatever was edited, and then nothing.

SLIPWAY_EDITS=n   how many single edits each host gets (6; those marked slow, 100)
SLIPWAY_SEED=n    which ones, and in which order; the log tells it
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.e2e._driver import EXAMPLES, ROOT, Host, log, merge
from tests.e2e.conftest import MakeHost, systems
from tests.e2e.test_release import shapes

pytestmark = pytest.mark.story

SEED = int(os.environ.get("SLIPWAY_SEED") or random.randrange(10_000))
EDITS = os.environ.get("SLIPWAY_EDITS")
SECRETS = ("s3cr3t-of-the-env-5f1e", "s3cr3t, the second one 77aa")

Edit = Callable[[Host, random.Random], str]
"""What somebody does to the settings, the project, the app or the host; it returns what that was."""
CERTBOT = "REQUESTS_CA_BUNDLE=/etc/slipway/tls/acme-ca.pem /opt/slipway/certbot/bin/certbot"


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The story's host, bare at first, with a copy of the project and of the app that edits may change."""
    host = make_host("plan", request.param, bare=True)
    host.project = tmp_path_factory.mktemp("project") / "slipway"
    left_out = shutil.ignore_patterns(".git", ".venv", ".target", "__pycache__", ".*_cache", "tests")
    shutil.copytree(ROOT, host.project, ignore=left_out)
    shutil.copytree(EXAMPLES["notes"]["source"]["path"], host.folder / "notes", ignore=left_out)
    host.file("notes.env", f"SECRET={SECRETS[0]}\n")
    host.settings(
        apps__notes={
            "source": {"path": "notes"},
            "env_file": "notes.env",
            "watch": 0,
            "keep_warm": 0,
            "drain_timeout": 1,
        }
    )
    return host


# ── the edits ────────────────────────────────────────────────────────────────────────────────────────────────────────

SETTINGS: dict[str, tuple[object, ...]] = {
    "apps.notes.workers": (2, 3, None),
    "apps.notes.env": ({"GREETING": "hello"}, {"GREETING": 'it\'s "$HOME"'}, {}),
    "apps.notes.port": (8001, None),
    "apps.notes.timeout": (40, 41),
    "apps.notes.graceful_timeout": (20, 21),
    "apps.notes.max_body_size": ("1m", "2m"),
    "apps.notes.proxy_timeout": (50, 51),
    "apps.notes.keep_releases": (3, 4),
    "apps.notes.lock_wait": (5, 6),
    "apps.notes.static.max_age": (50, 51),
    "apps.notes.trusted_proxies": (["192.0.2.0/24"], []),
    "apps.notes.domains": (["notes.test", "extra.test"], ["notes.test"]),
    "apps.notes.tls": ({"mode": "self-signed"}, {"mode": "off"}, {"mode": "acme"}),
    "nginx.worker_connections": (1000, 2000),
    "acme.email": ("other@example.com", "ops@example.com"),
    "journal_max_size": ("200M", "300M"),
    "timezone": ("Europe/Berlin", "Etc/UTC"),
    "hostname": ("box", "other"),
    "packages": (["tree"], ["tree", "less"]),
}
"""Setting → values; one that it hasn't now is taken."""

PROJECT = (
    "templates/base/journald.conf.j2",
    "templates/nginx/nginx.conf.j2",
    "templates/nginx/internal.conf.j2",
    "templates/nginx/site.conf.j2",
    "templates/nginx/proxy.conf.j2",
    "templates/tls/certbot.ini.j2",
    "templates/tls/renewal-hook.j2",
    "templates/tls/certbot-renew.service.j2",
    "templates/tls/certbot-renew.timer.j2",
    "templates/app/app.service.j2",
    "files/app/gunicorn.conf.py",
    "files/app/servers/slipway_served.py",
    "files/program/slipway",
    "host/slipway_host/release/build.py",
    "host/slipway_host/text.py",
    "files/tls/certbot-requirements.txt",
)
"""Files of Slipway itself: each gets another comment."""

APP = ("notes/main.py", "static/robots.txt", "migrations/versions/0001_create_notes.py")
"""Files of the app: the same."""

FILES = (
    "/etc/systemd/journald.conf.d/50-slipway.conf",
    "/opt/slipway/bin/slipway",
    "/opt/slipway/host/current/slipway_host/proxy/nginx.py",
    "/opt/slipway/host/current/slipway_host/text.py",
    "/opt/slipway/certbot-requirements.txt",
    "/opt/slipway/gunicorn.conf.py",
    "/opt/slipway/servers/slipway_hints.py",
    "/opt/slipway/servers/slipway_look.py",
    "/opt/slipway/servers/slipway_search.py",
    "/etc/slipway/tls/certbot.ini",
    "/etc/slipway/tls/acme-ca.pem",
    "/etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx",
    "/etc/systemd/system/certbot-renew.service",
    "/etc/systemd/system/certbot-renew.timer",
    "/etc/notes/env",
)
"""What Slipway writes on the host."""

TO_A_FILE = (
    "echo '# by hand' >>{}",
    ": >{}",
    "chmod 600 {}",
    "chmod 4755 {}",
    "chown nobody {}",
    "chgrp 12345 {}",
    "rm {}",
    "mv {0} {0}.away && ln -s {0}.away {0}",
)
"""What becomes of it."""

FOLDERS = ("/opt/slipway", "/etc/slipway/tls", "/var/cache/slipway/git", "/srv/notes", "/etc/notes", "/var/lib/notes")
TO_A_FOLDER = ("chmod 711 {}", "chown nobody {}", "chgrp 12345 {}")

BY_HAND = (
    # lost
    "rm -r /opt/slipway/bin",
    "rm -r /opt/slipway/host",
    "rm -r /opt/slipway/uv",
    "rm -r /opt/slipway/python",
    "rm -r /opt/slipway/certbot",
    "rm -r /var/cache/slipway",
    "rm -r /etc/notes/releases",
    "rm /etc/notes/release.json",
    "rm -r /srv/notes/current/.venv",
    "rm -r /var/lib/slipway/acme",
    "rm /etc/nginx/upstreams/notes.conf",
    "rm -r /etc/systemd/journald.conf.d",
    # edited
    "echo '# by hand' >>/etc/nginx/slipway/sites/notes.conf",
    "echo '# by hand' >>/etc/nginx/upstreams/notes.conf",
    "cp --remove-destination /usr/share/nginx/html/index.html /etc/nginx/nginx.conf",
    "ln -s ../sites-available/default /etc/nginx/sites-enabled/default",
    "ln -sfn /bin/false /opt/slipway/bin/uv",
    "ln -sfn /usr/share/zoneinfo/Asia/Tokyo /etc/localtime",
    # packages
    "apt-get -q -y remove nginx",
    "apt-get -q -y purge nginx nginx-common",
    "apt-get -q -y purge python3-pip-whl",
    "apt-get -q -y remove git",
    "apt-get -q -y purge logrotate",
    "apt-get -q -y remove python3-minimal",
    "apt-get -q -y remove tzdata",
    "cd /tmp && apt-get -q download ncal && dpkg --unpack ncal_*.deb",
    # as one is left that was killed while it was unpacked
    r"perl -0pi -e 's/(: logrotate\nStatus: install) ok installed/$1 reinstreq half-installed/' /var/lib/dpkg/status",
    # users
    "userdel --force notes",
    "userdel --force _notes",
    "usermod --shell /bin/bash notes",
    # units
    "systemctl stop nginx",
    "systemctl disable --quiet nginx",
    "systemctl disable --now --quiet nginx",
    "systemctl mask --now --quiet nginx",
    "systemctl mask --quiet nginx",
    "systemctl stop certbot-renew.timer",
    "systemctl disable --quiet certbot-renew.timer",
    "systemctl stop 'notes@*.service'",
    "systemctl stop 'notes@*.service' 'notes@*.socket'",
    "systemctl disable --quiet $(cd /etc/systemd/system; ls -d notes@*.socket)",
    # certificates
    "rm -rf /etc/letsencrypt/live/notes /etc/letsencrypt/archive/notes /etc/letsencrypt/renewal/notes.conf",
    "rm -rf /etc/letsencrypt/live",
    "rm -rf /etc/letsencrypt/renewal",
    "rm -rf /etc/slipway/tls/notes",
    f"{CERTBOT} renew -q --force-renewal --no-random-sleep-on-renew --no-directory-hooks",
)
"""What is done on the host, as root."""


def of_a_setting(path: str, host: Host, chance: random.Random) -> str:
    """Give a setting another value."""
    *above, last = path.split(".")
    at: object = host.slipway
    for part in above:
        at = at.get(part, {}) if isinstance(at, dict) else {}
    now = at.get(last) if isinstance(at, dict) else None
    value = chance.choice([value for value in SETTINGS[path] if value != now])
    nested: dict[str, object] = {last: value}
    for part in reversed(above):
        nested = {part: nested}
    if isinstance(value, dict) and isinstance(at, dict):
        at.pop(last, None)  # a mapping is replaced, not merged
    merge(host.slipway, nested)
    return f"{path} = {value!r}"


def of_a_secret(host: Host, chance: random.Random) -> str:
    """Change a secret of the app's."""
    host.file("notes.env", f"SECRET={SECRETS[0]}\nOTHER='{SECRETS[1]} {chance.random()}'\n")
    return "notes.env"


def of_the_project(name: str, host: Host, chance: random.Random) -> str:
    """Change a file of Slipway's own."""
    comment(host.project / name, chance)
    return name


def of_the_app(name: str, host: Host, chance: random.Random) -> str:
    """Change a file of the app."""
    comment(host.folder / "notes" / name, chance)
    return f"the app's {name}"


def of_the_schema(host: Host, chance: random.Random) -> str:
    """Add a migration."""
    folder = host.folder / "notes/migrations/versions"
    last = max(path.name[:4] for path in folder.glob("*.py"))
    number = f"{int(last) + 1:04}"
    head = f'revision = "{number}"\ndown_revision = "{last}"\n'
    body = (
        f'def upgrade():\n    op.execute("CREATE TABLE made_{number} (id INTEGER)")\n\n\ndef downgrade():\n    pass\n'
    )
    (folder / f"{number}_made.py").write_text(f'"""Make a table."""\n\nfrom alembic import op\n\n{head}\n\n{body}')
    return f"migration {number}"


def of_the_host(command: str, host: Host, chance: random.Random) -> str:
    """Run a command on the host, as far as it can be."""
    done = host.run(f"export DEBIAN_FRONTEND=noninteractive; {command}")
    return (
        command if done.returncode == 0 else f"{command} (ended with {done.returncode}: {done.stderr.strip()[-200:]})"
    )


def comment(path: Path, chance: random.Random) -> None:
    """Add a comment to a text file."""
    with path.open("a") as file:
        file.write(f"# {chance.random()}\n")


KINDS: dict[str, tuple[int, list[Edit]]] = {
    "setting": (5, [partial(of_a_setting, path) for path in SETTINGS]),
    "secret": (1, [of_a_secret]),
    "project": (4, [partial(of_the_project, name) for name in PROJECT]),
    "app": (1, [*(partial(of_the_app, name) for name in APP), of_the_schema]),
    "file": (5, [partial(of_the_host, how.format(path)) for how in TO_A_FILE for path in FILES]),
    "folder": (2, [partial(of_the_host, how.format(path)) for how in TO_A_FOLDER for path in FOLDERS]),
    "host": (11, [partial(of_the_host, command) for command in BY_HAND]),
}
"""Kind of edit → how often it is drawn beside the others, and its edits."""


def drawn(count: int, chance: random.Random) -> Iterator[Edit]:
    """`count` edits by chance; of a kind, none twice before all were drawn."""
    decks: dict[str, list[Edit]] = {}
    for _ in range(count):
        (kind,) = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
        if not decks.get(kind):
            decks[kind] = chance.sample(KINDS[kind][1], len(KINDS[kind][1]))
        yield decks[kind].pop()


# ── the property ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Compared:
    """A dry run, the run after it, and the dry run after that."""

    edit: str
    planned: list[str]
    changed: list[str]
    left: list[str]
    failed: str

    @property
    def wrong(self) -> str:
        """What isn't as it should be; empty when all is."""
        if self.failed:
            return f"{self.edit}: the run failed: {self.failed}"
        if self.planned != self.changed:
            lacks = [name for name in self.changed if name not in self.planned]
            more = [name for name in self.planned if name not in self.changed]
            return f"{self.edit}: the plan lacks {lacks}, and has {more} too many"
        return f"{self.edit}: left to be done afterwards: {self.left}" if self.left else ""


def compare(host: Host, edit: str) -> Compared:
    """Plan, run, plan again; what a run leaves is cleared away for the next edit."""
    planned = host.planned()
    run = host.deploy(check=False)
    failed = "" if run.ok else f"{run.errors}\n{run.told[-1500:]}"
    left = host.planned()
    found = Compared(edit, planned, run.changed, left, failed)
    log.info("    %s: %s", "WRONG" if found.wrong else "equal", found.wrong or f"{edit}: {len(planned)} operations")
    if found.wrong:
        host.deploy()
        host.converged()
    return found


def test_the_bare_host(host: Host) -> None:
    found = compare(host, "bare")
    assert not found.wrong
    assert len(found.planned) > 12
    assert host.get("/readyz").status_code == 200


def edited(host: Host, count: int) -> None:
    """Make `count` edits, one after the other, each followed by the comparison; fail with all that were wrong."""
    log.info("    SLIPWAY_SEED=%d SLIPWAY_EDITS=%d", SEED, count)
    chance = random.Random(SEED)
    done: list[Compared] = []
    for edit in drawn(count, chance):
        what = edit(host, chance)
        log.info("    edit %d: %s", len(done) + 1, what)
        done.append(compare(host, what))
    assert [found.wrong for found in done if found.wrong] == []
    assert any(found.changed for found in done)
    assert host.get("/readyz", verify=False, scheme=scheme(host)).status_code == 200


def scheme(host: Host) -> str:
    """By which the site is reached now."""
    return "http" if host.app().get("tls") == {"mode": "off"} else "https"


def test_after_any_single_edit(host: Host) -> None:
    edited(host, int(EDITS or 6))


@pytest.mark.slow
def test_after_a_hundred_edits(host: Host) -> None:
    edited(host, int(EDITS or 100))


def test_a_user_that_is_made_again_owns_what_it_owned(host: Host) -> None:
    before = host.ssh("stat -c '%u %g %a' /var/lib/notes /etc/notes/env; id notes")
    host.ssh("userdel --force notes")
    assert host.run("id notes").returncode != 0
    assert not compare(host, "userdel --force notes").wrong
    assert host.ssh("stat -c '%u %g %a' /var/lib/notes /etc/notes/env; id notes") == before


def test_no_secret_shows_in_a_plan_or_a_run_at_any_verbosity(host: Host) -> None:
    secrets = [*SECRETS, "s3cr3t-once-more-09c2"]
    host.file("notes.env", f"SECRET={secrets[0]}\nOTHER='{secrets[1]}'\nLATER={secrets[2]}\n")
    dry = host.deploy("--dry", "--diff", "-vvv")
    path = host.folder / "verbose.log"
    assert host.start_deploy("--diff", "-vvv", output=path).wait(120) == 0, path.read_text()[-4000:]
    for what, shown in (("plan", dry.output), ("run", path.read_text())):
        assert re.search(r"will modify /etc/notes/env", shown), what
        assert "lines, not shown: it may hold secrets" in shown, what
        assert [each for each in shapes(secrets) if each in shown] == [], f"a secret is in the {what}"
