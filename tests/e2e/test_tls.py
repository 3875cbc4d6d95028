"""Certificates: where they come from, when they change, and that the site goes on when they can't be had."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e._driver import Host, wait_until
from tests.e2e.conftest import MakeHost
from tests.target import acme
from tests.target.console import run as run_here

pytestmark = pytest.mark.story

ORDER = "TLS | Order the certificate of notes"
SITES = {"Nginx | Configure the sites", "Nginx | Configure the sites with TLS"}


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """The story's host; its ACME server wants accounts to be bound to others that it knows."""
    host = make_host("tls", "debian13")
    acme.demand_binding(host.target["acme_container"])
    host.boot()
    host.app().update(watch=0, keep_warm=0)
    return host


def names(certificate: x509.Certificate) -> set[str]:
    """The domains of a certificate."""
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(alternative.get_values_for_type(x509.DNSName))


def issuer(certificate: x509.Certificate) -> str:
    """Common name of who signed a certificate."""
    return str(certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def orders(host: Host) -> int:
    """How many orders the ACME server has got so far."""
    logs = run_here(["docker", "logs", host.target["acme_container"]])
    return (logs.stdout + logs.stderr).count(b"Added order ")


def modes(host: Host, path: str) -> str:
    """Mode and owner of what a path leads to."""
    return host.ssh(f"stat -L -c '%a %U:%G' {path}")


def without_tls(host: Host) -> bool:
    """Whether port 443 has no certificate for the site: not a fallback one, not one of its own making."""
    context = host.trust()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", host.target["https_port"]), timeout=5) as plain:
            context.wrap_socket(plain, server_hostname="notes.test").close()
    except OSError:
        return True
    return False


USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
"""What the key of a certificate may be used for (RFC 5280, 4.2.1.3), as `x509.KeyUsage` names it."""


def make_certificate(
    host: Host, *domains: str, ca: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for domains by a CA, or, without one, a CA; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domains[0])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca[0].subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not ca:  # Python 3.13 takes no CA without
        may = dict.fromkeys(USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**may), critical=True)
    else:
        alternative = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca[1].public_key())
        builder = builder.add_extension(alternative, critical=False).add_extension(authority, critical=False)
    return builder.sign(ca[1] if ca else key, hashes.SHA256()), key


def pem(*parts: x509.Certificate | ec.EllipticCurvePrivateKey) -> str:
    """Certificates and keys as PEM."""
    texts = [
        part.public_bytes(serialization.Encoding.PEM)
        if isinstance(part, x509.Certificate)
        else part.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for part in parts
    ]
    return b"".join(texts).decode()


# ── the first certificate ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_that_the_ca_does_not_know_is_refused_and_nothing_takes_the_certificates_place(host: Host) -> None:
    host.refused("certbot could not get the certificate for notes.test", "requires external account binding")
    wrong = host.target["acme_eab"]["hmac_key"][::-1]
    host.file("acme.env", f"ACME_HMAC={wrong}\n")
    host.settings(
        env_file="acme.env", acme__eab_key_id=host.target["acme_eab"]["key_id"], acme__eab_hmac_key_name="ACME_HMAC"
    )
    run = host.refused("certbot could not get the certificate for notes.test", "Unable to register an account")
    assert wrong not in run.output
    assert without_tls(host)
    assert host.get("/healthz", scheme="http").status_code == 503
    assert host.run("find /etc/letsencrypt/live /etc/slipway/tls -name '*.pem' | grep -v acme-ca").stdout == ""
    assert orders(host) == 0


def test_with_the_right_account_binding_the_certificate_is_issued(host: Host) -> None:
    hmac = host.target["acme_eab"]["hmac_key"]
    host.file("acme.env", f"ACME_HMAC={hmac}\n")
    run = host.deploy()
    assert ORDER in run.changed
    assert hmac not in run.output
    assert orders(host) == 1
    served = host.certificate()
    assert names(served) == {"notes.test"}
    assert issuer(served).startswith("Pebble Intermediate CA")
    left = served.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=89) < left < datetime.timedelta(days=91)
    assert host.get("/healthz").status_code == 200
    # The account binding's key and the private key are root's alone.
    assert modes(host, "/etc/slipway/tls/certbot.ini") == "600 root:root"
    assert modes(host, "/etc/letsencrypt/live/notes/privkey.pem") == "600 root:root"
    assert re.fullmatch(r"7[05]0 root:root", modes(host, "/etc/letsencrypt/live"))
    kind = host.ssh("openssl pkey -in /etc/letsencrypt/live/notes/privkey.pem -noout -text")
    assert "NIST CURVE: P-256" in kind
    host.converged()
    assert orders(host) == 1


# ── its domains ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_domain_is_added_to_the_certificate(host: Host) -> None:
    before, placed = host.certificate().serial_number, orders(host)
    host.settings(apps__notes__domains=["notes.test", "extra.test"])
    with host.traffic() as notes:
        run = host.deploy()
    notes.unbroken()
    assert ORDER in run.changed
    for domain in ("notes.test", "extra.test"):
        served = host.certificate(domain)
        assert names(served) == {"notes.test", "extra.test"} and served.serial_number != before
        assert host.get("/healthz", domain=domain).status_code == 200
    host.converged()
    assert orders(host) == placed + 1


def test_the_order_of_the_domains_is_no_reason_for_another_certificate(host: Host) -> None:
    before, placed = host.certificate().serial_number, orders(host)
    host.settings(apps__notes__domains=["extra.test", "notes.test"])
    host.deploy()
    assert host.certificate().serial_number == before
    assert orders(host) == placed


def test_a_domain_that_goes_leaves_the_certificate(host: Host) -> None:
    placed = orders(host)
    host.settings(apps__notes__domains=["notes.test"])
    with host.traffic() as notes:
        run = host.deploy()
    notes.unbroken()
    assert ORDER in run.changed
    assert names(host.certificate()) == {"notes.test"}
    with pytest.raises(ssl.SSLError):
        host.certificate("extra.test")
    host.converged()
    assert orders(host) == placed + 1


@pytest.mark.parametrize("domains", [["notes.test", "nowhere.test"], ["nowhere.test"]], ids=["added", "instead"])
def test_a_domain_that_does_not_resolve_is_told_before_an_order_is_placed(host: Host, domains: list[str]) -> None:
    """And the site is reached by the names it had, until there is a certificate for the others."""
    before, placed = host.certificate().serial_number, orders(host)
    with host.changed({"apps": {"notes": {"domains": domains}}}), host.traffic() as notes:
        host.refused("no certificate was ordered", "nowhere.test has no A or AAAA record: add one for")
    notes.unbroken()
    assert orders(host) == placed
    assert host.certificate().serial_number == before


def test_a_domain_that_points_elsewhere_is_told_before_an_order_is_placed(host: Host) -> None:
    before, placed = host.certificate().serial_number, orders(host)
    elsewhere = host.ssh("getent ahostsv4 acme | awk '{print $1; exit}'")
    host.ssh(f"cp /etc/hosts /root/hosts && echo '{elsewhere} elsewhere.test' >>/etc/hosts")
    try:
        with host.changed({"apps": {"notes": {"domains": ["notes.test", "elsewhere.test"]}}}), host.traffic() as notes:
            host.refused("no certificate was ordered", f"elsewhere.test has the A record {elsewhere}", "Point it at")
        notes.unbroken()
    finally:
        host.ssh("cat /root/hosts >/etc/hosts; rm /root/hosts")
    assert orders(host) == placed
    assert host.certificate().serial_number == before


def test_after_a_refused_domain_the_right_ones_converge(host: Host) -> None:
    host.deploy()
    host.converged()


# ── the ACME server ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_acme_server_is_away_the_old_certificate_stays(host: Host) -> None:
    before = host.certificate().serial_number
    addresses = set(host.ssh("getent ahosts acme | awk '{print $1}'").split())  # it is reached by IPv6 as well
    for address in addresses:
        host.ssh(f"ip route add unreachable {address}")
    try:
        with host.changed({"apps": {"notes": {"domains": ["notes.test", "extra.test"]}}}), host.traffic() as notes:
            host.refused(
                "certbot could not get the certificate for notes.test, extra.test",
                "The certificate from before stays in use",
                "acme",
                "/dir",
            )
        notes.unbroken()
        assert host.certificate().serial_number == before
        host.deploy()
        host.converged()  # what needs no order needs no server
    finally:
        for address in addresses:
            host.ssh(f"ip route del unreachable {address}")


def test_an_acme_server_that_cannot_be_trusted_gets_no_order(host: Host) -> None:
    before, placed = host.certificate().serial_number, orders(host)
    stranger, _ = make_certificate(host, "Some other CA")
    host.file("stranger.pem", pem(stranger))
    changes = {"acme": {"ca_file": "stranger.pem"}, "apps": {"notes": {"domains": ["notes.test", "extra.test"]}}}
    with host.changed(changes), host.traffic() as notes:
        host.refused("certbot could not get the certificate", "CERTIFICATE_VERIFY_FAILED")
    notes.unbroken()
    assert host.certificate().serial_number == before
    assert orders(host) == placed
    host.deploy()


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_timer_is_set_and_its_service_leaves_a_new_certificate_alone(host: Host) -> None:
    due = host.ssh("systemctl show --property=NextElapseUSecRealtime --value certbot-renew.timer")
    assert due and due != "n/a"
    before = host.certificate().serial_number
    host.ssh("systemctl start certbot-renew.service")
    assert host.certificate().serial_number == before


def test_a_renewed_certificate_is_served_without_a_request_lost(host: Host) -> None:
    before, release = host.certificate(), host.release()
    # The installed service, told that the time has come.
    folder = "/run/systemd/system/certbot-renew.service.d"
    start = host.ssh("sed -n 's/^ExecStart=//p' /etc/systemd/system/certbot-renew.service")
    forced = f"[Service]\nExecStart=\nExecStart={start} --force-renewal\n"
    host.ssh(f"mkdir -p {folder}; cat >{folder}/force.conf; systemctl daemon-reload", stdin=forced)
    with host.traffic() as notes:
        host.ssh("systemctl start certbot-renew.service")
        wait_until(lambda: host.certificate().serial_number != before.serial_number, 10, "the renewed certificate")
    notes.unbroken()
    host.ssh(f"rm -r {folder}; systemctl daemon-reload")
    renewed = host.certificate()
    assert names(renewed) == names(before) and issuer(renewed).startswith("Pebble Intermediate CA")
    assert host.release() == release
    host.converged()


def test_a_renewal_that_met_a_broken_nginx_is_served_after_the_next_run(host: Host) -> None:
    before = host.certificate().serial_number
    host.ssh("echo 'nonsense;' >/etc/nginx/conf.d/foreign.conf")
    with host.traffic() as notes, host.afterwards("rm -f /etc/nginx/conf.d/foreign.conf"):
        # certbot renews and calls the hook, which refuses to reload what nginx refuses.
        host.run(
            "REQUESTS_CA_BUNDLE=/etc/slipway/tls/acme-ca.pem /opt/slipway/certbot/bin/certbot renew "
            "--force-renewal --no-random-sleep-on-renew"
        )
        assert host.certificate().serial_number == before
        host.refused("/etc/nginx/conf.d/foreign.conf")
        assert host.certificate().serial_number == before
    with host.traffic() as notes:
        run = host.deploy()
    notes.unbroken()
    assert run.changed == ["TLS | Let nginx serve the certificates"]
    on_disk = host.ssh("openssl x509 -in /etc/letsencrypt/live/notes/fullchain.pem -noout -serial").partition("=")[2]
    assert host.certificate().serial_number == int(on_disk, 16) != before
    host.converged()


# ── other modes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_certificate_signed_by_itself(host: Host, tmp_path: Path) -> None:
    release = host.release()
    host.settings(apps__notes__tls={"mode": "self-signed"})
    run = host.deploy()
    assert "TLS | Sign certificates" in run.changed
    served = host.certificate(verify=False)
    assert served.issuer == served.subject
    assert names(served) == {"notes.test"}
    assert modes(host, "/etc/slipway/tls/notes/privkey.pem") == "600 root:root"
    (tmp_path / "own.pem").write_text(pem(served))
    assert host.get("/healthz", ca=tmp_path / "own.pem").status_code == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        host.certificate()
    host.converged()
    assert host.release() == release
    host.settings(apps__notes__domains=["notes.test", "extra.test"])
    host.deploy()
    assert names(host.certificate("extra.test", verify=False)) == {"notes.test", "extra.test"}
    host.converged()
    host.settings(apps__notes__domains=["notes.test"])


def test_a_certificate_of_ones_own_and_its_successor(host: Host) -> None:
    ca = make_certificate(host, "An organisation's CA")
    authority = host.folder / host.file("ca.pem", pem(ca[0]))
    host.settings(apps__notes__tls={"mode": "files", "certificate": "chain.pem", "key": "key.pem"})
    serials = []
    for _ in range(2):
        certificate, key = make_certificate(host, "notes.test", ca=ca)
        host.file("chain.pem", pem(certificate, ca[0]))
        host.file("key.pem", pem(key))
        host.deploy()
        served = host.certificate(ca=authority)
        assert served == certificate
        serials.append(served.serial_number)
        assert host.get("/healthz", ca=authority).status_code == 200
        assert modes(host, "/etc/slipway/tls/notes/privkey.pem") == "600 root:root"
        with host.traffic(ca=authority) as notes:
            host.converged()
        notes.unbroken()
    assert len(set(serials)) == 2


def test_a_successor_of_ones_own_certificate_loses_no_request(host: Host) -> None:
    ca = make_certificate(host, "An organisation's new CA")
    both = host.folder / host.file("both.pem", pem(ca[0]) + (host.folder / "ca.pem").read_text())
    certificate, key = make_certificate(host, "notes.test", ca=ca)
    host.file("chain.pem", pem(certificate))
    host.file("key.pem", pem(key))
    with host.traffic(ca=both) as notes:
        run = host.deploy()
    notes.unbroken()
    assert run.changed == ["TLS | Write what certificates need", "TLS | Let nginx serve the certificates"]
    assert host.certificate(ca=both) == certificate


def test_without_tls_the_site_is_plain_and_the_app_knows(host: Host) -> None:
    host.settings(apps__notes__tls={"mode": "off", "certificate": None, "key": None})
    host.deploy()
    assert without_tls(host)
    seen = host.get("/api/whoami", scheme="http").json()
    assert (seen["scheme"], seen["headers"]["x-forwarded-proto"]) == ("http", "http")
    host.converged()


def test_back_at_the_acme_server_the_certificate_from_before_serves(host: Host) -> None:
    placed = orders(host)
    host.settings(apps__notes__tls={"mode": "acme"})
    host.deploy()
    served = host.certificate()
    assert issuer(served).startswith("Pebble Intermediate CA") and names(served) == {"notes.test"}
    assert orders(host) == placed
    with pytest.raises(httpx.ConnectError):
        host.get("/healthz", domain="extra.test")
    host.converged()


STAGING = "acme-staging-v02.api.letsencrypt.org"
PUBLIC = "notes.example.com"
"""A domain that Let's Encrypt could issue for; within the target's network it leads to the target."""
PASSES_ON = f"""
server {{
    listen 443 ssl;
    server_name {STAGING};
    ssl_certificate /etc/ssl/staging.pem;
    ssl_certificate_key /etc/ssl/staging.key;
    proxy_set_header Host {STAGING};
    location / {{ proxy_pass https://acme:14000; }}
    location = /directory {{ proxy_pass https://acme:14000/dir; }}
}}
"""
"""An nginx that passes for Let's Encrypt's staging server, by the story's own."""


def test_lets_encrypts_staging_server_is_asked_where_it_is_wanted(host: Host) -> None:
    ca = make_certificate(host, "The staging server's CA")
    certificate, key = make_certificate(host, STAGING, ca=ca)
    host.ssh("umask 077; cat >/etc/ssl/staging.pem", stdin=pem(certificate))
    host.ssh("umask 077; cat >/etc/ssl/staging.key", stdin=pem(key))
    host.ssh("cat >/etc/nginx/conf.d/staging.conf", stdin=PASSES_ON)
    host.ssh(f"echo 127.0.0.1 {STAGING} {PUBLIC} >>/etc/hosts; nginx -t -q && systemctl reload nginx")
    placed = orders(host)
    host.settings(acme={"directory": None, "staging": True, "ca_file": host.file("staging-ca.pem", pem(ca[0]))})
    host.settings(apps__notes__domains=[PUBLIC])
    # certbot replaces no valid certificate by one of a staging server.
    host.ssh("cd /etc/letsencrypt && rm -r live/notes archive/notes renewal/notes.conf")
    run = host.deploy()
    assert ORDER in run.changed
    assert orders(host) == placed + 1
    assert host.ssh("grep ^server /etc/letsencrypt/renewal/notes.conf") == f"server = https://{STAGING}/directory"
    served = host.certificate(PUBLIC)
    assert issuer(served).startswith("Pebble Intermediate CA") and names(served) == {PUBLIC}
    host.converged()
