"""A good inventory, what follows from it, and how its environment reaches the app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from slipway import uv
from slipway.settings import (
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    AcmeSettings,
    AppSettings,
    FolderSource,
    GitSource,
    HeadersSettings,
    HooksSettings,
    NginxSettings,
    ProbeSettings,
    PythonSettings,
    RateLimit,
    SandboxSettings,
    Settings,
    StaticSettings,
    SystemSettings,
    TlsSettings,
    UpdatesSettings,
    UvSettings,
    load,
    load_inventory,
    render_env,
)
from slipway.settings.manual import documentation, render_example
from slipway.settings.problems import narrow_of
from slipway.settings.release import HOOKS
from tests.unit.inventories import (
    KIT,
    LOCK,
    MINIMAL,
    PYPROJECT,
    WITHOUT_KIT,
    changed,
    new_key,
    ssh_key,
    write_private,
    write_project,
)

MODELS: list[type[BaseModel]] = [
    Settings,
    AppSettings,
    GitSource,
    FolderSource,
    TlsSettings,
    StaticSettings,
    HooksSettings,
    ProbeSettings,
    PythonSettings,
    UvSettings,
    AcmeSettings,
    NginxSettings,
    HeadersSettings,
    RateLimit,
    SandboxSettings,
    UpdatesSettings,
    SystemSettings,
]
FIELDS = [(model, name, field) for model in MODELS for name, field in model.model_fields.items()]
INVENTORIES = Path(__file__).resolve().parents[3] / "inventories"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for an inventory, with a project to release."""
    write_project(tmp_path / "project")
    return tmp_path


def settings_of(folder: Path, changes: dict[str, Any] | None = None, env: str | None = None) -> Settings:
    """Settings of the minimal inventory with `changes`; `env` is the content of the app's .env."""
    changes = dict(changes or {})
    if env is not None:
        write_private(folder / "production.env", env)
        changes["apps.notes.env_file"] = "production.env"
    return load(changed(changes), inventory=folder / "production.py", host="203.0.113.5")


def app_of(folder: Path, changes: dict[str, Any] | None = None, env: str | None = None) -> AppSettings:
    """The app of `settings_of`."""
    return settings_of(folder, changes, env).apps["notes"]


def test_files_that_an_inventory_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the settings are relative to its folder, those of the connection to the current one."""
    monkeypatch.chdir(folder / "project")
    for name in ("host.env", "app.env", "http.conf", "site.conf"):
        write_private(folder / name, "A=1;\n")
    for name in ("project/login", "deploy"):
        write_private(folder / name, ssh_key(new_key()))
    git = {"git": "git@git.example.com:notes.git", "ref": "main", "deploy_key": "deploy"}
    more = {"env_file": "host.env", "nginx.extra": "http.conf"}
    of_apps = {"apps.notes.env_file": "app.env", "apps.notes.nginx_extra": "site.conf", "apps.notes.source": git}
    slipway = changed(more | of_apps)
    data = {"ssh_user": "root", "ssh_key": "login", "slipway": slipway}
    (folder / "production.py").write_text(f'hosts = [("203.0.113.5", {data!r})]\n')
    ((_, _, settings),) = load_inventory(folder / "production.py")
    named = ("host.env", "app.env", "http.conf", "site.conf", "deploy", "project/login")
    assert settings.named_files == {folder / name for name in named}


# --- What follows from a name ----------------------------------------------------------------------------------------


def test_paths_of_an_app(folder: Path) -> None:
    """Each path on the host, spelled once."""
    app = app_of(folder)
    assert (app.name, app.user, app.group) == ("notes", "notes", "notes")
    assert app.home == "/var/lib/notes"
    assert app.config_dir == "/etc/notes"
    assert app.env_path == "/etc/notes/env"
    assert app.release_config_path == "/etc/notes/release.json"
    assert app.deploy_key_path == "/etc/notes/deploy_key"
    assert app.known_hosts_path == "/etc/notes/known_hosts"
    assert app.root == "/srv/notes"
    assert app.releases_dir == "/srv/notes/releases"
    assert app.current_link == "/srv/notes/current"
    assert app.run_dir == "/run/notes"
    assert app.socket_path("20261121T003412Z-ab12cd3") == "/run/notes/20261121T003412Z-ab12cd3.sock"
    assert app.unit("20261121T003412Z-ab12cd3").service == "notes@20261121T003412Z-ab12cd3.service"
    assert app.unit("20261121T003412Z-ab12cd3").socket == "notes@20261121T003412Z-ab12cd3.socket"
    assert app.unit("").service == "notes@.service"
    assert app.upstream_path == "/etc/nginx/upstreams/notes.conf"


@pytest.mark.parametrize(
    ("mode", "place"),
    [("acme", "/etc/letsencrypt/live/notes"), ("self-signed", "/etc/slipway/tls/notes"), ("off", None)],
)
def test_certificate_on_the_host(mode: str, place: str | None, folder: Path) -> None:
    """It lies where the mode's tool puts it."""
    app = app_of(folder, {"apps.notes.tls": {"mode": mode}})
    assert app.certificate_path == (place and f"{place}/fullchain.pem")
    assert app.key_path == (place and f"{place}/privkey.pem")


def test_python_version(folder: Path) -> None:
    """The host's, unless the app has its own."""
    assert app_of(folder).python_version == "3.13"
    assert app_of(folder, {"python.version": "3.12"}).python_version == "3.12"
    assert app_of(folder, {"python.version": "3.12", "apps.notes.python": "3.13.5"}).python_version == "3.13.5"


def test_acme_directory(folder: Path) -> None:
    """Let's Encrypt, its staging server, or one's own."""
    assert settings_of(folder).acme_directory_url == LETS_ENCRYPT
    assert settings_of(folder, {"acme.staging": True}).acme_directory_url == LETS_ENCRYPT_STAGING
    own = "https://acme.example.com:14000/dir"
    assert settings_of(folder, {"acme.directory": own}).acme_directory_url == own


def test_private_names_are_fine_without_the_public_ca(folder: Path) -> None:
    """.test and its like work with every other source of certificates."""
    names = {"apps.notes.domains": ["notes.test", "localhost", "notes.internal"]}
    for change in (
        {"acme.directory": "https://acme:14000/dir"},
        *({"apps.notes.tls.mode": m} for m in ("off", "self-signed")),
    ):
        assert app_of(folder, names | change).domains == ["notes.test", "localhost", "notes.internal"]


def test_external_account_binding(folder: Path) -> None:
    """The key comes from the host's own .env."""
    write_private(folder / "host.env", "EAB=s3cret\n")
    changes = {"env_file": "host.env", "acme.eab_key_id": "kid", "acme.eab_hmac_key_name": "EAB"}
    settings = settings_of(folder, changes)
    assert settings.eab_hmac_key == "s3cret"
    assert settings.secret_values == {"s3cret"}
    assert settings.apps["notes"].environment == {}


def test_migration(folder: Path) -> None:
    """Only a command of one's own has words."""
    assert app_of(folder).migrate_command is None
    assert app_of(folder, {"apps.notes.migrate": None}).migrate_command is None
    command = {"apps.notes.migrate": "python -m notes.migrate --to 'the end'"}
    assert app_of(folder, command).migrate_command == ["python", "-m", "notes.migrate", "--to", "the end"]
    shell = {"apps.notes.migrate": "sh -c 'alembic upgrade head && ./seed'"}
    assert app_of(folder, shell).migrate_command == ["sh", "-c", "alembic upgrade head && ./seed"]


def test_times_of_a_release(folder: Path) -> None:
    """The defaults, and the smallest and largest of each."""
    app = app_of(folder)
    assert (app.migrate_lock_timeout, app.migrate_statement_timeout, app.migrate_retries) == (5, None, 5)
    assert (app.watch, app.drain_timeout, app.keep_warm, app.lock_wait) == (3, 30, 300, 60)
    ends = {"migrate_retries": (0, 100), "watch": (0, 600), "drain_timeout": (0, 3600), "keep_warm": (0, 86_400)}
    for name, numbers in (ends | {"lock_wait": (0, 3600), "migrate_lock_timeout": (1, 600)}).items():
        for number in numbers:
            assert getattr(app_of(folder, {f"apps.notes.{name}": number}), name) == number


def test_longest_statement(folder: Path) -> None:
    """The migration's own limit, unless there is one for statements."""
    assert app_of(folder).statement_timeout == 600
    assert app_of(folder, {"apps.notes.migrate_timeout": 86_400}).statement_timeout == 86_400
    for seconds in (6, 600):
        assert app_of(folder, {"apps.notes.migrate_statement_timeout": seconds}).statement_timeout == seconds


def test_hooks(folder: Path) -> None:
    """None is nothing to do; a command is split as a shell does, without one."""
    hooks = app_of(folder).hooks
    assert hooks.timeout == 60
    assert [hooks.argv(name) for name in HOOKS] == [None] * 5
    hooks = app_of(folder, {"apps.notes.hooks": {"after_switch": "python -m notes.warm --note 'all good'"}}).hooks
    assert hooks.argv("after_switch") == ["python", "-m", "notes.warm", "--note", "all good"]
    assert hooks.argv("before_migrate") is hooks.argv("after_migrate") is hooks.argv("on_failure") is None


@pytest.mark.parametrize("program", ["bin/warm", "./bin/warm", "bin/../bin/warm", "link/warm", "/usr/bin/env", "warm"])
def test_programs_of_hooks(program: str, folder: Path) -> None:
    """A file of the release, by way of links too; what the host or the environment has can't be seen from here."""
    (folder / "project" / "bin").mkdir()
    write_private(folder / "project" / "bin" / "warm", "#!/bin/sh\n", 0o755)
    (folder / "project" / "link").symlink_to("bin")
    assert app_of(folder, {"apps.notes.hooks": {"on_failure": program}}).hooks.argv("on_failure") == [program]


def test_program_of_a_hook_above_the_app(folder: Path) -> None:
    """A monorepo goes out whole, so that a member may use what lies beside it."""
    write_project(folder / "project" / "services" / "notes")
    write_private(folder / "project" / "warm", "#!/bin/sh\n", 0o755)
    source = {"path": "project", "subdir": "services/notes"}
    changes = {"apps.notes.source": source, "apps.notes.hooks": {"after_switch": "../../warm"}}
    assert app_of(folder, changes).hooks.argv("after_switch") == ["../../warm"]


def test_program_of_a_hook_in_git(folder: Path) -> None:
    """What a repository has can't be seen from here."""
    source = {"git": "https://git.example.com/a.git"}
    app = app_of(folder, {"apps.notes.source": source, "apps.notes.hooks": {"before_migrate": "bin/backup"}})
    assert app.hooks.argv("before_migrate") == ["bin/backup"]


def test_probe(folder: Path) -> None:
    """By default it asks for the liveness path and no more."""
    app = app_of(folder, {"apps.notes.liveness_path": "/up"})
    assert app.probe_paths == ["/up"]
    assert (app.liveness, app.readiness, app.has_health) == ("/up", "/up", True)
    app = app_of(folder, {"apps.notes.readiness_path": "/ready", "apps.notes.liveness_path": "/up"})
    assert (app.liveness, app.readiness, app.is_good(204), app.is_good(302)) == ("/up", "/ready", True, False)
    app = app_of(folder)
    assert (app.liveness, app.readiness, app.has_health, app.probe_paths) == ("/", "/", False, ["/"])
    assert (app.is_good(404), app.is_good(500)) == (True, False)
    assert app.probe == ProbeSettings()
    assert (app.probe.connections, app.probe.rate) == (10, 50)
    short = ["/api/whoami", "/search?q=a%20b&to=1,2", "/a/b?x"]
    probe = {"short": short, "slow": "/slow?seconds=1.5", "websocket": "/ws", "connections": 500, "rate": 1000}
    app = app_of(folder, {"apps.notes.probe": probe})
    assert app.probe_paths == short
    assert (app.probe.slow, app.probe.upload, app.probe.stream) == ("/slow?seconds=1.5", None, None)


def test_public_url(folder: Path) -> None:
    """Where the first domain is reached."""
    assert app_of(folder).public_url == "https://notes.example.com"
    assert app_of(folder, {"apps.notes.tls": {"mode": "off"}}).public_url == "http://notes.example.com"
    wildcard = {"apps.notes.domains": ["*.example.com"], "apps.notes.tls": {"mode": "self-signed"}}
    assert app_of(folder, wildcard).public_url == "https://www.example.com"


# --- Sources ---------------------------------------------------------------------------------------------------------


def test_folder_source_is_relative_to_the_inventory(folder: Path) -> None:
    """Wherever pyinfra runs."""
    app = app_of(folder)
    assert app.source_dir == app.app_dir == folder / "project"
    assert app.lock_file == folder / "project/uv.lock"
    assert app.deploy_key_local is None


def test_member_of_a_workspace(folder: Path) -> None:
    """Its lock file lies at the workspace's root, which is what the source names."""
    member = folder / "workspace" / "services" / "notes"
    write_project(member)
    (member / "uv.lock").unlink()
    lock = LOCK.replace('{ virtual = "." }', '{ editable = "services/notes" }')
    (folder / "workspace" / "uv.lock").write_text(lock, encoding="utf-8")
    app = app_of(folder, {"apps.notes.source": {"path": "workspace", "subdir": "services/notes"}})
    assert app.source_dir == folder / "workspace"
    assert app.lock_file == folder / "workspace/uv.lock"
    assert app.app_dir == member


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"gunicorn>=23"', '"gunicorn >= 23.0"'),
        ("dependencies = [", 'dynamic = ["dependencies"]\nother = ['),
        ('">=3.11"', '">=3.13.2"'),
    ],
)
def test_lock_file_that_fits(before: str, after: str, folder: Path) -> None:
    """Another spelling of the same dependencies is no stale lock file."""
    assert before in PYPROJECT
    (folder / "project" / "pyproject.toml").write_text(PYPROJECT.replace(before, after), encoding="utf-8")
    assert app_of(folder).lock_file == folder / "project/uv.lock"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project that uv can judge without an index; nothing was judged before."""
    monkeypatch.setattr(uv, "folder_of_cache", lambda: tmp_path / "cache")
    for name, text in KIT.items():
        path = tmp_path / "kit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "kit"


def test_a_lock_file_that_fits_is_judged_once(kit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As long as neither it nor a project of it changes."""
    assert uv.verdict(kit, kit) is uv.Verdict.FITS
    with monkeypatch.context() as patch:
        patch.setattr(uv, "program", lambda: "/nowhere/uv")
        assert uv.verdict(kit, kit) is uv.Verdict.FITS
        assert len(list((tmp_path / "cache").iterdir())) == 1
    (kit / "kit/pyproject.toml").write_text(KIT["kit/pyproject.toml"].replace("1.0", "1.1"), encoding="utf-8")
    assert uv.verdict(kit, kit) is uv.Verdict.OUTDATED


def test_without_uv_the_host_judges(kit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uv, "program", lambda: "/nowhere/uv")
    (kit / "pyproject.toml").write_text(WITHOUT_KIT, encoding="utf-8")
    assert uv.verdict(kit, kit) is uv.Verdict.UNKNOWN
    assert not (tmp_path / "cache").exists(), "it was judged by nobody"


def test_of_uvs_settings_those_of_the_project_count(kit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a user's own a lock file would look outdated on one machine alone."""
    newer = 'exclude-newer = "2020-01-01T00:00:00Z"\n'
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/uv").mkdir(parents=True)
    (tmp_path / "config/uv/uv.toml").write_text(newer)
    assert uv.verdict(kit, kit) is uv.Verdict.FITS
    (kit / "pyproject.toml").write_text(f"{KIT['pyproject.toml']}\n[tool.uv]\n{newer}", encoding="utf-8")
    assert uv.verdict(kit, kit) is uv.Verdict.OUTDATED


def test_a_lock_file_in_newer_toml(kit: Path) -> None:
    """uv judges it: since TOML 1.1 an inline table may have several lines."""
    lock = KIT["uv.lock"].replace('{ name = "kit" }', '{\n        name = "kit",\n    }')
    (kit / "uv.lock").write_text(lock, encoding="utf-8")
    assert uv.verdict(kit, kit) is uv.Verdict.FITS


def test_a_lock_file_without_the_packages_of_the_server(folder: Path) -> None:
    """A build brings them."""
    (folder / "project/pyproject.toml").write_text(KIT["pyproject.toml"], encoding="utf-8")
    (folder / "project/uv.lock").write_text(KIT["uv.lock"], encoding="utf-8")
    (folder / "project/kit").mkdir()
    (folder / "project/kit/pyproject.toml").write_text(KIT["kit/pyproject.toml"], encoding="utf-8")
    assert app_of(folder).lock_file == folder / "project/uv.lock"


@pytest.mark.parametrize(
    ("files", "dependencies", "found"),
    [
        (["uv.lock", "pylock.toml", "poetry.lock"], {}, "uv.lock"),
        (["pylock.toml", "requirements.txt", "poetry.lock"], {}, "pylock.toml"),
        (["requirements.txt", "poetry.lock"], {}, "requirements.txt"),
        (["poetry.lock", "pdm.lock"], {}, "poetry.lock"),
        (["pdm.lock"], {}, "pdm.lock"),
        (["uv.lock", "requirements.txt"], {"lock": "requirements.txt"}, "requirements.txt"),
        (["uv.lock", "requirements/prod.txt"], {"lock": "requirements/prod.txt"}, "requirements/prod.txt"),
    ],
)
def test_which_lock_file_counts(folder: Path, files: list[str], dependencies: dict[str, Any], found: str) -> None:
    project = folder / "project"
    lock = (project / "uv.lock").read_text()
    (project / "uv.lock").unlink()
    for name in files:
        (project / name).parent.mkdir(exist_ok=True)
        pinned = "" if name in ("poetry.lock", "pdm.lock") else "flask==3 --hash=sha256:aa\n"
        (project / name).write_text(lock if name == "uv.lock" else pinned)
    assert app_of(folder, {"apps.notes.dependencies": dependencies}).lock_file == project / found


def test_a_lock_file_above_the_app_counts_if_the_app_has_none(folder: Path) -> None:
    """In a repository of many apps."""
    (folder / "project/api").mkdir()
    (folder / "project/api/requirements.txt").write_text("flask==3 --hash=sha256:aa\n")
    options = {"apps.notes.source": {"path": "project", "subdir": "api"}}
    assert app_of(folder, options).lock_file == folder / "project/api/requirements.txt"


def test_an_app_without_a_project(folder: Path) -> None:
    for name in ("pyproject.toml", "uv.lock"):
        (folder / "project" / name).unlink()
    (folder / "project/requirements.txt").write_text("flask\n")
    app = app_of(folder, {"apps.notes.dependencies": {"hashes": False}})
    assert app.lock_file == folder / "project/requirements.txt"


@pytest.mark.parametrize(
    ("git", "ssh"),
    [
        ("https://git.example.com/team/notes.git", False),
        ("https://git.example.com:8443/~me/notes", False),
        ("file:///srv/git/notes.git", False),
        ("ssh://git@git.example.com:2222/team/notes.git", True),
        ("git@git.example.com:team/notes.git", True),
    ],
)
def test_git_addresses(git: str, ssh: bool, folder: Path) -> None:
    """The kinds git understands, and which of them need a key."""
    source = app_of(folder, {"apps.notes.source": {"git": git, "ref": "release/v1.4@2"}}).source
    assert isinstance(source, GitSource)
    assert source.uses_ssh is ssh


def test_deploy_key(folder: Path) -> None:
    """A private key beside the inventory, and the server's key with it."""
    write_private(folder / "deploy_key", ssh_key(new_key()))
    (folder / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n", encoding="utf-8")
    source = {"git": "git@git.example.com:a/b.git", "deploy_key": "deploy_key", "known_hosts": "known_hosts"}
    app = app_of(folder, {"apps.notes.source": source})
    assert app.deploy_key_local == folder / "deploy_key"
    assert app.known_hosts_local == folder / "known_hosts"
    assert app.source_dir is app.lock_file is None


# --- Environment -----------------------------------------------------------------------------------------------------


def test_environment_is_merged(folder: Path) -> None:
    """Plain settings and the .env; numbers and switches as text."""
    env = {"LOG_LEVEL": "info", "LIMIT": 10, "RATIO": 0.5, "DEBUG": False, "FAST": True}
    app = app_of(folder, {"apps.notes.env": env}, "SECRET_KEY='a b#c'\nexport TOKEN=x\n")
    assert app.environment == {
        "LOG_LEVEL": "info",
        "LIMIT": "10",
        "RATIO": "0.5",
        "DEBUG": "false",
        "FAST": "true",
        "SECRET_KEY": "a b#c",
        "TOKEN": "x",
    }
    assert app.secret_values == {"a b#c", "x"}


def test_values_survive_as_they_are(folder: Path) -> None:
    """Nothing is interpolated, nothing is lost."""
    odd = "ä 'single' \"double\" `tick` $HOME ${HOME} %n 100% \\n \\ # ! ~ ; & | 🚀\t."
    quoted = odd.replace("\\", "\\\\").replace("'", "\\'")
    app = app_of(folder, {"apps.notes.env": {"PLAIN": odd}}, f"ODD='{quoted}'\nDOLLAR=pa$$word${{HOME}}\n")
    assert app.environment == {"PLAIN": odd, "ODD": odd, "DOLLAR": "pa$$word${HOME}"}


def test_values_of_several_lines_and_names_that_only_look_reserved(folder: Path) -> None:
    """A key in PEM, written with line breaks or with \\n in quotes; without quotes, \\n stays what it is."""
    pem = "-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n"
    env = f'A="{pem}"\nB="-----BEGIN KEY-----\\nMIIEvQIBADAN\\n-----END KEY-----\\n"\nC=x\\ny\nLD_SDK_KEY=sdk-1\n'
    app = app_of(folder, {"apps.notes.env": {"D": "one\ntwo", "LD_DB_HOST": "db"}}, env)
    assert app.environment == {
        "A": pem,
        "B": pem,
        "C": "x\\ny",
        "LD_SDK_KEY": "sdk-1",
        "D": "one\ntwo",
        "LD_DB_HOST": "db",
    }
    assert 'A="-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n"\n' in render_env(app.environment)


def test_build_environment(folder: Path) -> None:
    """Only what build_env names, from the .env alone."""
    changes = {"apps.notes.build_env": ["UV_INDEX_X_PASSWORD"], "apps.notes.required_env": ["SECRET_KEY"]}
    app = app_of(folder, changes, "UV_INDEX_X_PASSWORD=p\nSECRET_KEY=s\n")
    assert app.build_environment == {"UV_INDEX_X_PASSWORD": "p"}


@pytest.mark.parametrize(
    ("driver", "url", "rewritten", "original"),
    [
        (
            "asyncpg",
            "postgres://u:p%40x@db:5432/n?sslmode=require",
            "postgresql+asyncpg://u:p%40x@db:5432/n?ssl=require",
            "postgresql://u:p%40x@db:5432/n?sslmode=require",
        ),
        (
            "asyncpg",
            "postgresql://u@db/n?a=sslmode&sslmode=prefer",
            "postgresql+asyncpg://u@db/n?a=sslmode&ssl=prefer",
            "postgresql://u@db/n?a=sslmode&sslmode=prefer",
        ),
        ("psycopg", "postgresql+psycopg_async://u@db/n", "postgresql+psycopg://u@db/n", "postgresql://u@db/n"),
        ("asyncpg", "postgresql+asyncpg://u@db/n", "postgresql+asyncpg://u@db/n", "postgresql://u@db/n"),
        (
            "psycopg",
            "postgres://u@[2001:db8::1]:5432/n?sslmode=require&channel_binding=require",
            "postgresql+psycopg://u@[2001:db8::1]:5432/n?sslmode=require&channel_binding=require",
            "postgresql://u@[2001:db8::1]:5432/n?sslmode=require&channel_binding=require",
        ),
        (
            "psycopg",
            "postgresql:///n?host=/run/postgresql",
            "postgresql+psycopg:///n?host=/run/postgresql",
            "postgresql:///n?host=/run/postgresql",
        ),
    ],
)
def test_database_url(driver: str, url: str, rewritten: str, original: str, folder: Path) -> None:
    """The scheme is the driver's, the original stays beside it, and both are secret."""
    app = app_of(folder, {"apps.notes.database_driver": driver}, f"DATABASE_URL={url}\n")
    assert app.environment == {"DATABASE_URL": rewritten, "DATABASE_URL_SYNC": original}
    assert app.secret_values == {url, rewritten, original}


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p@db/n",
        "sqlite+aiosqlite:////var/lib/notes/notes.db",
        "mysql://u@db/n",
        "postgresql+psycopg_async://u:p@db/n",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DODBC",
        "mongodb+srv://u:p@db.example.com/n",
    ],
)
def test_database_url_without_driver(url: str, folder: Path) -> None:
    """It stays as it is."""
    assert app_of(folder, env=f"DATABASE_URL={url}\n").environment == {"DATABASE_URL": url}


def test_render_env() -> None:
    """Sorted, quoted, and with four characters escaped."""
    assert render_env({"B": "x", "A": 'a "b" `c` $d \\e %f'}) == 'A="a \\"b\\" \\`c\\` \\$d \\\\e %f"\nB="x"\n'
    for name, value in (
        ("A", "s3cret\r\n"),
        ("A", "s3cret\0"),
        ("A", "s3cret\x1b"),
        ("A", "s3cret\udc80"),
        ("A=s3cret", ""),
    ):
        with pytest.raises(ValueError, match="can't be") as refused:
            render_env({name: value})
        assert "s3cret" not in str(refused.value)


# --- Secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_in_any_text_of_settings(folder: Path) -> None:
    """repr, str, and what pytest or a template would print of them."""
    app = {"apps.notes.env": {"PLAIN": "plain-s3cret"}, "env_file": "host.env"}
    write_private(folder / "host.env", "EAB=host-s3cret\n")
    settings = settings_of(folder, app, "SECRET_KEY=file-s3cret\nDATABASE_URL=postgres://u:db-s3cret@db/n\n")
    for thing in (settings, settings.apps, settings.apps["notes"]):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert "s3cret" not in text
    assert settings.apps["notes"].environment["PLAIN"] == "plain-s3cret"


# --- The models and their manual -------------------------------------------------------------------------------------


def test_frozen(folder: Path) -> None:
    """Nobody changes a setting on the way."""
    with pytest.raises(ValidationError, match="frozen"):
        app_of(folder).workers = 3


@pytest.mark.parametrize(
    ("model", "name", "field"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name, _ in FIELDS]
)
def test_every_field_is_documented_and_narrow(model: type[BaseModel], name: str, field: FieldInfo) -> None:
    """Meaning in the manual, and a type that says what it expects and what to do."""
    assert documentation(model)[name], f"{model.__name__}.{name} has no documentation"
    narrow = narrow_of(field)
    assert narrow is not None and narrow.expected and narrow.do


def test_example_is_in_step() -> None:
    """`python -m slipway.settings` writes it."""
    assert (INVENTORIES / "example.py").read_text(encoding="utf-8") == render_example()


def test_example_shows_every_field() -> None:
    """At its default, or with an example where there is none."""
    lines = [line.strip() for line in render_example().splitlines()]
    for model, name, field in FIELDS:
        shown = [line for line in lines if line.startswith(f'"{name}": ')]
        assert shown, f"{model.__name__}.{name} isn't in the example"
        if field.default is None or isinstance(field.default, bool | int):
            assert f'"{name}": {field.default},' in shown


def test_example_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the files it names, it is a good inventory whose options have their defaults."""
    (tmp_path / "inventories").mkdir()
    (tmp_path / ".ssh").mkdir()
    write_private(tmp_path / ".ssh" / "id_ed25519", ssh_key(new_key()))
    write_project(tmp_path / "examples" / "notes")
    path = tmp_path / "inventories" / "production.py"
    path.write_bytes((INVENTORIES / "example.py").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    ((name, connection, settings),) = load_inventory(path)
    assert name == "203.0.113.5"
    ssh = {"ssh_user": "deploy", "ssh_key": "~/.ssh/id_ed25519", "ssh_port": 22, "_sudo": True}
    assert connection == ssh | {"verify": {}}
    notes = settings.apps["notes"]
    required = {"domains": notes.domains, "source": notes.source, "app": notes.app}
    assert notes == load({"apps": {"notes": required}}, inventory=path, host=name).apps["notes"]


def test_example_env_is_good(folder: Path) -> None:
    """The example of a .env is one."""
    env = (INVENTORIES / "example.env").read_text(encoding="utf-8")
    app = app_of(folder, {"apps.notes.database_driver": "asyncpg"}, env)
    assert set(app.environment) == {"DATABASE_URL", "DATABASE_URL_SYNC", "SECRET_KEY"}


def test_groups_with_data(folder: Path) -> None:
    """A host's data wins over its group's, and that over everyone's."""
    (folder / "two.py").write_text(
        f"import pathlib\n_hidden = ['no']\nall = (['web1', 'web2'], {{'ssh_user': 'root', 'ssh_port': 22}})\n"
        f"web = ([('web1', {{'ssh_port': 2201}}), 'web2'], {{'ssh_port': 2200, 'slipway': {MINIMAL!r}}})\n",
        encoding="utf-8",
    )
    loaded = load_inventory(folder / "two.py")
    assert [(name, connection) for name, connection, _ in loaded] == [
        ("web1", {"ssh_user": "root", "ssh_port": 2201}),
        ("web2", {"ssh_user": "root", "ssh_port": 2200}),
    ]
