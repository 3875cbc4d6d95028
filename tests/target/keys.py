"""Keys and certificates of one target, made once and kept in its folder."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=3650)
"""Validity of the certificate of Pebble's own HTTPS: longer than any target lives."""


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, in one step: a file with this name is complete."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    partial.rename(path)


def ssh_key(folder: Path) -> bytes:
    """The target's SSH key: `id_ed25519` in the folder, made unless it is there; returns the public key's line."""
    private, public = folder / "id_ed25519", folder / "id_ed25519.pub"
    if not private.is_file() or not public.is_file():
        key = ed25519.Ed25519PrivateKey.generate()
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        write_private(public, line + b" " + folder.name.encode() + b"\n")
        write_private(
            private,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            ),
        )
    return public.read_bytes()


def acme_certificate(folder: Path, address: str) -> None:
    """Certificate of the ACME server's own HTTPS and the CA that signed it, made unless they are there.

    Files: `acme-ca.pem`, `acme.pem`, `acme.key`. Names: acme, localhost, 127.0.0.1 and `address`.
    """
    files = [folder / name for name in ("acme.key", "acme.pem", "acme-ca.pem")]
    if all(path.is_file() for path in files):
        return
    now = datetime.now(UTC) - timedelta(hours=1)  # a target's clock may be a little behind
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Slipway test CA of {folder.name}")])

    def certificate(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    def usage(*, ca: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )

    ca = (
        certificate(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [
        *(x509.DNSName(name) for name in ("acme", "localhost")),
        *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", address)),
    ]
    leaf = (
        certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme")]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, data in zip(files, (plain, leaf.public_bytes(pem), ca.public_bytes(pem)), strict=True):
        write_private(path, data)
