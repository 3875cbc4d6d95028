"""Certificates: where an app's comes from, and the authority that is asked for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.settings import types as t
from slipway.settings.base import Model

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""ACME directory of Let's Encrypt, whose certificates browsers trust."""

LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""ACME directory of Let's Encrypt's staging server: no useful limits, and nobody trusts its certificates."""


class TlsSettings(Model):
    """Where an app's certificate comes from."""

    mode: Annotated[Literal["acme", "self-signed", "files", "off"], t.one_of("acme", "self-signed", "files", "off")] = (
        "acme"
    )
    """Where the certificate comes from. acme: from the CA in acme below, by HTTP-01, renewed by a timer. self-signed:
    made on the host, for tests. files: your own, from certificate and key. off: plain HTTP on port 80. Nothing falls
    back to another mode."""
    certificate: t.LocalPath | None = None
    """PEM file with the full chain, the app's certificate first, relative to the inventory (mode "files")."""
    key: t.LocalPath | None = None
    """PEM file with the private key, relative to the inventory (mode "files"); without passphrase, chmod 600."""


class AcmeSettings(Model):
    """The certificate authority of the apps with TLS mode "acme"."""

    email: t.Email | None = None
    """Address of the ACME account, for the CA's notices; None: an account without one."""
    staging: t.Switch = False
    """Let's Encrypt's staging server: for trying things out without its limits. Browsers don't trust the result."""
    directory: t.AcmeUrl | None = None
    """ACME directory URL; None is Let's Encrypt. Not together with staging."""
    ca_file: t.LocalPath | None = None
    """PEM file beside the inventory: the CA of the ACME server's own HTTPS, where it isn't a public one."""
    eab_key_id: Annotated[t.KeyId | None, Field(repr=False)] = None
    """Key identifier of an external account binding, for CAs that ask for one. Needs eab_hmac_key_name."""
    eab_hmac_key_name: Annotated[t.SecretRef | None, Field(repr=False)] = None
    """Name of the variable in the host's env_file that holds the external account binding's HMAC key."""
    check: t.Switch = True
    """Fetch a challenge file through every domain before an order is placed, so that a wrong DNS record is told at
    once and costs none of the CA's limits. Switch off where the host can't reach its own public address."""
