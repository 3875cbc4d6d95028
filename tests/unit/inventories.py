"""Small good inventories, to be changed by tests: a project with its lock file, keys, certificates, a .env."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MINIMAL: dict[str, Any] = {
    "apps": {
        "notes": {
            "domains": ["notes.example.com"],
            "source": {"path": "project"},
            "app": "notes.main:app",
        }
    }
}
"""The least an inventory can say; its project is made by `write_project`."""

MARK = "s3cr3t"
"""Part of every secret value of the inventories here, so that one search finds any of them."""
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f alice@laptop"
"""A key that may log in."""

MAXIMAL: dict[str, Any] = {
    "env_file": "host.env",
    "timezone": "Europe/Berlin",
    "hostname": "box",
    "packages": ["libpq5"],
    "journal_max_size": "2G",
    "python": {
        "version": "3.12",
        "index_url": "https://index.example.com/simple/",
        "install_mirror": "https://mirror.example.com/python/",
        "downloads_json_url": "file:///etc/pythons.json",
        "system_certs": True,
    },
    "acme": {
        "email": "ops@example.com",
        "directory": "https://ca.example.com/dir",
        "ca_file": "chain.pem",
        "eab_key_id": "kid-1",
        "eab_hmac_key_name": "EAB_HMAC",
    },
    "nginx": {
        "worker_connections": 1000,
        "header_timeout": 11,
        "body_timeout": 12,
        "send_timeout": 13,
        "sandbox": True,
        "brotli": True,
        "extra": "http.conf",
    },
    "ssh": {
        "port": 2222,
        "root_login": False,
        "max_auth_tries": 3,
        "forwarding": "local",
        "extra": "sshd.conf",
    },
    "firewall": {
        "tcp_ports": [8443],
        "udp_ports": [51820],
        "ssh_rate": 30,
        "connections": 100,
        "extra": "extra.nft",
    },
    "operator": {"user": "alice", "authorized_keys": [PUBLIC_KEY]},
    "updates": {"origins": ["site=apt.example.com"], "reboot": "04:30"},
    "system": {
        "sysctl": {"vm.swappiness": 10, "kernel.dmesg_restrict": None},
        "denied_modules": ["dccp"],
        "banner": "Keep out",
        "umask": "0077",
        "swap_mb": 512,
    },
    "apps": {
        "notes": {
            "domains": ["notes.example.com", "www.notes.example.com"],
            "source": {"path": "mono", "subdir": "apps/notes", "include": ["apps/notes/page.html"]},
            "app": "notes.main:make.app(kind='production')",
            "interface": "asgi",
            "factory": True,
            "python_path": ["src", "lib/more"],
            "server": "gunicorn",
            "server_config": "conf/gunicorn.py",
            "threads": 5,
            "backlog": 2048,
            "concurrency": 900,
            "access_log": True,
            "env": {"LOG_LEVEL": "info", "DEBUG": False},
            "env_file": "notes.env",
            "required_env": ["TOKEN"],
            "build_env": ["UV_INDEX_INTERNAL_PASSWORD", "LOG_LEVEL"],
            "build": ["npm ci", "NODE_ENV=production npm run build", "sh -c 'rm -rf node_modules'"],
            "build_first": ["python -m notes.pages"],
            "node": True,
            "shared": ["media", "var/data"],
            "shared_files": {"config/local.ini": "local.ini", "db.sqlite3": {"writable": True}},
            "dependencies": {
                "lock": "uv.lock",
                "extras": ["pg"],
                "groups": ["prod"],
                "project": True,
                "hashes": False,
                "more": ["psycopg[binary]>=3,<4"],
                "before": "2026-11-30",
                "offline": True,
                "deploy_key": "deploy_key",
                "known_hosts": "known_hosts",
            },
            "database_driver": "asyncpg",
            "port": 8001,
            "workers": 3,
            "timeout": 41,
            "graceful_timeout": 42,
            "keep_alive": 83,
            "max_requests": 1000,
            "max_requests_jitter": 100,
            "limit_nofile": 4096,
            "umask": "0077",
            "sandbox": {
                "network": "internet",
                "memory_deny_write_execute": False,
                "hide_system": False,
                "filter_system_calls": False,
            },
            "processes": {
                "worker": {
                    "command": "bin/warm '50% \"of $HOME\"'",
                    "count": 2,
                    "stop_signal": "SIGINT",
                    "stop_timeout": 600,
                    "alive": 5,
                    "memory_mb": 200,
                },
                "beat": {"command": "celery -A notes beat", "alone": True},
            },
            "jobs": {
                "cleanup": {
                    "command": "python -m notes.cleanup --all",
                    "schedule": "30 3 * * mon-fri",
                    "timeout": 120,
                    "stop_timeout": 20,
                    "jitter": 90,
                    "catch_up": False,
                },
                "report": {"command": "bin/warm", "schedule": "*-*-01 04:00 UTC"},
            },
            "migrate": "python -m notes.migrate --all",
            "migrate_timeout": 44,
            "migrate_lock_timeout": 4,
            "migrate_statement_timeout": 43,
            "migrate_retries": 6,
            "readiness_path": "/ready",
            "readiness_interval": 2,
            "readiness_timeout": 45,
            "keep_releases": 3,
            "watch": 7,
            "drain_timeout": 20,
            "keep_warm": 90,
            "lock_wait": 8,
            "hooks": {
                "before_migrate": "bin/before --now",
                "after_migrate": "python -m notes.after",
                "after_switch": "bin/warm 'two words'",
                "on_failure": "bin/page",
                "on_job_failure": "bin/page --job",
                "timeout": 9,
            },
            "static": [
                {"path": "static", "url": "/assets/", "max_age": 60},
                {"path": "dist/app.v1", "url": "/app.v1/", "immutable": "all"},
                {"path": "media/public", "url": "/media/", "max_age": 600},
            ],
            "max_body_size": "25m",
            "proxy_timeout": 46,
            "trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"],
            "real_ip_header": "CF-Connecting-IP",
            "headers": {
                "strict_transport_security": "max-age=31536000; includeSubDomains; preload",
                "content_security_policy": "default-src 'self'",
                "content_security_policy_report_only": "default-src 'none'; report-uri /csp",
                "x_frame_options": "SAMEORIGIN",
                "x_content_type_options": "nosniff",
                "referrer_policy": "no-referrer",
                "x_permitted_cross_domain_policies": None,
                "permissions_policy": "camera=(), geolocation=()",
                "cross_origin_opener_policy": "same-origin",
                "cross_origin_resource_policy": "same-site",
            },
            "rate_limits": {"/login": {"rate": "10r/m", "burst": 5}, "/api/v1.0/": {"rate": "20r/s", "burst": 40}},
            "connections_per_client": 50,
            "maintenance": True,
            "compress": True,
            "nginx_extra": "notes.conf",
        },
        "wiki-next": {
            "domains": ["wiki.example.com"],
            "source": {
                "git": "git@git.example.com:team/wiki.git",
                "ref": "main",
                "deploy_key": "deploy_key",
                "known_hosts": "known_hosts",
            },
            "app": "wiki:app",
            "server": "uvicorn",
            "python": "3.13",
            "migrate": None,
            "tls": {"mode": "files", "certificate": "chain.pem", "key": "key.pem"},
        },
        "lab": {
            "domains": ["lab.example.com", "a.lab.example.com"],
            "source": {"git": "https://git.example.com/team/lab.git", "ref": "v1"},
            "app": "lab:app",
            "server": "granian",
            "concurrency": 200,
            "access_log": True,
            "migrate_config": "db/alembic.ini",
            "tls": {"mode": "self-signed"},
        },
        "plain": {
            "domains": ["plain.example.com"],
            "source": {"path": "plain"},
            "app": "plain:app",
            "port": 8002,
            "static": [{"path": "public"}, {"path": "dist", "url": "/dist/", "immutable": "none"}],
            "tls": {"mode": "off"},
        },
    },
}
"""Every option set, and an app of each TLS mode; what it names is made by `write_folder`."""

PYPROJECT = """\
[project]
name = "notes"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["gunicorn>=23", "uvicorn-worker", "fastapi[standard]>=0.110, <1"]
"""

LOCK = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "fastapi"
version = "0.120.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "gunicorn"
version = "27.0.1"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "uvicorn-worker"
version = "0.4.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "notes"
version = "1.0"
source = { virtual = "." }
dependencies = [
    { name = "fastapi", extra = ["standard"] },
    { name = "gunicorn" },
    { name = "uvicorn-worker" },
]

[package.metadata]
requires-dist = [
    { name = "fastapi", extras = ["standard"], specifier = ">=0.110,<1" },
    { name = "gunicorn", specifier = ">=23" },
    { name = "uvicorn-worker" },
]
"""


KIT = {
    "pyproject.toml": """\
[project]
name = "notes"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["kit"]

[tool.uv.sources]
kit = { path = "kit" }
""",
    "kit/pyproject.toml": """\
[project]
name = "kit"
version = "1.0"
requires-python = ">=3.11"
""",
    "uv.lock": """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "kit"
version = "1.0"
source = { directory = "kit" }

[[package]]
name = "notes"
version = "1.0"
source = { virtual = "." }
dependencies = [
    { name = "kit" },
]

[package.metadata]
requires-dist = [{ name = "kit", directory = "kit" }]
""",
}
"""A project whose only dependency is a folder of its own, so that uv needs no index to tell that a lock file is old."""
WITHOUT_KIT = KIT["pyproject.toml"].replace('["kit"]', "[]")
"""Another of its projects' files, which that lock file doesn't fit."""


def write_project(folder: Path) -> None:
    """A project that can be released, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "uv.lock").write_text(LOCK, encoding="utf-8")


def write_private(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A file that only its owner can read, or of another `mode`."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The minimal inventory with some settings changed: ``{"apps.notes.workers": 4}``; Ellipsis removes one."""
    data = copy.deepcopy(MINIMAL)
    for path, value in changes.items():
        *way, last = path.split(".")
        place = data
        for part in way:
            place = place.setdefault(part, {})
        if value is ...:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return data


def ssh_key(key: Any) -> bytes:
    """A private key as ssh-keygen writes it."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    raw: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return raw


def pem_key(key: Any) -> bytes:
    """A private key as openssl writes it."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    raw: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return raw


def certificate(key: Any, names: list[str], days: int = 30) -> bytes:
    """A self-signed certificate for `names` that ends in `days`, which may lie in the past."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh key; elliptic curves are quick to make."""
    return ec.generate_private_key(ec.SECP256R1())


def write_folder(made: Path) -> None:
    """All that the inventories here name, in `made`: sources, secrets, keys, certificates."""
    for project in ("project", "plain", "mono/apps/notes"):
        write_project(made / project)
    more = "\n[project.optional-dependencies]\npg = []\n\n[dependency-groups]\nprod = []\n"
    (made / "mono/apps/notes/pyproject.toml").write_text(PYPROJECT + more, encoding="utf-8")
    hooks = made / "mono/apps/notes/bin"
    hooks.mkdir()
    for name in ("before", "warm", "page"):
        (hooks / name).touch(0o755)
    key = new_key()
    write_private(made / "key.pem", pem_key(key))
    write_private(made / "deploy_key", ssh_key(key))
    (made / "chain.pem").write_bytes(certificate(key, ["wiki.example.com"]))
    (made / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n")
    (made / "notes.conf").write_text("add_header X-Extra notes;\n")
    (made / "sshd.conf").write_text("AllowUsers alice\n")
    (made / "extra.nft").write_text("ip saddr 192.0.2.0/24 tcp dport 5432 accept\n")
    (made / "http.conf").write_text("client_header_buffer_size 2k;\n")
    (made / "production.py").write_text("hosts = []\n")
    (made / "mono/apps/notes/page.html").write_text("<!doctype html>\n")
    write_private(made / "local.ini", f"[mail]\npassword = {MARK}Mail\n")
    write_private(made / "host.env", f"EAB_HMAC={MARK}Eab\n")
    lines = (
        f"TOKEN='{MARK}Token \"$HOME\" %41 #'",
        f"DATABASE_URL=postgres://notes:{MARK}Db@db.example.com/notes?sslmode=require",
        f"UV_INDEX_INTERNAL_PASSWORD={MARK}Index",
    )
    write_private(made / "notes.env", "\n".join(lines) + "\n")
