"""Facts from the host's own program: everything a run needs to know about apps and nginx, asked once."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from slipway_host.layout import LAYOUT
from slipway_host.protocol import PROTOCOL
from typing_extensions import override

from slipway.engine.facts import JsonFact
from slipway.engine.question import Question

if TYPE_CHECKING:
    from slipway_host.events import Event

PROGRAM = str(LAYOUT.program)

# $1 the question; then the apps. A host that an earlier Slipway made has a program for each part, which answers for one
# app at a time: a plan of taking it over knows what serves.
_ASK = f"""
question=$1; shift
if [ -x {PROGRAM} ]; then printf '%s' "$question" | {PROGRAM} facts
elif [ -x {LAYOUT.former("release")} ]; then
    printf '{{"protocol": {PROTOCOL}, "nginx": '; {LAYOUT.former("nginx")} status || echo '{{}}'
    printf ', "apps": {{'; comma=
    for app do
        printf '%s"%s": ' "$comma" "$app"; {LAYOUT.former("release")} status "$app" || echo '{{}}'; comma=,
    done
    printf '}}, "certificates": {{'; comma=
    for app do
        told=$(openssl x509 -in "{LAYOUT.certificate("$app")}" -noout -ext subjectAltName -checkend 0) || continue
        names=$(echo "$told" | sed -n 's/ *DNS:\\([^, ]*\\)/"\\1"/gp')
        server=$(sed -n 's/^server *= *//p' "{LAYOUT.renewal("$app")}")
        printf '%s"%s": {{"server": "%s", "domains": [%s], "valid": true}}' "$comma" "$app" "$server" "$names"; comma=,
    done
    printf '}}}}'
fi 2>/dev/null || true
"""


_under_way: dict[str, dict[str, None]] = {}
"""Host → apps of which a run is under way there, as far as this one has followed it."""


def note(of: str, event: Event) -> None:
    """Note of an event that comes from a host whether a run is under way there."""
    apps = _under_way.setdefault(of, {})
    if event["event"] == "begun":
        apps[event["app"]] = None
    elif event["event"] == "ended":
        apps.pop(event["app"], None)


def under_way(of: str) -> list[str]:
    """Apps of which a run continues on a host, even if nobody follows it."""
    return list(_under_way.get(of, ()))


class HostFacts(JsonFact):
    """`slipway facts`, as protocol.Facts; empty where there is no such program, or one of another protocol.

    + apps: names of all apps; each role gives the same, so that it is one question
    + targets: app → the release that a rollback was asked to go to, or None
    """

    @override
    def command(self, apps: tuple[str, ...], targets: tuple[tuple[str, str | None], ...] = ()) -> Question:
        question = {"protocol": PROTOCOL, "apps": apps, "targets": dict(targets)}
        return Question(shlex.join(["sh", "-c", _ASK, "slipway", json.dumps(question), *apps]))

    @override
    def process(self, output: list[str]) -> dict[str, Any]:
        told = super().process(output)
        return told if told.get("protocol") == PROTOCOL else {}


def release_served(answers: Iterable[dict[str, Any]]) -> bool:
    """Whether a release of some app served, by what a host answered to `HostFacts`."""
    return any(app_of(facts, app).get("release") for facts in answers for app in facts.get("apps", {}))


def nginx_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """nginx's status: protocol.NginxStatus; empty if it is unknown."""
    told: dict[str, Any] = facts.get("nginx", {})
    return {} if "error" in told else told


def app_of(facts: Mapping[str, Any], app: str) -> dict[str, Any]:
    """An app's status: protocol.Status; empty if it is unknown."""
    told: dict[str, Any] = facts.get("apps", {}).get(app, {})
    return {} if "error" in told else told


def certificate_of(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is known of a certificate of certbot's: protocol.Lineage; empty where there is none, or can't be told."""
    told: dict[str, Any] = facts.get("certificates", {}).get(name, {})
    return told


def target_of(facts: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The release for a rollback: protocol.Target; empty if it is unknown."""
    told: dict[str, Any] = facts.get("targets", {}).get(app, {})
    return told
