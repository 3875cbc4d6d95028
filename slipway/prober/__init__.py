"""Sends steady traffic to a site while something happens to it, and tells whether a request was lost.

The site is asked through its public name over TLS, as its visitors do: short requests over kept and new connections,
slow ones, uploads, WebSockets and streams. All of it comes from a process of its own, so that what its parent does
(pyinfra, pytest) makes no gaps::

    with Prober(Site("https://notes.example.com"), Load(short=("/healthz",))) as prober:
        release()
    assert not prober.result.failed, prober.result.line

`python -m slipway.prober` is the same as a command.
"""

from slipway.prober.child import Prober
from slipway.prober.models import Fault, Load, ProberError, Result, Site
from slipway.prober.settings import site_and_load

__all__ = ["Fault", "Load", "Prober", "ProberError", "Result", "Site", "site_and_load"]
