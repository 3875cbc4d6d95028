"""What finds a release's application (files/app/servers/slipway_look.py), run as on a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway import project

PROGRAM = project.root() / "files/app/servers/slipway_look.py"
MARK = "mark 1: "
ASGI = "async def app(scope, receive, send): ...\n"
WSGI = "def app(environ, start_response): ...\n"
FACTORY = "def create_app(name='x'):\n    async def made(scope, receive, send): ...\n    return made\n"
FLASK = """
class Flask:
    def __call__(self, environ, start_response): ...
app = Flask()
"""
STARLETTE = """
class Starlette:
    async def __call__(self, scope, receive, send): ...
app = Starlette()
"""
MIDDLEWARE = """
class Wrapped:
    def __call__(self, scope, receive, send): ...
app = Wrapped()
"""
DJANGO = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")\n'
SETTINGS = "from pydantic import BaseModel\nclass S(BaseModel):\n    secret_key: str\n    db_url: str\nS()\n"
WANTS = "The app wants variables that it doesn't have: set {} in env, or in env_file."
PUT_BELOW = 'put that below `if __name__ == "__main__":`.'
FASTAPI = '[project]\nname = "x"\n[tool.fastapi]\nentrypoint = "other:api"\n'


def look(folder: Path, files: dict[str, str], app: str = "", **asked: Any) -> tuple[dict[str, Any] | None, str]:
    """Its answer, and what else it prints."""
    environment = asked.pop("environment", {})
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    question: dict[str, Any] = {
        "app": app,
        "interface": None,
        "factory": None,
        "server": "one",
        "modules": {},
        "versions": {},
    }
    done = subprocess.run(
        [sys.executable, "-B", str(PROGRAM)],
        input=f"{MARK}\n{json.dumps(question | asked)}\n",
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert (done.returncode == 0) == bool(found), done.stderr
    return (json.loads(found[0]) if found else None), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": ASGI}, ("main:app", "asgi", "main.py")),
        ({"main.py": "x = 1\n", "app.py": FLASK}, ("app:app", "wsgi", "app.py")),
        (
            {"app.py": f"{FLASK}def run(): app.run()\nif __name__ == '__main__':\n    app.run()\n"},
            ("app:app", "wsgi", "app.py"),
        ),
        ({"app/main.py": STARLETTE}, ("app.main:app", "asgi", "app/main.py")),
        ({"app/__init__.py": "", "app/main.py": MIDDLEWARE}, ("app.main:app", "asgi", "app/main.py")),
        ({"shop/__init__.py": FACTORY}, ("shop:create_app()", "asgi", "shop/__init__.py")),
        (
            {"pyproject.toml": '[project]\nname = "my-shop"\n', "my_shop/asgi.py": ASGI.replace("app", "application")},
            ("my_shop.asgi:application", "asgi", "my_shop/asgi.py"),
        ),
        (
            {"pyproject.toml": FASTAPI, "main.py": ASGI, "other.py": ASGI.replace("app", "api")},
            ("other:api", "asgi", "[tool.fastapi] of pyproject.toml"),
        ),
        (
            {"manage.py": DJANGO, "site1/wsgi.py": WSGI.replace("app", "application"), "site1/asgi.py": "1/0"},
            ("site1.wsgi:application", "wsgi", "manage.py"),
        ),
        # Flask-Script's manage.py names no settings of Django.
        ({"manage.py": "import os\n", "wsgi.py": WSGI}, ("wsgi:app", "wsgi", "wsgi.py")),
        # A module that has an application's name is none.
        (
            {"app/__init__.py": "from app import server\n", "app/server/__init__.py": "", "app/server/asgi.py": FLASK},
            ("app.server.asgi:app", "wsgi", "app/server/asgi.py"),
        ),
        # Where nothing usual has one, the only file that may.
        (
            {
                "shop/__init__.py": "",
                "shop/web/__init__.py": "",
                "shop/web/entry.py": "# Flask\n" + WSGI,
                "shop/tests/entry.py": FLASK,
                "shop/other.py": "app = 1\n",
            },
            ("shop.web.entry:app", "wsgi", "shop/web/entry.py"),
        ),
    ],
)
def test_what_is_found(tmp_path: Path, files: dict[str, str], expected: tuple[str, str, str]) -> None:
    found, said = look(tmp_path, files)
    assert found is not None, said
    assert (found["app"], found["interface"], found["where"]) == expected


def test_channels_of_django_speak_asgi(tmp_path: Path) -> None:
    asgi = "from os import path as ProtocolTypeRouter\nasync def application(scope, receive, send): ...\n"
    files = {"manage.py": DJANGO, "site1/wsgi.py": "1/0", "site1/asgi.py": asgi}
    found, said = look(tmp_path, files)
    assert found is not None and found["app"] == "site1.asgi:application", said


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LITESTAR_APP", "odd:app", "odd:app"),
        ("FLASK_APP", "odd.py", "odd:app"),
        ("FLASK_APP", "odd", "odd:app"),
        ("FLASK_APP", "shop.web", "shop.web:app"),
    ],
)
def test_variables_of_frameworks(tmp_path: Path, variable: str, value: str, expected: str) -> None:
    files = {"main.py": ASGI, "odd.py": WSGI, "shop/web.py": WSGI}
    found, said = look(tmp_path, files, environment={variable: value})
    where = f"{variable} of the environment"
    assert found == {"app": expected, "interface": "wsgi", "where": where, "health": []}, said


ROUTES = """
from types import SimpleNamespace as Route

class Of:
    def __init__(self, **parts): self.__dict__.update(parts)
    async def __call__(self, scope, receive, send): ...

class Included:
    def matches(self, scope): return Route(value=2 if scope["path"] == "/api/health" else 0), {}

inner = [Route(path="/live", methods={"GET"}), Route(path="/ping", methods={"GET"})]
"""


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            'Of(routes=[Route(path="/health", methods={"GET"}), Route(path="/readyz", methods={"GET"})])',
            "/readyz /health",
        ),
        ('Of(routes=[Route(path="/healthz", methods={"POST"}), Route(path="/{name}", methods={"GET"})])', ""),
        ('Of(routes=[Route(path="/health", routes=inner), Route(path="", routes=inner)])', "/health/live /live /ping"),
        ('Of(app=Of(routes=[Route(path="/up")]))', "/up"),
        ("Of(routes=[Included()])", "/api/health"),
        ('Of(url_map=Route(iter_rules=lambda: [Route(rule="/healthz/", methods={"GET"})]))', "/healthz/"),
        ("Of(routes=1)", ""),
        ("Of()", ""),
    ],
)
def test_paths_of_health_checks(tmp_path: Path, made: str, expected: str) -> None:
    """Of Starlette's routes and what is mounted, of what is wrapped, of Werkzeug's rules; of others nothing is said."""
    found, said = look(tmp_path, {"main.py": f"{ROUTES}app = {made}\n"}, "main:app")
    assert found is not None and found["health"] == expected.split(), said


@pytest.mark.parametrize(
    ("text", "app", "asked", "expected"),
    [
        (ASGI, "main:app", {}, ("main:app", "asgi")),
        (WSGI, "main:app", {}, ("main:app", "wsgi")),
        (FACTORY, "main:create_app", {}, ("main:create_app()", "asgi")),
        (FACTORY, "main:create_app('y')", {}, ("main:create_app('y')", "asgi")),
        # It isn't called where nothing is to be told of what it makes.
        ("def make(): 1/0\n", "main:make", {"interface": "wsgi"}, ("main:make()", "wsgi")),
        ("def app(*args): ...\n", "main:app", {"interface": "asgi"}, ("main:app", "asgi")),
        ("def app(*args): ...\n", "main:app", {"interface": "wsgi", "factory": True}, ("main:app()", "wsgi")),
        ("class inner:\n    app = staticmethod(lambda e, s: 1)\n", "main:inner.app", {}, ("main:inner.app", "wsgi")),
    ],
)
def test_what_it_is(tmp_path: Path, text: str, app: str, asked: dict[str, Any], expected: tuple[str, str]) -> None:
    found, said = look(tmp_path, {"main.py": text}, app, **asked)
    assert found is not None, said
    assert (found["app"], found["interface"], found["where"]) == (*expected, None)


@pytest.mark.parametrize(
    ("files", "app", "asked", "last"),
    [
        ({}, "", {}, 'No application was found: set app to module:attribute, such as "main:app", of a module in '),
        (
            {"main.py": "import nothing_here\n"},
            "main:app",
            {},
            (
                "main:app can't be imported.\nNo package of the release brings nothing_here: add it to the project, or "
                '"nothing-here" to dependencies.more.'
            ),
        ),
        ({"main.py": "import bs4\n"}, "main:app", {}, 'or "beautifulsoup4" to dependencies.more.'),
        (
            {"src/shop/__init__.py": "", "src/shop/entry.py": FLASK},
            "",
            {},
            'The application may be in src/shop/entry.py: set python_path to ["src"].',
        ),
        (
            {"one/__init__.py": "", "two/__init__.py": "", "one/entry.py": FLASK, "two/asgi.py": STARLETTE},
            "",
            {},
            'Set app to one of these, or another: "two.asgi:app" (two/asgi.py), "one.entry:app" (one/entry.py).',
        ),
        ({"main.py": "import os\nos.environ['SECRET_KEY']\n"}, "main:app", {}, WANTS.format("SECRET_KEY")),
        (
            {"main.py": "def make():\n    raise OSError('Set the DB_URL environment variable')\n"},
            "main:make",
            {},
            WANTS.format("DB_URL"),
        ),
        ({"main.py": "raise ValueError('MAIL_SERVER is required')\n"}, "main:app", {}, WANTS.format("MAIL_SERVER")),
        (
            {"main.py": SETTINGS},
            "main:app",
            {},
            WANTS.format("SECRET_KEY, DB_URL"),
        ),
        (
            {
                "main.py": "try:\n    import sentry_sdk\nexcept ImportError as error:\n    raise OSError from error\n",
                "pyproject.toml": '[dependency-groups]\nprod = ["sentry-sdk[flask]>=2"]\n',
            },
            "main:app",
            {},
            'The project has sentry_sdk in its groups "prod": add that to dependencies.groups.',
        ),
        (
            {
                "main.py": "import psycopg2\n",
                "pyproject.toml": '[project.optional-dependencies]\npg = ["psycopg2-binary"]\n',
            },
            "main:app",
            {},
            'The project has psycopg2 in its extras "pg": add that to dependencies.extras.',
        ),
        (
            {"main.py": f"{FLASK}app.run()\n"},
            "",
            {},
            f"main.py starts a server of its own when it is imported (line 5): {PUT_BELOW}",
        ),
        (
            {"shop/web.py": f"{FLASK}import uvicorn\nuvicorn.run('shop.web:app', port=80)\n"},
            "shop.web:app",
            {},
            f"shop/web.py starts a server of its own when it is imported (line 6): {PUT_BELOW}",
        ),
        (
            {"src/shop/main.py": ASGI},
            "shop.main:app",
            {},
            'shop.main:app can\'t be imported.\nThere is a shop in src: set python_path to ["src"].',
        ),
        ({"main.py": "import sys\nsys.exit(0)\n"}, "main:app", {}, "main:app can't be imported."),
        ({"main.py": "app = 5\n"}, "main:app", {}, "main:app is no application, but a int: correct the setting app."),
        (
            {"main.py": "def make(): 1/0\n"},
            "main:make",
            {},
            'if it needs the migrated database, set interface to "asgi" or "wsgi".',
        ),
        (
            {"main.py": "class app:\n    def __init__(self, scope): ...\n"},
            "main:app",
            {},
            "main:app is an ASGI 2 application, which no server here serves: wrap it for ASGI 3.",
        ),
        (
            {"main.py": "def app(*args): ...\n"},
            "main:app",
            {},
            'What main:app is can\'t be told from its signature: set interface to "asgi" or "wsgi".',
        ),
        (
            {"main.py": ASGI},
            "main:app",
            {"versions": {"pytest": ">=1,<2"}},
            "and its server needs pytest >=1,<2.",
        ),
        (
            {"main.py": ASGI},
            "main:app",
            {"modules": {"asgi": ["json", "nothing_here"]}},
            "Its server one can't be imported.",
        ),
    ],
)
def test_what_ends_a_release(tmp_path: Path, files: dict[str, str], app: str, asked: dict[str, Any], last: str) -> None:
    found, said = look(tmp_path, files, app, **asked)
    assert found is None
    assert last in said, said


def test_versions_that_fit(tmp_path: Path) -> None:
    asked = {"versions": {"pytest": ">=1", "no-such-package": ">=9"}, "modules": {"asgi": ["json"], "wsgi": ["none"]}}
    found, said = look(tmp_path, {"main.py": ASGI}, "main:app", **asked)
    assert found is not None, said


def test_an_end_at_import_is_told(tmp_path: Path) -> None:
    _, said = look(tmp_path, {"main.py": "import sys\nsys.exit(0)\n"}, "main:app")
    assert "main calls sys.exit(0) while it is imported" in said


def test_folders_of_modules(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(tmp_path / "src")}
    found, said = look(tmp_path, {"src/shop/main.py": ASGI}, "shop.main:app", environment=environment)
    assert found is not None, said


def test_a_module_of_the_apps_comes_before_ours(tmp_path: Path) -> None:
    files = {"slipway_master.py": ASGI, "json.py": "raise SystemExit\n"}
    found, said = look(tmp_path, files, "slipway_master:app")
    assert found is not None, said
