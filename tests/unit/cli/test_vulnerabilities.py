"""`slipway vulnerabilities`, against a service on this machine that speaks OSV's API: three answers, told apart."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipway.cli import audit, main
from slipway.settings import AppSettings, GitSource, load_inventory
from tests.unit.inventories import MINIMAL, write_project

KNOWN = {
    "id": "PYSEC-2026-1",
    "modified": "2026-01-01T00:00:00Z",
    "summary": "It leaks",
    "aliases": ["CVE-2026-1"],
    "affected": [
        {
            "package": {"name": "gunicorn", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "27.0.2"}]}],
        }
    ],
}


class Service(ThreadingHTTPServer):
    """Answers as api.osv.dev does."""

    known: frozenset[str] = frozenset()
    """Packages against which it knows something."""
    broken = False
    asked: list[str]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        names = [query["package"]["name"] for query in queries]
        self.server.asked += [f"{query['package']['name']} {query['version']}" for query in queries]
        found = [{"id": KNOWN["id"], "modified": KNOWN["modified"]}]
        self._answer({"results": [{"vulns": found} if name in self.server.known else {} for name in names]})

    def do_GET(self) -> None:
        self._answer(KNOWN)

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(400 if self.server.broken else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that knows of nothing yet."""
    with Service(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


Look = Callable[..., tuple[int, str, str]]


@pytest.fixture
def look(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Look:
    """`look(url, *options, source=…)`: exit code, standard output and errors of the verb for a small project."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    write_project(tmp_path / "project")

    def run(
        url: str, *options: str, source: dict[str, str] | None = None, dependencies: dict[str, Any] | None = None
    ) -> tuple[int, str, str]:
        app = MINIMAL["apps"]["notes"] | ({"source": source} if source else {})
        app |= {"dependencies": dependencies} if dependencies else {}
        data = {"ssh_user": "root", "slipway": {"apps": {"notes": app}}}
        (tmp_path / "inventory.py").write_text(f"hosts = [('203.0.113.5', {data!r})]\n")
        with pytest.raises(SystemExit) as ended:
            main(["vulnerabilities", str(tmp_path / "inventory.py"), "--service", url, *options])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def test_nothing_is_known(look: Look, service: Service) -> None:
    code, out, _ = look(service.url)
    assert (code, out) == (0, "notes: 3 packages, no known vulnerability\n")
    assert service.asked == ["fastapi 0.120.0", "gunicorn 27.0.1", "uvicorn-worker 0.4.0"]


def test_something_is_known(look: Look, service: Service) -> None:
    service.known = frozenset({"gunicorn"})
    code, out, _ = look(service.url)
    assert (code, out) == (2, "notes: gunicorn 27.0.1: PYSEC-2026-1, CVE-2026-1: It leaks; fixed in 27.0.2\n")


def test_a_script_is_told_all_of_it(look: Look, service: Service) -> None:
    service.known = frozenset({"gunicorn"})
    code, out, _ = look(service.url, "--json")
    assert code == 2
    (found,) = json.loads(out)["apps"]["notes"]["found"]
    assert (found["package"], found["id"], found["fixed"]) == ("gunicorn", "PYSEC-2026-1", ["27.0.2"])


def test_a_service_that_is_not_reached_is_not_nothing(look: Look) -> None:
    code, out, _ = look("http://127.0.0.1:1")
    assert code == 3
    assert out.startswith("notes: could not look: error: ") and "Connection refused" in out


def test_a_service_that_fails_is_not_nothing(look: Look, service: Service) -> None:
    service.broken = True
    code, out, _ = look(service.url)
    assert code == 3 and "could not look: error: HTTP status client error (400 Bad Request)" in out


def test_a_lock_file_that_cannot_be_read_is_not_nothing(look: Look, service: Service, tmp_path: Path) -> None:
    lock = tmp_path / "project/uv.lock"
    lock.write_text(lock.read_text().replace("version = 1\n", "version = 99\n", 1))
    code, out, _ = look(service.url)
    assert code == 3 and "could not look: error: " in out and "uv.lock" in out
    assert service.asked == []


def test_a_source_on_the_host_cannot_be_looked_at(look: Look, service: Service) -> None:
    code, out, _ = look(service.url, source={"git": "file:///srv/git/notes.git"})
    assert code == 3 and "file:///srv/git/notes.git is a repository on the host" in out


def test_a_git_source_is_fetched_at_its_ref(tmp_path: Path) -> None:
    work = tmp_path / "work"
    write_project(work)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "a"], ["tag", "v1"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(work), *identity, *words], check=True, capture_output=True)
    source = GitSource.model_construct(git=str(work), ref="v1", subdir="", deploy_key=None, known_hosts=None)
    app = AppSettings.model_construct(source=source)
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    audit._fetch(app, source, fetched)
    assert (fetched / "uv.lock").read_text() == (work / "uv.lock").read_text()
    with pytest.raises(audit._CannotLookError, match=r"^v9 of .*: fatal: "):
        audit._fetch(app, source.model_copy(update={"ref": "v9"}), tmp_path)


def test_a_wrong_command_line_is_a_third_thing(look: Look, service: Service) -> None:
    code, _, err = look(service.url, "--app", "shop")
    assert code == 1 and "there is no app shop; the inventory has notes" in err


def test_apps_of_one_name_on_two_hosts_are_each_looked_at(look: Look, service: Service, tmp_path: Path) -> None:
    """Where they differ; what is the same on both is looked at once."""
    look(service.url)
    write_project(tmp_path / "other")
    lock = tmp_path / "other/uv.lock"
    lock.write_text(lock.read_text().replace("27.0.1", "27.0.2"))
    app = {"domains": ["notes.example.com"], "app": "notes.main:app", "source": {"path": "project"}}
    hosts = [
        (host, {"ssh_user": "root", "slipway": {"apps": {"notes": app | {"source": {"path": path}}, "same": same}}})
        for host, path in (("a", "project"), ("b", "other"))
        for same in ({**app, "domains": [f"same.{host}.example.com"]},)
    ]
    (tmp_path / "two.py").write_text(f"hosts = {hosts!r}\n")
    service.known, service.asked = frozenset({"gunicorn"}), []
    found = audit.named(
        [(host, each) for host, _, settings in load_inventory(tmp_path / "two.py") for each in settings.apps.values()]
    )
    assert list(found) == ["notes on a", "notes on b", "same"]
    with pytest.raises(SystemExit) as ended:
        main(["vulnerabilities", str(tmp_path / "two.py"), "--service", service.url, "--app", "notes", "--json"])
    assert ended.value.code == 2
    assert {"gunicorn 27.0.1", "gunicorn 27.0.2"} <= set(service.asked)


# ── other lock files ─────────────────────────────────────────────────────────────────────────────────────────────────

POETRY_LOCK = """
[[package]]
name = "Gunicorn"
version = "27.0.1"
groups = ["main"]

[[package]]
name = "numpy"
version = "1.26.4"
groups = ["main"]
markers = "python_version < '3.12'"

[[package]]
name = "numpy"
version = "2.1.0"
groups = ["main", "dev"]
markers = "python_version >= '3.12'"

[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]

[[package]]
name = "uwsgi"
version = "2.0"
groups = ["prod"]

[[package]]
name = "kit"
version = "1.0"
groups = ["main"]
[package.source]
type = "directory"
url = "kit"
"""
PDM_LOCK = """
[[package]]
name = "gunicorn"
version = "27.0.1"
groups = ["default"]

[[package]]
name = "tool"
version = "1.0"
git = "https://git.example.com/tool.git"
groups = ["default"]
"""
PYLOCK = """
lock-version = "1.0"
created-by = "pip"

[[packages]]
name = "gunicorn"
version = "27.0.1"

[[packages]]
name = "kit"
directory = { path = "kit" }
"""
REQUIREMENTS = """
-r more.txt
gunicorn[setproctitle]==27.0.1 ; python_version > "3" \\
    --hash=sha256:aa
-e .
"""


@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("poetry.lock", POETRY_LOCK, ["gunicorn 27.0.1", "numpy 1.26.4", "numpy 2.1.0", "uwsgi 2.0"]),
        ("pdm.lock", PDM_LOCK, ["gunicorn 27.0.1"]),
        ("pylock.toml", PYLOCK, ["gunicorn 27.0.1"]),
        ("requirements.txt", REQUIREMENTS, ["click 8.1", "gunicorn 27.0.1"]),
    ],
)
def test_each_lock_file_is_looked_at(
    look: Look, service: Service, tmp_path: Path, name: str, text: str, asked: list[str]
) -> None:
    project = tmp_path / "project"
    (project / "uv.lock").unlink()
    (project / name).write_text(text)
    (project / "more.txt").write_text("click==8.1\n")
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.poetry.group.prod.dependencies]\n")
    service.known = frozenset({"gunicorn"})
    code, out, _ = look(service.url, dependencies={"groups": ["prod"]} if name == "poetry.lock" else {"hashes": False})
    assert code == 2
    assert out == "notes: gunicorn 27.0.1: PYSEC-2026-1, CVE-2026-1: It leaks; fixed in 27.0.2\n"
    assert sorted(service.asked) == asked


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("requirements.txt", "flask>=3\ngunicorn==27.0.1\n", "requirements.txt pins no version of flask"),
        ("requirements.txt", "flask==3.*,<4\n", "requirements.txt pins no version of flask"),
        ("requirements.txt", "# nothing\n", "its requirements.txt has no packages"),
        ("pylock.toml", "a =", "pylock.toml can't be read: Invalid value (at end of document)"),
    ],
)
def test_a_lock_file_that_leaves_versions_open(
    look: Look, service: Service, tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / "project/uv.lock").unlink()
    (tmp_path / "project" / name).write_text(text)
    assert look(service.url, dependencies={"hashes": False})[:2] == (3, f"notes: could not look: {why}\n")
    assert service.asked == []
