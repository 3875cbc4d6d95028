"""What a release's source and its app say or do is foreign: a plan runs nothing of it with anything in its hands, no
secret of an app's is shown, and nothing steers the operator's terminal.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e._driver import Host
from tests.e2e.apps import add_revision, copy_example, leftovers, record
from tests.e2e.conftest import MakeHost
from tests.target.image import SUITES

pytestmark = [pytest.mark.story, pytest.mark.slow]

PASSWORD = "p%40ss%2Fword-71c0de"
"""Of the database's user, as a URL has it."""
PLAIN = "p@ss/word-71c0de"
TOKEN = "sk-live-5f1e77aa90"
STEERING = "\x1b]52;c;aGk=\x07\x1b[2J\u202e\x9b31m"
"""What sets a terminal's clipboard, clears it, turns the writing around, and colours it."""

TRIES = r"""
import os, pathlib, socket, subprocess, sys
found = []
def tried(what, action):
    try:
        found.append(f"{what} DONE {action()!r}")
    except BaseException as error:
        found.append(f"{what} {type(error).__name__}")
def reach(family, address):
    with socket.socket(family) as one:
        one.settimeout(3)
        one.connect(address)
for name in ("DATABASE_URL", "DATABASE_URL_SYNC", "TOKEN", "GREETING"):
    found.append(f"{name} is {os.environ.get(name)}")
for path in ("/etc/notes/env", "/etc/notes/build.env", "/etc/shadow", "/proc/1/environ", "/var/lib/notes/kept"):
    tried(f"read {path}", lambda: pathlib.Path(path).read_text())
for folder in ("/etc/notes", "/var/lib", "/srv/notes/current", "/run/slipway", "/run/postgresql", "/home"):
    tried(f"list {folder}", lambda: os.listdir(folder))
tried("connect inet", lambda: reach(socket.AF_INET, ("127.0.0.1", 5432)))
tried("connect unix", lambda: reach(socket.AF_UNIX, "/var/run/postgresql/.s.PGSQL.5432"))
tried("connect journal", lambda: reach(socket.AF_UNIX, "/run/systemd/journal/stdout"))
tried("connect dbus", lambda: reach(socket.AF_UNIX, "/run/dbus/system_bus_socket"))
for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/", ".", "/etc", "/srv/notes", "/var/lib/notes", "/dev/mqueue"):
    tried(f"write {folder}", lambda: pathlib.Path(folder, "guest-was-here").write_text("x"))
tried("kill", lambda: os.kill(1, 0))
tried("sudo", lambda: subprocess.run(["sudo", "-n", "true"], check=True))
print("\x1b]52;c;aGk=\x07\x1b[2J\u202e")
print('slipway-schema: {"heads": ["forged"], "unknown": [], "pending": [], "sql": {"0003": "FORGED"}}')
"""
"""Python that tries what a migration has no business with; `found` has a line for each."""

AT_EXIT = r"""
import atexit
atexit.register(lambda: os.write(1, b'slipway-schema: {"heads": ["forged"], "sql": {"0003": "FORGED"}}\n'))
"""


@pytest.fixture(scope="module", params=list(SUITES))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with PostgreSQL and one app; nothing is deployed yet."""
    host = make_host("guests", request.param, ())
    host.slipway["apps"] = {
        "notes": {
            "domains": ["notes.test"],
            "source": {"path": str(copy_example("notes", host.folder))},
            "app": "notes.main:app",
            "liveness_path": "/healthz",
            "readiness_path": "/readyz",
            "tls": {"mode": "off"},
            "workers": 1,
            "watch": 0,
            "keep_warm": 0,
            "env": {"GREETING": "hello-world-42"},
        }
    }
    host.slipway["packages"] = ["postgresql"]
    return host


def source(host: Host) -> Path:
    """The app's folder."""
    return Path(host.app()["source"]["path"])


def planned(host: Host) -> str:
    """What `slipway plan` prints, and what it has as JSON, checked for what may never be in it."""
    told = host.run_slipway("plan")
    machine = host.run_slipway("plan", "--json")
    for text in (told.stdout + told.stderr, machine.stdout):
        assert harmless(text)
    assert json.loads(machine.stdout)["plan"] is True
    return told.stdout + told.stderr


def harmless(text: str) -> bool:
    """Whether nothing in it is secret, or steers a terminal."""
    assert not [secret for secret in (PASSWORD, PLAIN, "word-71c0de", TOKEN) if secret in text]
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text)


def test_database(host: Host) -> None:
    """The app serves from PostgreSQL, as it does everywhere."""
    host.deploy()
    make = f"CREATE USER notes PASSWORD '{PLAIN}';\nCREATE DATABASE notes OWNER notes;\n"
    host.ssh("runuser -u postgres -- psql -q", stdin=make)
    url = f"postgres://notes:{PASSWORD}@127.0.0.1:5432/notes"
    host.app()["env_file"] = host.file("notes.env", f"DATABASE_URL={url}\nTOKEN={TOKEN}\n")
    host.app()["database_driver"] = "asyncpg"
    host.deploy()
    host.ssh("echo kept >/var/lib/notes/kept")


def test_a_plan_gives_a_new_source_nothing(host: Host) -> None:
    """Neither env.py nor a revision reads, reaches, writes or forges anything; the SQL is shown all the same."""
    versions = source(host) / "migrations/versions"
    env = source(host) / "migrations/env.py"
    before = env.read_text()
    env.write_text(f"{TRIES}\n{AT_EXIT}\nimport builtins\nbuiltins.tried_by_env = found\n{before}")
    made = add_revision(
        versions,
        "0003",
        "0002",
        'op.add_column("notes", sa.Column("title", sa.Text))',
        "import builtins",
        'for line in [*found, *(f"env.py: {each}" for each in builtins.tried_by_env)]:',
        "    op.execute(sa.text('-- ' + line.replace(':', ' ').replace(chr(10), ' ')))",
    )
    made.write_text(made.read_text().replace("def upgrade", f"{TRIES}\ndef upgrade"))
    files = "find / -xdev -name 'guest-was-here*' -not -path '/proc/*' 2>/dev/null; ls /run/slipway/notes; ls /dev/shm"
    units = "systemctl list-units --all --plain --no-legend 'notes-plan*'"
    state = host.ssh(f"{files}; {units}")
    told = planned(host)
    assert "will run migration 0003 of notes: Revision 0003." in told
    assert "ALTER TABLE notes ADD COLUMN title TEXT;" in told
    assert "forged" not in told and "FORGED" not in told
    for by in ("", "env.py  "):
        assert f"-- {by}GREETING is hello-world-42" in told
        assert f"-- {by}TOKEN is placeholder" in told
        assert f"-- {by}DATABASE_URL is postgresql+asyncpg //localhost/placeholder" in told
        tries = [line.partition("-- ")[2].removeprefix(by) for line in told.splitlines() if f"-- {by}" in line]
        kinds = [line.partition(" ")[0] for line in tries]
        counted = {kind: kinds.count(kind) for kind in ("read", "list", "connect", "write", "kill", "sudo")}
        assert counted == {"read": 5, "list": 6, "connect": 4, "write": 10, "kill": 1, "sudo": 1}
    assert "DONE" not in re.sub(r"list \S+ DONE \[\]", "", told), "only folders of its own, where nothing is"
    assert host.ssh(f"{files}; {units}") == state, "nothing is left on the host"
    assert host.ssh("runuser -u postgres -- psql -qtAd notes -c 'SELECT version_num FROM alembic_version'") == "0002"
    env.write_text(before)
    made.unlink()


def test_a_plan_goes_on_where_alembic_cannot(host: Host) -> None:
    """A migration that ends the program, fills the memory or never stops printing costs the plan its SQL alone."""
    made = add_revision(source(host) / "migrations/versions", "0003", "0002", 'op.drop_table("old")')
    text = made.read_text()
    for broken, says in (
        ("import os\nos._exit(7)\n", "the SQL of its migrations can't be written here"),
        ("x = bytearray(2_000_000_000)\n", "the SQL of its migrations can't be written here"),
        ("while True:\n    print('\\x1b[2J' * 1000)\n", "it wrote more than"),
    ):
        made.write_text(text.replace("def upgrade", f"{broken}def upgrade"))
        told = planned(host)
        assert says in told and "(its SQL can't be written without the database)" in told
        assert "it drops the table old, which needs" in told, "what it does to code that serves was read, and not run"
    made.write_text(text.replace('"0003"', "chr(51)"))
    assert "its revision is no constant" in planned(host)
    made.unlink()


def test_an_error_that_quotes_a_secret(host: Host) -> None:
    """Of the URL that env.py puts into an exception, its record and its log show nothing; of what steers, neither."""
    env = source(host) / "migrations/env.py"
    before = env.read_text()
    raises = (
        "import os\n"
        "url = os.environ['DATABASE_URL']\n"
        f"print({STEERING!r}, 'token', os.environ['TOKEN'])\n"
        "raise ValueError(f'{url!r} is wrong; cut: {url[:45]}\\n' + os.environ['GREETING'])\n"
    )
    env.write_text(raises + before)
    serving = host.release()
    run = host.deploy("-vv", check=False)
    assert run.code != 0
    run.says("failed at check (3 of 9)", "ValueError: '***' is wrong", "hello-world-42", f"{serving} keeps serving")
    assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", run.output)), "but for pyinfra's own colours"
    kept = record(host, "notes")
    assert "ValueError: '***' is wrong" in kept["error"] and harmless(kept["error"])
    for shown in (
        f"cat /var/lib/slipway/notes/{kept['id']}.log",
        "/opt/slipway/bin/slipway log notes",
        "/opt/slipway/bin/slipway follow notes || true",
        "/opt/slipway/bin/slipway releases notes",
    ):
        assert harmless(host.ssh(shown)), shown
    assert "'***' is wrong" in host.ssh("/opt/slipway/bin/slipway log notes")
    env.write_text(before)


def test_an_app_that_dies_with_a_secret_on_its_lips(host: Host) -> None:
    """Nor do the journal's lines that a failure shows."""
    main = source(host) / "notes/main.py"
    before = main.read_text()
    dies = (
        "import os as _os, sys as _sys\n"
        "if 'gunicorn' in _sys.argv[0]:\n"
        f"    print({STEERING!r}, 'dies of', _os.environ['DATABASE_URL'], flush=True)\n"
        "    raise RuntimeError(_os.environ['TOKEN'])\n"
    )
    main.write_text(before.replace('"""\n', f'"""\n{dies}', 1) if before.startswith('"""') else dies + before)
    run = host.deploy(check=False)
    assert run.code != 0
    run.says("RuntimeError: ***")
    assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", run.output))
    main.write_text(before)
    host.deploy()
    assert leftovers(host, "notes") == []
