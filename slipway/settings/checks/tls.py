"""Domains, certificates, and the authority they come from."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization

from slipway.settings.app import AppSettings
from slipway.settings.checks.keys import Key, read_certificates, read_private_key
from slipway.settings.checks.report import Report, read_file
from slipway.settings.errors import HIDDEN, show
from slipway.settings.host import Settings

if TYPE_CHECKING:
    from cryptography import x509

_PRIVATE_NAMES = """
test local localhost internal invalid example onion lan home corp intranet private localdomain
"""


def _is_private(domain: str) -> bool:
    return "." not in domain or domain.rpartition(".")[2] in _PRIVATE_NAMES.split() or domain.endswith(".home.arpa")


def check_domains(report: Report, at: str, app: AppSettings, settings: Settings) -> None:
    """An app's domains: each once, and such as its certificate can be for."""
    for domain in sorted({domain for domain in app.domains if app.domains.count(domain) > 1}):
        report.add(f"{at}.domains", "each name once", f"{show(domain)} twice", "remove one of them")
    if app.tls.mode != "acme":
        return
    for domain in dict.fromkeys(app.domains):
        if domain.startswith("*."):
            do = 'name each host, or bring a wildcard certificate with tls mode "files"'
            report.add(f"{at}.domains", "names without wildcard, because HTTP-01 can't prove one", show(domain), do)
        if settings.acme.directory is None and _is_private(domain):
            do = 'use a public name, tls mode "self-signed" or "files", or your own acme.directory'
            report.add(f"{at}.domains", "names that Let's Encrypt can issue for", show(domain), do)


def check_tls(report: Report, at: str, app: AppSettings) -> None:
    """An app's own certificate and key, which belong together and are valid."""
    if app.tls.mode != "files":
        for option in ("certificate", "key"):
            if getattr(app.tls, option) is not None:
                do = f'set mode to "files", or remove {option}'
                report.add(f"{at}.{option}", 'set with mode "files" alone', f"mode {show(app.tls.mode)}", do)
        return
    for option in ("certificate", "key"):
        if getattr(app.tls, option) is None:
            report.add(f"{at}.{option}", 'a PEM file, because mode is "files"', "None", "name the file")
    chain = read_file(report, f"{at}.certificate", app.certificate_local, "a PEM file with the certificate chain")
    certificates = read_certificates(chain) if chain is not None else []
    if chain is not None and not certificates:
        do = "convert it: openssl x509 -inform der -in FILE -out chain.pem"
        report.add(f"{at}.certificate", "a PEM file with the certificate chain", "no certificate in it", do)
    content = read_file(report, f"{at}.key", app.key_local, "a PEM file with the private key", private=True)
    key = read_private_key(content, ssh=False) if content is not None else None
    if isinstance(key, str):
        report.add(f"{at}.key", "a PEM file with the private key", key, "name the key's file")
    elif key is not None and key.key is None:
        do = "remove it: openssl pkey -in FILE -out key.pem"
        report.add(f"{at}.key", "a private key without passphrase", "one with a passphrase", do)
    if certificates:
        _check_certificate(report, at, app, certificates, key.key if isinstance(key, Key) else None)


def _public_bytes(key: Any) -> bytes:
    raw: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw


def _check_certificate(report: Report, at: str, app: AppSettings, chain: list[x509.Certificate], key: Any) -> None:
    from cryptography import x509

    leaf, place = chain[0], f"{at}.certificate"
    if key is not None:
        fitting = [_public_bytes(one.public_key()) == _public_bytes(key.public_key()) for one in chain]
        if True not in fitting:
            do = "name the key the certificate was made for"
            report.add(f"{at}.key", "the key of the certificate", "another key", do)
        elif not fitting[0]:
            do = "put the app's certificate before those of its CA"
            report.add(place, "the app's certificate first in the file", "another one first", do)
            return
    today = datetime.datetime.now(datetime.UTC)
    if leaf.not_valid_after_utc < today:
        report.add(place, "a valid certificate", f"one that expired on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it")
    elif leaf.not_valid_before_utc > today:
        found = f"one that is valid from {leaf.not_valid_before_utc:%Y-%m-%d}"
        report.add(place, "a valid certificate", found, "wait, or correct this machine's clock")
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        names = []
    missing = [one for one in dict.fromkeys(app.domains) if not _covered(one, names)]
    if missing:
        do = f"have it made for {', '.join(missing)} too, or remove what it doesn't cover from domains"
        report.add(place, "a certificate for every domain", f"one for {', '.join(names[:10]) or 'no name'}", do)


def _covered(domain: str, names: list[str]) -> bool:
    return domain in names or "*." + domain.partition(".")[2] in names


def check_acme(report: Report, at: str, settings: Settings) -> None:
    """The authority: settings of it that go together, and the CA of its own HTTPS."""
    acme = settings.acme
    if acme.staging and acme.directory is not None:
        do = "remove staging; it is Let's Encrypt's alone"
        report.add(f"{at}.staging", "False with a directory of your own", "True", do)
    if (acme.eab_key_id is None) != (acme.eab_hmac_key_name is None):
        missing = "eab_key_id" if acme.eab_key_id is None else "eab_hmac_key_name"
        report.add(f"{at}.{missing}", "both eab_key_id and eab_hmac_key_name, or none", "None", f"set {missing} too")
    if acme.eab_hmac_key_name is not None and not settings.eab_hmac_key:
        found = f"no such variable with a value {HIDDEN}"
        do = "put the HMAC key into the .env file that slipway.env_file names, and its variable's name here"
        report.add(f"{at}.eab_hmac_key_name", "the name of a variable in the host's env_file", found, do)
    content = read_file(report, f"{at}.ca_file", settings.acme_ca_local, "a PEM file with the ACME server's CA")
    if content is not None and not read_certificates(content):
        do = "convert it: openssl x509 -inform der -in FILE -out ca.pem"
        report.add(f"{at}.ca_file", "a PEM file with the ACME server's CA", "no certificate in it", do)
