"""Debian packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyinfra import host
from slipway_host.layout import LAYOUT
from slipway_host.names import PROC

from roles.base.facts import Packages
from slipway.engine import plan
from slipway.engine.facts import Answer
from slipway.engine.operations import shell
from slipway.engine.plan import Ask, Change, Commands
from slipway.engine.program import Program

# apt's own DPkg::Lock::Timeout waits in installs alone: not in `update`, and not in `dpkg --configure`.
# So the waiting is ours.
# $1 what to do meanwhile, $2 packages that it needs, then all packages
_APT = rf"""
set -eu
umask 022
meanwhile=$1 first=$2; shift 2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# Unattended upgrades may hold apt's locks for minutes: wait for them, and say who it was when that doesn't end.
holder() {{
    for lock in {LAYOUT.dpkg}/lock-frontend {LAYOUT.dpkg}/lock {LAYOUT.apt}/lists/lock; do
        [ -e "$lock" ] || continue
        pid=$(awk -v inode=":$(stat -c %i "$lock")\$" '$6 ~ inode {{print $5; exit}}' {PROC}/locks)
        [ -z "$pid" ] || {{ echo "$lock is held by $(cat "{PROC}/$pid/comm" 2>/dev/null) (process $pid)"; return; }}
    done
}}
patient() {{
    end=$(($(date +%s) + 600))
    until out=$("$@" 2>&1); do
        case "$out" in
        *"Could not get lock"* | *"Unable to lock"* | *"is another process using it"* | \
        *"locked by another process"* | *"lock was locked by"*)
            [ "$(date +%s)" -lt "$end" ] || {{ echo "$out"; echo "Gave up after 10 minutes: $(holder)"; return 1; }}
            sleep 3 ;;
        *) echo "$out"; return 1 ;;
        esac
    done
}}
apt() {{ patient apt-get -q -y -o Acquire::Retries=3 "$@"; }}
install() {{
    apt --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
}}
# A dpkg that was interrupted refuses everything until it is repaired.
if [ -n "$(ls -A {LAYOUT.dpkg}/updates)" ] || [ -n "$(dpkg --audit)" ]; then
    # One that was being unpacked can't be configured: it has to be unpacked anew, which apt doesn't do by itself.
    halves=$(dpkg-query -W -f '${{db:Status-Eflag}} ${{binary:Package}}\n' | sed -n 's/^reinstreq //p')
    patient dpkg --configure -a || [ -n "$halves" ]
    if [ -n "$halves" ]; then
        apt update
        apt --reinstall install $halves
    fi
    apt -f install
fi
[ $# -gt 0 ] || exit 0
find {LAYOUT.apt}/lists -maxdepth 1 -name '*_Packages*' -mmin -60 | grep -q . || apt update
# Lists that are out of step with the mirror name files that are gone: fetch them anew, once.
get() {{ install "$@" >/dev/null || {{ apt update; install "$@"; }}; }}
if [ -n "$meanwhile" ]; then
    [ -z "$first" ] || get $first
    sh -c "$meanwhile" >/dev/null 2>&1 &
fi
get "$@" || status=$?
wait
exit ${{status:-0}}
"""


def _alternatives(package: str) -> list[str]:
    return package.split(" | ")


def _names(packages: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for package in packages for name in _alternatives(package))


def _packages(packages: Sequence[str], first: Sequence[str] = (), meanwhile: Sequence[Program] = ()) -> Iterator[Ask]:
    yield plan.asking(Packages, packages=_names(packages))
    for program in meanwhile:
        yield plan.asking(Answer, question=program.satisfied)


@plan.operation(_packages)
def apt_packages(packages: Sequence[str], first: Sequence[str] = (), meanwhile: Sequence[Program] = ()) -> Commands:
    """Install Debian packages; wait for whoever holds apt's locks, and repair a dpkg that was interrupted.

    + packages: names of packages, without recommended ones; of alternatives ("chrony | ntpsec"), the first is installed
      where none is there
    + first: those of them that `meanwhile` needs
    + meanwhile: programs whose own operations come later, each after what it needs: dpkg keeps one core busy, and the
      line idle. What fails here is done again by its operation, which says why
    """
    found = plan.known(Packages, packages=_names(packages))
    missing = [each[0] for each in map(_alternatives, packages) if not found.installed.intersection(each)]
    if not missing and not found.interrupted:
        host.noop("the packages are installed")
        return
    repair = [Change("package", "dpkg", "repair", note="it was interrupted")] if found.interrupted else []
    plan.announce(*repair, *(Change("package", package, "install") for package in missing))
    lines = [each.line for each in meanwhile if not plan.known(Answer, question=each.satisfied)]
    needed = [package for package in missing if package in first]
    yield shell(_APT, " && ".join(lines), " ".join(needed), *missing)
