"""roles/tls.py: certificates as served, keys as kept, renewal as planned."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from tests.host._hosts import OUTSIDER, App, Site, Target

CERTBOT = "/opt/slipway/certbot"
FOLDER = "/etc/slipway/tls"
CONFIG = "/etc/slipway/tls/certbot.ini"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx"
SLACK = timedelta(days=3)
"""A renewal may have failed for so long before it is worth an alarm: certbot tries twice a day."""
BROUGHT = timedelta(days=14)
"""Nothing renews a certificate that was brought along: its owner needs time to get another."""
SELF_SIGNED = timedelta(days=27)
"""A run signs anew from 30 days before the end (roles/tls.py)."""


def served(site: Site) -> x509.Certificate:
    """The certificate that a visitor gets, whatever it is worth; skips the test for a site without TLS."""
    assert site.tls
    return site.client.handshake(site.domain, to=site.domain).certificate


def mode(app: App, *wanted: str) -> None:
    """Skip the test for an app with another tls.mode."""
    if app.settings.tls.mode not in wanted:
        pytest.skip(f'tls.mode is "{app.settings.tls.mode}"')


def needs_acme(target: Target) -> None:
    """Skip the test for a host where no certificate comes from an ACME server."""
    if not any(app.settings.tls.mode == "acme" for app in target.apps.values()):
        pytest.skip('no app has tls.mode "acme": there is no certbot')


# --- As served -------------------------------------------------------------------------------------------------------


def test_certificate_is_trusted_for_the_name(site: Site) -> None:
    """Chain, name and validity, as a visitor's browser checks them."""
    assert site.client.handshake(site.domain, to=site.domain, trust=site.tls).version in ("TLSv1.2", "TLSv1.3")


def test_certificate_covers_just_the_domains(app: App) -> None:
    """All of the settings', and none that was there before."""
    names = served(app.site).extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(names, x509.SubjectAlternativeName)
    found = set(names.get_values_for_type(x509.DNSName))
    if app.settings.tls.mode == "files":
        assert set(app.settings.domains) - found == set()
    else:
        assert found == set(app.settings.domains)


def test_certificate_s_issuer(site: Site) -> None:
    """Itself where that was asked for, and never in place of a CA's."""
    found = served(site)
    signed_itself = found.issuer == found.subject
    assert signed_itself == (site.app.settings.tls.mode == "self-signed"), found.issuer.rfc4514_string()


def test_certificate_is_far_from_its_end(site: Site) -> None:
    """ACME's is renewed when a third of its life is left."""
    found = served(site)
    left = found.not_valid_after_utc - datetime.now(UTC)
    third = (found.not_valid_after_utc - found.not_valid_before_utc) / 3 - SLACK
    needed = {"files": BROUGHT, "self-signed": SELF_SIGNED}.get(site.app.settings.tls.mode, third)
    assert left > needed, f"it ends at {found.not_valid_after_utc:%F %T} UTC"


def test_certificate_as_served_is_the_one_on_disk(site: Site) -> None:
    """nginx has reloaded since the last renewal."""
    found = served(site)
    text = site.app.target.run("cat %s", str(site.app.settings.certificate_path))
    assert x509.load_pem_x509_certificates(text.encode())[0].serial_number == found.serial_number


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_old_tls_is_refused(app: App, version: ssl.TLSVersion) -> None:
    """By the server: a refusal of this machine's own OpenSSL judges nothing."""
    assert app.site.tls
    try:
        found = app.site.client.handshake(app.site.domain, to=app.site.domain, version=version)
    except ssl.SSLError as error:
        if not re.search(r"(?i)alert.protocol.version", str(error)):
            pytest.skip(f"this machine can't offer {version.name}: {error}")
    else:
        pytest.fail(f"{found.version} was accepted")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_current_tls_is_accepted(app: App, version: ssl.TLSVersion) -> None:
    """Both versions that the profile has."""
    assert app.site.tls
    found = app.site.client.handshake(app.site.domain, to=app.site.domain, version=version)
    assert found.version == version.name.replace("_", ".")


def test_site_without_tls_is_not_offered_by_https(site: Site) -> None:
    """Port 443 is closed, or knows no such name."""
    mode(site.app, "off")
    answer = site.client.request(site.domain, site.app.settings.liveness, trust=None)
    assert site.app.settings.is_good(answer.status), f"without this answer, the silence of 443 says nothing: {answer}"
    with pytest.raises((ssl.SSLError, ConnectionError, TimeoutError)):
        site.client.handshake(site.domain, to=site.domain)


# --- On the host -----------------------------------------------------------------------------------------------------


def test_key_is_root_s_alone(app: App) -> None:
    """Mode of the file itself, where the link leads."""
    mode(app, "acme", "self-signed", "files")
    path = app.target.run("readlink -f %s", str(app.settings.key_path))
    assert app.target.stat(path) == {path: ("regular file", "600", "root", "root")}


def test_key_is_out_of_reach_for_others(app: App) -> None:
    """For nginx's workers, for this app and for each other one."""
    mode(app, "acme", "self-signed", "files")
    path = str(app.settings.key_path)
    users = [OUTSIDER, *(each.settings.user for each in app.target.apps.values())]
    assert {user: app.target.allowed(user, "r", [path]) for user in users} == {user: set() for user in users}


def test_key_fits_the_certificate(app: App) -> None:
    """nginx would refuse to start with another; neither is shown."""
    mode(app, "acme", "self-signed", "files")
    paths = [str(app.settings.key_path), str(app.settings.certificate_path)]
    command = "openssl pkey -in %s -pubout | sha256sum; openssl x509 -in %s -noout -pubkey | sha256sum"
    key, certificate = app.target.run(command, *paths).splitlines()
    assert key == certificate


def test_folder_of_keys_is_closed(target: Target) -> None:
    """That of the certificates that aren't certbot's, and of certbot's configuration."""
    assert target.stat(FOLDER) == {FOLDER: ("directory", "700", "root", "root")}


def test_certbot_s_configuration_is_root_s_alone(target: Target) -> None:
    """It may hold the key of an external account binding."""
    needs_acme(target)
    assert target.stat(CONFIG) == {CONFIG: ("regular file", "600", "root", "root")}


def test_certbot_is_new_enough(target: Target) -> None:
    """5 or newer: it asks the ACME server when to renew, and says what the server answers."""
    needs_acme(target)
    version = target.run(f"{CERTBOT}/bin/certbot --version").removeprefix("certbot ")
    assert int(version.split(".")[0]) >= 5, version


def test_renewal_is_configured_as_the_settings_say(app: App) -> None:
    """By the webroot, from the same ACME server: what a renewal will use."""
    mode(app, "acme")
    text = app.target.run("cat %s", f"/etc/letsencrypt/renewal/{app.name}.conf")
    found = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    expected = {"authenticator": "webroot", "server": app.target.settings.acme_directory_url}
    assert {key: found.get(key) for key in expected} == expected


def test_renewal_timer_will_run(target: Target) -> None:
    """Active, enabled, and due within a day."""
    needs_acme(target)
    found = target.show("certbot-renew.timer", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    due = found.pop("NextElapseUSecRealtime")
    assert found == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert due, "the timer has no next run"
    now, then = target.run("date +%%s; date -d %s +%%s", due).splitlines()
    assert 0 < int(then) - int(now) <= 24 * 3600, due


def test_last_renewal_did_not_fail(target: Target) -> None:
    """Since the host booted."""
    needs_acme(target)
    assert target.show("certbot-renew.service", "Result") == {"Result": "success"}


def test_renewal_is_shut_off_from_what_it_does_not_need(target: Target) -> None:
    """It runs as root and asks the Internet."""
    needs_acme(target)
    assert target.exposure("certbot-renew.service") <= 2.0


def test_renewal_hook_is_executable(target: Target) -> None:
    """Run by certbot after each renewal: without it nginx would serve the old certificate until it ends."""
    needs_acme(target)
    assert target.stat(HOOK) == {HOOK: ("regular file", "755", "root", "root")}
    assert target.allowed("root", "x", [HOOK]) == {HOOK}
