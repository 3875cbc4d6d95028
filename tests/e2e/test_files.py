"""What an app's source doesn't have: what is built on the host, what the app writes, and what the operator gives it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e._driver import ROOT, Host
from tests.e2e.apps import leftovers
from tests.e2e.conftest import MakeHost, systems

pytestmark = pytest.mark.story

APPS = ROOT / "tests/apps"
QUICK = {"watch": 0, "keep_warm": 0, "readiness_path": "/", "liveness_path": "/", "tls": {"mode": "off"}}
YEAR = "max-age=31536000"


@dataclass
class Place:
    """The host of this story, and copies of the apps."""

    host: Host
    apps: Path

    def get(self, app: str, path: str = "/", **headers: str) -> httpx.Response:
        """An answer of a site."""
        return self.host.get(path, domain=f"{app}.test", scheme="http", headers=headers)

    def put(self, name: str, content: bytes) -> None:
        """Let the album take a file."""
        answer = self.host.request("PUT", f"/files/{name}", domain="uploads.test", scheme="http", content=content)
        assert answer.status_code == 200, answer.text

    def album(self) -> dict[str, object]:
        """What the album tells."""
        told: dict[str, object] = self.get("uploads").json()
        return told


@pytest.fixture(scope="module", params=systems("debian13"))
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """Two apps as their authors left them; an inventory says the rest."""
    host = make_host("files", request.param, ())
    for name in ("frontend", "uploads"):
        shutil.copytree(APPS / name, host.folder / name)
    host.file("settings.ini", "[mail]\npassword = s3cr3t-of-mail\n")
    host.slipway["apps"] = {
        "frontend": {
            "domains": ["frontend.test"],
            "source": {"path": "frontend"},
            "app": "pages.main:app",
            "node": True,
            "build": ["npm ci", "npm run build"],
            "static": {"path": "dist/assets", "url": "/assets/"},
            **QUICK,
        },
        "uploads": {
            "domains": ["uploads.test"],
            "source": {"path": "uploads"},
            "app": "album:app",
            "workers": 1,
            **QUICK,
        },
    }
    return Place(host, host.folder)


@pytest.fixture(scope="module")
def served(place: Place) -> Place:
    """Both apps, deployed with all that they need."""
    place.host.app("uploads").update(
        shared=["logs", "media"],
        shared_files={"album.db": {"writable": True}, "settings.ini": "settings.ini"},
        static={"path": "media", "url": "/media/"},
    )
    place.host.deploy()
    return place


@pytest.mark.slow
def test_what_the_app_cannot_write_is_told_with_the_setting(place: Place) -> None:
    """One after another, as an operator would meet them; nothing else is needed to get there."""
    host, album = place.host, place.host.app("uploads")
    run = host.deploy(check=False)
    assert run.code != 0
    run.says('logs/album.log lies in the release, which the app can\'t change. Set shared to ["logs"]')
    album["shared"] = ["logs"]
    run = host.deploy(check=False)
    assert run.code != 0
    run.says(
        "SQLite writes to its file and beside it.", 'name it in shared_files, as {"db.sqlite3": {"writable": True}}'
    )
    album["shared_files"] = {"album.db": {"writable": True}}
    host.deploy()
    host.converged()


def test_a_front_end_is_built_and_served(served: Place) -> None:
    page = served.get("frontend").text
    [script] = re.findall(r'src="(/assets/app\.[0-9a-f]{12}\.js)"', page)
    answer = served.get("frontend", script, **{"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.text) == (200, 'document.title = "built";\n')
    assert YEAR in answer.headers["Cache-Control"] and "immutable" in answer.headers["Cache-Control"]
    packed = served.get("frontend", script, **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and packed.text == answer.text
    plain = served.get("frontend", "/assets/app.js")
    assert plain.headers["Cache-Control"] == "max-age=3600"


def test_the_next_build_has_the_environment_of_the_one_before(served: Place) -> None:
    """Commands see it, though it is root's and readable by the app's group alone."""
    host = served.host
    source = host.folder / "frontend/site/app.css"
    source.write_text(source.read_text() + "\nmain {\n}\n")
    probe = "import os, sys; open('seen.txt', 'w').write(f'{sys.prefix} {os.access(\"/etc/frontend/env\", os.R_OK)}')"
    host.app("frontend")["build"] = ["npm ci", "npm run build", shlex.join(["python", "-c", probe])]
    host.deploy()
    release = host.release("frontend")
    assert host.ssh("cat /srv/frontend/current/seen.txt").strip() == f"/srv/frontend/releases/{release}/.venv False"
    assert leftovers(host, "frontend") == []
    host.converged()


def test_uploads_are_served_and_never_as_code(served: Place) -> None:
    assert served.get("uploads", "/media/first.txt").text == "A first picture.\n", "what the source had is there"
    for name, content in (
        ("cat.png", b"png"),
        ("page.html", b"<script>1</script>"),
        ("code.js", b"1"),
        ("a.svg", b"<svg/>"),
    ):
        served.put(name, content)
        answer = served.get("uploads", f"/media/{name}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        kind = {"cat.png": "image/png", "a.svg": "image/svg+xml"}.get(name, "application/octet-stream")
        assert answer.headers["Content-Type"].partition(";")[0] == kind
    host = served.host
    host.ssh("runuser -u uploads -- ln -s /etc/uploads/env /srv/uploads/shared/media/env.txt")
    assert served.get("uploads", "/media/env.txt").status_code in (403, 404)
    host.ssh("rm /srv/uploads/shared/media/env.txt")
    assert "s3cr3t" not in host.deploy("--dry").output


def test_what_was_written_outlives_releases_and_rollbacks(served: Place) -> None:
    host, before = served.host, served.album()
    assert before["mail"] is True and "cat.png" in json.dumps(before["files"])
    first = host.release("uploads")
    code = host.folder / "uploads/album.py"
    code.write_text(code.read_text() + "\n# another release\n")
    (host.folder / "uploads/media/first.txt").write_text("changed in the source\n")
    host.task("tasks/release.py", app="uploads", prove=True)
    assert host.release("uploads") != first
    assert served.album()["files"] == before["files"]
    assert served.get("uploads", "/media/first.txt").text == "A first picture.\n"
    served.put("late.png", b"late")
    host.task("tasks/rollback.py", app="uploads")
    assert host.release("uploads") == first
    assert "late.png" in json.dumps(served.album()["files"])
    assert leftovers(host, "uploads") == []


def test_a_secret_file_is_its_releases_own(served: Place) -> None:
    host = served.host
    look = "stat -c '%U:%G %a' /srv/uploads/current/settings.ini; cat /srv/uploads/current/settings.ini"
    assert host.ssh(look).splitlines()[:1] == ["root:uploads 640"]
    host.file("settings.ini", "[mail]\npassword = an0ther-of-mail\n")
    run = host.task("tasks/release.py", app="uploads", again=True)
    assert "an0ther" in host.ssh(look) and "an0ther" not in run.output
    assert host.run("grep -rl an0ther-of-mail /var/lib/slipway /run/slipway /etc/slipway").returncode == 1
    assert host.run("runuser -u www-data -- cat /srv/uploads/current/settings.ini").returncode != 0


@pytest.mark.slow
def test_static_files_of_django_are_collected(served: Place) -> None:
    """Its settings are imported for that, with the variables that are named, and its database is a file beside them."""
    host = served.host
    shutil.copytree(APPS / "collected", host.folder / "collected")
    host.file("collected.env", "DJANGO_SECRET_KEY=s3cr3t-of-django-0123456789\n")
    host.slipway["apps"]["collected"] = {
        "domains": ["collected.test"],
        "source": {"path": "collected"},
        "app": "shop.asgi:application",
        "env_file": "collected.env",
        "build_env": ["DJANGO_SECRET_KEY"],
        "build": ["python manage.py collectstatic --noinput"],
        "static": {"path": "staticfiles"},
        "shared_files": {"db.sqlite3": {"writable": True}},
        "migrate": "python manage.py migrate --noinput",
        **QUICK,
    }
    host.deploy()
    assert served.get("collected").text == "shop"
    page = served.get("collected", "/admin/login/").text
    [style] = re.findall(r'href="(/static/admin/css/base\.[0-9a-f]{12}\.css)"', page)
    answer = served.get("collected", style)
    assert answer.status_code == 200 and YEAR in answer.headers["Cache-Control"]
    first = host.release("collected")
    code = host.folder / "collected/shop/urls.py"
    code.write_text(code.read_text() + "\n# another release\n")
    host.task("tasks/release.py", app="collected", prove=True)
    assert host.release("collected") != first and served.get("collected", style).status_code == 200
    host.task("tasks/rollback.py", app="collected", prove=True)
    assert host.release("collected") == first and served.get("collected", style).status_code == 200
    host.task("tasks/release.py", app="collected", again=True)
    host.converged()


@pytest.mark.slow
def test_a_front_end_goes_back(served: Place) -> None:
    """To the files that its first build made."""
    host, newer = served.host, served.get("frontend").text
    site = host.folder / "frontend/site/app.js"
    site.write_text(site.read_text() + "document.title += '!';\n")
    host.task("tasks/release.py", app="frontend", prove=True)
    assert served.get("frontend").text != newer
    host.task("tasks/rollback.py", app="frontend", prove=True)
    assert served.get("frontend").text == newer
    [script] = re.findall(r'src="(/assets/[^"]+)"', newer)
    assert served.get("frontend", script).status_code == 200
    host.task("tasks/release.py", app="frontend", again=True)
    host.converged()
