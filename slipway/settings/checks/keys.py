"""Private keys and certificates, as files hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from slipway.settings import types as t
from slipway.settings.checks.report import Report, read_file

if TYPE_CHECKING:
    from cryptography import x509

_FIRST_LINE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True)
class Key:
    """A private key as a file has it."""

    key: Any
    """The key, or None where a passphrase keeps it closed."""


def read_private_key(content: bytes, *, ssh: bool) -> Key | str:
    """A private key from a file's content, or what the content is instead."""
    if re.match(rb"\s*(ssh-|ecdsa-|sk-|-----BEGIN (?:[A-Z0-9]+ )?PUBLIC KEY|---- BEGIN SSH2 PUBLIC)", content):
        return "a public key"
    if re.match(rb"\s*PuTTY-User-Key-File", content):
        return "a PuTTY key"
    if b"-----BEGIN CERTIFICATE" in content and not _FIRST_LINE.search(content):
        return "a certificate"
    if not _FIRST_LINE.search(content):
        return "something else"
    loader = serialization.load_pem_private_key
    if ssh and b"BEGIN OPENSSH PRIVATE KEY" in content:
        loader = serialization.load_ssh_private_key
    try:
        return Key(loader(content, password=None))
    except TypeError:
        return Key(None)
    except Exception:  # cryptography raises many kinds here; each means that the key can't be read
        return "a private key that can't be read"


def check_ssh_key(report: Report, path: str, file: Path | None, *, login: bool) -> None:
    """A private SSH key: of the operator (`login`), or a deploy key that works without a passphrase."""
    what = "a private SSH key"
    start = "the folder that you are in" if login else "the inventory"
    content = read_file(report, path, file, what, private=True, start=start)
    if content is None or file is None:
        return
    found = read_private_key(content, ssh=True)
    if isinstance(found, str):
        do = f"name the private key: {file.with_suffix('').name}" if file.suffix == ".pub" else "name the private key"
        if found == "a PuTTY key":
            do = "export it from PuTTYgen in OpenSSH's format"
        report.add(path, what, f"{found} in {file}", do)
    elif not login and found.key is None:
        report.add(path, f"{what} without passphrase", f"{file} has one", f"ssh-keygen -p -N '' -f {file}")
    elif login and isinstance(found.key, rsa.RSAPrivateKey) and found.key.key_size < t.SMALLEST_RSA:
        report.add(
            path,
            f"an Ed25519 key, or RSA of at least {t.SMALLEST_RSA} bits",
            f"RSA of {found.key.key_size} bits",
            "make a new key with ssh-keygen -t ed25519 and put its .pub on the host first",
        )


def read_certificates(content: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file; none where it holds none, or can't be read."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        return []
