"""The public's view of a target's sites: single requests, and traffic while something happens."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from slipway.prober import Load, Prober, Site
from tests.target.lifecycle import Description

log = logging.getLogger("e2e")


class Public(Prober):
    """The public meanwhile, as a context manager: what it noticed is there after the block."""

    @property
    def releases(self) -> list[str]:
        """The releases that answered, in the order of their first answer."""
        return self.result.releases

    def unbroken(self, *, gap: float = 3.0, at_least: int = 10) -> None:
        """Fail unless every request was answered well, with no `gap` (seconds) between answers.

        + at_least: number of requests below which nothing was shown
        """
        seen = self.result
        log.info("    public: %s", seen.line)
        assert seen.requests >= at_least, f"that shows nothing: {seen.line}"
        assert not seen.failed, f"{seen.line}\n{seen.faults[:5]}"
        assert seen.longest_gap < gap, seen.line


class _Through(httpx.HTTPTransport):
    """To a target's published ports, whatever the host of the URL; name and certificate are the URL's."""

    def __init__(self, ports: Mapping[str, int], verify: ssl.SSLContext, *, http2: bool) -> None:
        super().__init__(verify=verify, http2=http2)
        self._ports = ports

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._ports[request.url.scheme])
        return super().handle_request(request)


class Visited:
    """A target, as its visitors reach it."""

    def __init__(self, target: Description) -> None:
        self.target = target

    def trust(self, ca: Path | str | None = None) -> ssl.SSLContext:
        """What a browser trusts: the ACME server's root as it is now, or another PEM file."""
        return ssl.create_default_context(cafile=str(ca or self.target["ca_file"]))

    def client(
        self, *, http2: bool = False, ca: Path | str | None = None, verify: bool = True, **options: Any
    ) -> httpx.Client:
        """A client for URLs such as https://notes.test/, through the published ports; follows no redirect.

        + http2: offer HTTP/2 too
        + ca: PEM file with the CA to trust; None is the ACME server's root
        + verify: False believes any certificate
        + options: more of httpx.Client's options
        """
        context = self.trust(ca)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        ports = {"http": self.target["http_port"], "https": self.target["https_port"]}
        return httpx.Client(transport=_Through(ports, context, http2=http2), **{"timeout": 20.0, **options})

    def request(
        self, method: str, path: str, *, domain: str = "notes.test", scheme: str = "https", http2: bool = False,
        ca: Path | str | None = None, verify: bool = True, **options: Any,
    ) -> httpx.Response:  # fmt: skip
        """Send one request through the published port, with the domain's name in SNI and Host; see `client`.

        + options: of httpx's request: headers, json, content, params, …
        """
        with self.client(http2=http2, ca=ca, verify=verify) as client:
            return client.request(method, f"{scheme}://{domain}{path}", **options)

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        """`request` with GET."""
        return self.request("GET", path, **options)

    def connect(
        self, domain: str = "notes.test", *, port: int | None = None, ca: Path | str | None = None, verify: bool = True,
        alpn: str | None = None,
    ) -> ssl.SSLSocket:  # fmt: skip
        """A TLS connection for a domain, ready to be written to; `alpn`: the protocol that it offers."""
        context = self.trust(ca)
        if alpn:
            context.set_alpn_protocols([alpn])
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port or self.target["https_port"]), timeout=20)
        try:
            return context.wrap_socket(plain, server_hostname=domain)
        except OSError:
            plain.close()
            raise

    def certificate(self, domain: str = "notes.test", **options: Any) -> x509.Certificate:
        """The certificate that the host serves for a domain now; `options` are those of `connect`."""
        with self.connect(domain, **options) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der)

    def traffic(self, domain: str = "notes.test", path: str = "/api/whoami", **options: Any) -> Public:
        """`prober` with few requests: half on a kept connection, half each on a new one; 20 a second, both together."""
        return self.prober(domain, path, **{"connections": 2, "rate": 20, **options})

    def prober(
        self,
        domain: str = "notes.test",
        path: str = "/api/whoami",
        *,
        scheme: str = "https",
        ca: Path | str | None = None,
        **load: Any,
    ) -> Public:
        """The public, sending requests until the block ends; before it begins, each kind was answered well once.

        + path: of the short requests; an answer that is JSON tells the release
        + scheme, ca: of the address; PEM file with the CA to trust, None is the ACME server's root
        + load: more of `Load`: slow, upload, websocket, stream, connections, rate, …
        """
        tls = scheme == "https"
        port = self.target["https_port" if tls else "http_port"]
        trusted = str(ca or self.target["ca_file"]) if tls else None
        site = Site(f"{scheme}://{domain}", address="127.0.0.1", port=port, ca_file=trusted)
        return Public(site, Load(**{"short": (path,), **load}))
