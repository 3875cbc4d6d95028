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
