"""Measuring tools look at a host from outside, and each result is held to a bar: python -m tests.audit

The tools run in containers (tests/audit/auditor.Dockerfile), each at an address of its own; systemd-analyze and lynis,
which is unpacked for it and removed, run on the host over SSH. A row also fails where its tool doesn't show that it
saw the host: how many ports it scanned, suites it tried, tests it made, whose certificate it was, whether it found the
secret that was planted for it.

By default the host is a target of `make demo`. The example app is released to it once more, with a secret to look for.
Then a second target of the same system is set up as by hand, with no hardening (tests/audit/unhardened), and goes
through the same rows: every one must fall short there, which is part of the verdict.

Any other host, by its inventory, is only looked at, as tests/host does (`pytest tests/host --inventory`, whose "verify"
data count): --inventory inventories/production.py. Attacks are made on this machine's containers alone. The host's
address must be reachable from a container here, its site must have TLS, and its packages must be installable.

Exit code: 0 when every row meets its bar and the unhardened host falls short everywhere; 1 when not; 2 for an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.audit import provisioned, unhardened
from tests.audit.finding import DidNotLook, Finding, Verdict
from tests.audit.rows import ROWS, Row
from tests.audit.subject import Subject
from tests.host._hosts import close_sessions
from tests.target import engine, lifecycle
from tests.target.console import TargetError, paint, say, step
from tests.target.image import SUITES

AT_ONCE = 3
"""Tools that run beside each other; most wait for the host."""
SHOWN = 12
"""Lines of details of a row, unless all are asked for."""
COLOURS = {Verdict.MET: "32", Verdict.SHORT: "31", Verdict.BLIND: "31", Verdict.LEFT_OUT: "2"}

Findings = Mapping[str, Finding]
"""By the name of the row."""


def chosen(text: str) -> tuple[Row, ...]:
    """Rows by their names with commas between."""
    names = [part.strip() for part in text.split(",")]
    known = {row.name: row for row in ROWS}
    if wrong := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: choose from {', '.join(known)}")
    return tuple(row for row in ROWS if row.name in names)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--target", metavar="NAME", default=os.environ.get("SLIPWAY_TARGET") or "demo",
                     help="which target of `make demo` (demo)")  # fmt: skip
    top.add_argument("--inventory", metavar="FILE", type=Path, help="look at a host of this inventory instead")
    top.add_argument("--limit", metavar="HOST", help="which one (the first)")
    top.add_argument("--rows", type=chosen, default=ROWS, metavar="NAME,…",
                     help=f"which of {', '.join(row.name for row in ROWS)}")  # fmt: skip
    which = top.add_mutually_exclusive_group()
    which.add_argument("--no-proof", action="store_true", help="leave the unhardened host out")
    which.add_argument("--only-proof", metavar="OS", choices=sorted(SUITES),
                       help="look at an unhardened host of this system alone")  # fmt: skip
    top.add_argument("--details", action="store_true", help="all that each row found, also where it meets its bar")
    return top


def look(row: Row, subject: Subject) -> Finding:
    """One row of one host; what goes wrong in it is a finding, too."""
    began = time.monotonic()
    try:
        finding = row.look(subject)
    except DidNotLook as error:
        finding = Finding(Verdict.BLIND, " ".join(str(error).split())[:80], (str(error),))
    except Exception as error:  # a tool that changed, a host that went away
        finding = Finding(Verdict.BLIND, f"{type(error).__name__}"[:80], (str(error),))
    say(f"  {subject.name}: {row.tool}: {finding.verdict} ({time.monotonic() - began:.0f} s)")
    return finding


def look_at(subjects: Sequence[Subject], rows: Sequence[Row]) -> list[Findings]:
    """All rows of all hosts, in as little time as doesn't disturb them."""
    found: list[dict[str, Finding]] = [{} for _ in subjects]
    jobs = [(row, number) for row in rows for number in range(len(subjects))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        beside = [(row, number) for row, number in jobs if not row.alone]
        for (row, number), finding in zip(
            beside, pool.map(lambda job: look(job[0], subjects[job[1]]), beside), strict=True
        ):
            found[number][row.name] = finding
    for row, number in jobs:
        if row.alone:
            found[number][row.name] = look(row, subjects[number])
    return [{row.name: findings[row.name] for row in rows} for findings in found]


def table(rows: Sequence[Row], findings: Findings) -> str:
    """Tool, bar, what was measured, and the verdict."""
    cells = [("tool", "bar", "measured", "verdict")]
    cells += [(row.tool, row.bar, findings[row.name].measured, str(findings[row.name].verdict)) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    lines = []
    for number, (*columns, verdict) in enumerate(cells):
        text = "  ".join(cell.ljust(width) for cell, width in zip(columns, widths, strict=True))
        style = "1" if number == 0 else COLOURS[findings[rows[number - 1].name].verdict]
        lines.append(f"{text}  {paint(verdict, style, stream=sys.stdout)}")
    return "\n".join(lines)


def details(rows: Sequence[Row], findings: Findings, at_most: int | None) -> str:
    """What rows found that don't meet their bars; of all rows where there is no bound (`at_most`)."""
    lines = []
    for row in rows:
        found = findings[row.name].details
        if found and (at_most is None or findings[row.name].verdict is not Verdict.MET):
            lines.append(f"\n{row.tool}:")
            lines += [f"  {each}" for each in found[:at_most]]
            if at_most is not None and len(found) > at_most:
                lines.append(f"  … and {len(found) - at_most} more (--details)")
    return "\n".join(lines)


def summary(audited: Findings) -> str:
    """How many rows meet their bars, and how many were left out."""
    verdicts = [found.verdict for found in audited.values()]
    left_out = verdicts.count(Verdict.LEFT_OUT)
    text = f"{verdicts.count(Verdict.MET)} of {len(verdicts)} rows meet their bars"
    return f"{text}, {left_out} left out." if left_out else f"{text}."


def failed(audited: Findings) -> list[str]:
    """Rows that don't meet their bar."""
    return [name for name, found in audited.items() if found.verdict in (Verdict.SHORT, Verdict.BLIND)]


def unproven(plain: Findings) -> list[str]:
    """Rows that don't fall short on a host without hardening, and so prove nothing."""
    return [name for name, found in plain.items() if found.verdict not in (Verdict.SHORT, Verdict.LEFT_OUT)]


@contextmanager
def sessions() -> Iterator[Path]:
    """A folder for sockets of SSH sessions, which are ended."""
    # ssh takes a path of about 100 bytes at most for its socket: not in a deep TMPDIR.
    control = Path(tempfile.mkdtemp(prefix="slipway-ssh-", dir="/tmp"))
    try:
        yield control
    finally:
        close_sessions(control)


def audit(given: argparse.Namespace) -> bool:
    """Bring up what is needed, run the rows and print what they found; whether all is well."""
    rows: Sequence[Row] = given.rows
    with ExitStack() as stack:
        control = stack.enter_context(sessions())
        audited = None
        if given.inventory:
            audited = provisioned.remote(given.inventory, given.limit, control)
        elif not given.only_proof:
            with step(f"a deploy to target {given.target}"):
                audited = provisioned.local(given.target, control)
        title = f"{audited.name} ({audited.system}), {audited.site}" if audited else ""
        subjects = [audited] if audited else []
        if not given.no_proof:
            system = given.only_proof or (
                audited.system if audited and audited.system in SUITES else lifecycle.DEFAULT_OS
            )
            name = f"{'audit' if given.inventory else given.target[:20]}-unhardened"
            with step(f"an unhardened target of {system}"):
                subjects.append(stack.enter_context(unhardened.unhardened(name, system, control)))
        with step("the auditor's image"):
            subjects[0].auditor.image  # noqa: B018 it is built by being asked for
        found = look_at(subjects, rows)
    shown = None if given.details else SHOWN
    good = True
    if audited:
        missed = failed(found[0])
        good = not missed
        print(f"\n{title}\n\n{table(rows, found[0])}")
        print(details(rows, found[0], shown))
        print(f"\n{summary(found[0])}")
    if not given.no_proof:
        useless = unproven(found[-1])
        good = good and not useless
        print(f"\nThe same rows on a host without hardening, where each must fall short\n\n{table(rows, found[-1])}")
        if given.details:
            print(details(rows, found[-1], None))
        print(f"\nNot proven to look: {', '.join(useless)}" if useless else "\nEvery row falls short there.")
    return good


def main(arguments: list[str] | None = None) -> int:
    """Run the audit; returns the exit status."""
    given = parser().parse_args(arguments)
    began = time.monotonic()
    try:
        engine.require()
        good = audit(given)
    except TargetError as error:
        say(f"{paint('Error:', '31')} {error}")
        return 2
    except KeyboardInterrupt:
        say("Interrupted; nothing of it is left but the audited target's new release.")
        return 130
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
