"""A file in a place that is the administrator's as well, and word of what is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyinfra import host, logger
from slipway_host.names import PROC

from slipway.engine import plan
from slipway.engine.facts import Answer, Place, Places
from slipway.engine.operations import shell_line
from slipway.engine.place import File, placing, text_diff
from slipway.engine.plan import Ask, Change, Commands

_FOREIGN = """{ [ ! -e "$1" ] && [ ! -L "$1" ]; } || grep -qs 'Managed by Slipway' "$1" || echo foreign"""


def _whose(path: str, file: File) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_FOREIGN, path))
    yield plan.asking(Places, accounts=(), folders=(), files=(path,), others=())


@plan.operation(_whose)
def place_unless_foreign(path: str, file: File) -> Commands:
    """Put a file in a place that is the administrator's as well: one of theirs stays."""
    (ask, question), (places, asked) = _whose(path, file)
    if plan.known(ask, **dict(question)):
        host.noop(f"{path} is somebody else's, and stays")
        return
    there = plan.known(places, **dict(asked)).get(path)
    if there == Place("f", file.mode, file.user, file.group, file.digest):
        host.noop(f"{path} is in its place")
        return
    diff = "" if there else text_diff(path, "", file.content)
    plan.announce(Change("file", path, "modify" if there else "create", diff, file.note), makes=[path])
    yield placing(files={path: file})


# The file is Debian's and Ubuntu's sign; a kernel that was installed before anything wrote it shows by its being newer
# than the one that runs, of the same flavour. An app's process that has a library open which was replaced since says
# "(deleted)" in its maps; $@ are the apps' users.
_DUE = rf"""
if [ -e /run/reboot-required ]; then
    echo "reboot=$(sort -u /run/reboot-required.pkgs 2>/dev/null | paste -sd , | sed 's/,/, /g')"
else
    running=$(uname -r) flavour=${{running##*[0-9]-}}
    there=$(ls /boot 2>/dev/null | sed -n "s/^vmlinuz-\(.*-$flavour\)$/\1/p")
    newest=$(printf '%s\n' "$running" $there | sort -V | tail -n 1)
    [ "$newest" = "$running" ] || echo "reboot=linux $newest"
fi
[ $# -gt 0 ] || exit 0
users=$(getent passwd "$@" | cut -d : -f 3 | paste -s -d ,)  # one that isn't there yet would be pgrep's error
[ -n "$users" ] || exit 0
old=$(pgrep -u "$users" | sed 's:.*:{PROC}/&/maps:' | xargs -r grep -ls '\.so[^/]* (deleted)$' | cut -d / -f 3)
[ -z "$old" ] || ps -o user:32= -p "$(echo "$old" | paste -s -d ,)" | sort -u | sed 's/ *$//; s/^/old=/'
"""


def _due(window: str | None, apps: Sequence[str]) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_DUE, *apps))


@plan.operation(_due)
def tell_due(window: str | None, apps: Sequence[str]) -> Commands:
    """Say what takes effect by a reboot or a restart only, of all that was updated; change nothing.

    + window: time of day when the host reboots by itself
    + apps: users that apps run as
    """
    ((fact, arguments),) = _due(window, apps)
    told = plan.known(fact, **dict(arguments))
    if not plan.planning() and plan.changed("package"):
        told = host.get_fact(fact, **dict(arguments))
    lines = [line.partition("=") for line in str(told).splitlines()]
    for why in (value for key, _, value in lines if key == "reboot"):
        what = f" ({why})" if why else ""
        when = f"it does so by itself at {window}" if window else "choose a quiet moment: `systemctl reboot`"
        plan.say(f"{host.name} needs a reboot for an update to take effect{what}; {when}", logger.warning)
    if old := [value for key, _, value in lines if key == "old"]:
        what = "an update replaced; its next release takes them on, or in a quiet moment `systemctl restart 'APP@*'`"
        plan.say(f"{' and '.join(old)} still run with libraries that {what}", logger.warning)
    host.noop("a reboot or a restart is due" if lines else "neither a reboot nor a restart is due")
    return
    yield
