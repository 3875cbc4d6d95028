"""What nginx does: for an app, and as a whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from slipway.settings import types as t
from slipway.settings.base import Model


class StaticSettings(Model):
    """A folder that nginx serves itself. A file beside another of the name with .gz is sent in its place to those who
    take it; one with .br, too, with nginx.brotli."""

    path: Annotated[t.InnerPath, Field(examples=["static"])]
    """Folder with the static files, inside the app's folder; a command of `build` may make it. nginx follows no link on
    the way or in it, and gives away no file or folder whose name begins with a dot, but for .well-known. A folder of
    `shared` has what visitors sent: nginx names no type for it that a browser runs as code, and adds a policy that
    stops scripts."""
    url: t.UrlPrefix = "/static/"
    """URL prefix nginx answers from that folder."""
    max_age: Annotated[int, t.whole(0, 31_536_000, "seconds")] = 3600
    """Seconds a browser may keep a file without asking again (Cache-Control: max-age)."""
    immutable: Annotated[Literal["hashed", "all", "none"], t.one_of("hashed", "all", "none")] = "hashed"
    """Files that a browser may keep for a year, since their content never changes. hashed: those whose names have a
    hash of it, as Django's ManifestStaticFilesStorage, Vite, webpack and esbuild write them (app.5e0040571e1a.css,
    index-BfQ9xYz1.js). all; none: max_age is for every file. Never files of `shared`."""


def _how_many(value: Any) -> str | None:
    return "several" if isinstance(value, list) else "one" if isinstance(value, dict | StaticSettings) else None


STATIC = t.Narrow(
    "a mapping of options of static files, or a list of such mappings",
    'write a mapping, such as {"path": "static"}',
    container=True,
)

AnyStatic = Annotated[
    Annotated[StaticSettings, Tag("one")] | Annotated[list[StaticSettings], Tag("several")],
    Discriminator(_how_many),
    STATIC,
]
"""One folder, or several."""


class HeadersSettings(Model):
    """Headers that nginx adds to every answer of an app's site, static files and error pages included.

    A header that the app itself sends is left as the app sent it. None: nginx adds none of that name.
    """

    strict_transport_security: t.Hsts | None = "max-age=63072000"
    """How long (in seconds: two years, as Mozilla and OWASP advise) browsers come by HTTPS alone. Append
    "; includeSubDomains" when every name below these domains has HTTPS, and "; preload" to be put on browsers' own
    lists (hstspreload.org), which is hard to undo. "max-age=0" makes browsers forget it; with None they remember what
    they were told. Never sent without TLS (unless a trusted proxy says https), or with a self-signed certificate."""
    content_security_policy: t.HeaderValue | None = "base-uri 'self'; frame-ancestors 'none'; object-src 'none'"
    """What a page may load, and who may frame it. The default stops frames and plug-ins, and no script: which of
    these a page needs only its app knows, so the policy that stops injected ones is best sent by the app (see
    examples/notes), or set here. Left out, too, where the app sends X-Frame-Options, which it would overrule."""
    content_security_policy_report_only: t.HeaderValue | None = None
    """A policy to try out: browsers report (by its report-uri, and in their console) what it would stop, and stop
    nothing."""
    x_frame_options: t.HeaderValue | None = "DENY"
    """Who may frame a page, for browsers that don't know frame-ancestors: "DENY" or "SAMEORIGIN"."""
    x_content_type_options: t.HeaderValue | None = "nosniff"
    """Browsers take a file for what its Content-Type says."""
    referrer_policy: t.HeaderValue | None = "strict-origin-when-cross-origin"
    """What other sites learn of the page that a visitor comes from: its origin, and nothing without TLS. "no-referrer"
    tells less, and makes the Origin of a form "null", which protections against CSRF refuse."""
    x_permitted_cross_domain_policies: t.HeaderValue | None = "none"
    """No policy files for documents of Adobe's programs."""
    permissions_policy: t.HeaderValue | None = None
    """Features of the browser that pages may use, such as "camera=(), geolocation=(), microphone=()"."""
    cross_origin_opener_policy: t.HeaderValue | None = None
    """"same-origin" cuts a page off from windows of other origins, and so breaks logins in a pop-up."""
    cross_origin_resource_policy: t.HeaderValue | None = None
    """"same-origin" keeps other sites from showing this one's images and files."""


class RateLimit(Model):
    """How many requests one client may make."""

    rate: Annotated[t.Rate, Field(examples=["10r/m"])]
    """Requests a second (r/s) or a minute (r/m) of one address, or of the /64 network of one of IPv6."""
    burst: Annotated[int, t.whole(0, 10_000, "requests")] = 10
    """Requests that may come at once beyond that; what exceeds them gets 429."""


class NginxSettings(Model):
    """nginx as a whole."""

    worker_connections: Annotated[int, t.whole(64, 65_536, "connections")] = 4096
    """Connections a worker process handles at once; one to the app counts too. Debian's 768 is used up by a single
    slow client with many connections."""
    header_timeout: t.Seconds = 10
    """Seconds a client has for the header of a request: slow ones would hold connections that others need."""
    body_timeout: t.Seconds = 30
    """Seconds a client may pause while it sends a body."""
    send_timeout: t.Seconds = 60
    """Seconds a client may pause while it reads an answer (60 is nginx's default)."""
    sandbox: t.Switch = True
    """systemd shuts nginx off from all that a proxy doesn't need: it can write to /var/log/nginx, /var/lib/nginx,
    /var/cache/nginx and /run alone, and sees neither home folders nor others' /tmp. False: it may do what root may; for
    sites of your own that need that, a drop-in of yours (systemctl edit nginx) opens less."""
    brotli: t.Switch = False
    """Static files with .br in their names are sent in place of those without it, as those with .gz are: with Debian's
    module for that (libnginx-mod-http-brotli-static). The build of the app makes them; nginx itself compresses with
    gzip alone. False leaves a module that is installed."""
    extra: t.LocalPath | None = None
    """File beside the inventory with nginx directives for the http block."""
