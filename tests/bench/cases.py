"""What is measured: each case prepares the host, lets a tool run through the relay, and looks at the result."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import apps, state, subject
from tests.bench.figures import Figures, Points
from tests.bench.relay import Relay
from tests.bench.subject import APP, PLAIN, Bench, BenchError, Outcome
from tests.bench.tools import Script, Slipway, Stock, Tool
from tests.e2e._driver import ROOT, Host
from tests.e2e.apps import copy_example
from tests.target import lifecycle
from tests.target.console import TargetError
from tests.target.engine import call, docker

MORE_FILES = 50
KEPT_RELEASES = 3
DAMAGE = (
    f"echo '# changed' >>{state.CHANGED}",
    "chmod 700 /var/lib/slipway",
    "ln -sfn /usr/bin/false /opt/slipway/bin/uv",
    "systemctl stop certbot-renew.timer",
)
"""What every tool must mend before it is measured: a file, a folder, a link and a unit."""
WHEELS = "/var/cache/wheels"
CACHES = (
    "var/cache/apt/archives", "var/lib/apt/lists", "var/cache/slipway/python", "var/cache/slipway/uv",
    WHEELS[1:], "etc/pip.conf",
)  # fmt: skip
"""What a bare host is given, so that its first provisioning downloads nothing from afar."""
SECONDS_FOR_CACHES = 300
QUICK_SECONDS = 4.0
"""What takes longer, at the first delay, is measured less often."""


@dataclass(frozen=True)
class Plan:
    """How often, and at which delays (seconds of added round trip)."""

    delays: Sequence[float]
    rounds: int
    slow_delays: Sequence[float]
    """For what takes more than `QUICK_SECONDS` at the first delay."""
    slow_rounds: int

    @property
    def ends(self) -> Sequence[float]:
        """The first and the last delay, for what takes long with every tool."""
        return sorted({self.delays[0], self.delays[-1]})

    @property
    def cells(self) -> list[tuple[int, float]]:
        """Every round with every delay, in the order of measuring."""
        every = sorted({*self.delays, *self.slow_delays})
        return [(round_, delay) for round_ in range(max(self.rounds, self.slow_rounds)) for delay in every]

    def wants(self, seen: Points, round_: int, delay: float) -> bool:
        """Whether a tool is measured in this round at this delay; `seen` is what it took so far."""
        if min(seen.values(), default=0) < QUICK_SECONDS:
            return round_ < self.rounds and delay in self.delays
        return round_ < self.slow_rounds and delay in self.slow_delays


def say(text: str) -> None:
    """Tell what is done now, beside the table."""
    print(text, file=sys.stderr, flush=True)


def exit_status(measure: Callable[[Path], bool]) -> int:
    """Measure, and say how that ended: 0, 1 where a bar isn't met, 2 after an error, 130 if it was interrupted.

    + measure: called with a folder of its own; returns whether the bars are met
    """
    try:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            return 0 if measure(Path(folder)) else 1
    except (BenchError, TargetError, AssertionError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the target is removed.", file=sys.stderr)
        return 130


def expect(good: bool, what: str) -> None:
    """End the run where a figure would be one of something else."""
    if not good:
        raise BenchError(what)


@contextmanager
def target(name: str, os_name: str, folder: Path) -> Iterator[tuple[Bench, Relay]]:
    """A target that Slipway has provisioned, and the relay in front of it; both are removed in the end."""
    with ExitStack() as stack:
        near = Host.up(name, os_name, folder)
        stack.callback(near.down)
        app = copy_example(APP, folder)
        near.settings(**{f"apps__{APP}__source": {"path": str(app)}, f"apps__{APP}__keep_releases": KEPT_RELEASES})
        near.settings(system__umask="0022")  # what other tools release as root, their app's user must be able to read
        bare = state.present(near)
        say("Slipway provisions the target …")
        near.deploy()
        relay = stack.enter_context(Relay(near.target["ssh"]["host"], near.target["ssh"]["port"]))
        (folder / "far").mkdir()
        far = far_host(relay, near, folder)
        stack.callback(far.down)  # the same target; what else is its own goes too
        far.slipway = near.slipway
        near.converged()
        bench = Bench(near, far, app, folder, bare)
        yield bench, relay


def far_host(relay: Relay, near: Host, folder: Path) -> Host:
    """A host as it is reached through the relay; its inventory is in ``far/`` of a folder."""
    return Host(seen_through(relay, near, folder), folder / "far", ())


def seen_through(relay: Relay, near: Host, folder: Path) -> lifecycle.Description:
    """A target's description as it is reached through the relay."""
    ssh = near.target["ssh"]
    known = folder / "known_hosts"
    keys = Path(ssh["known_hosts"]).read_text()
    known.write_text(keys.replace(f"[{ssh['host']}]:{ssh['port']} ", f"[127.0.0.1]:{relay.port} "))
    through = ssh | {"host": "127.0.0.1", "port": relay.port, "known_hosts": str(known)}
    return near.target | {"ssh": through}


def converged(bench: Bench, tool: Tool) -> Outcome:
    """A run that finds everything as it should be."""
    done = tool.converge()
    expect(done.changed == 0, f"{tool.title} changed {done.changed} things on a host that was as described")
    return done


def dry(bench: Bench, tool: Tool) -> Outcome:
    """The same, when it only looks."""
    done = tool.dry()
    expect(done.changed == 0, f"{tool.title} would change {done.changed} things on a host that is as described")
    return done


def one_file(bench: Bench, tool: Tool) -> Outcome:
    """A run where the content of one file differs."""
    bench.damage(f"echo '# changed' >>{state.CHANGED}")
    done = tool.converge()
    expect(done.changed == 1, f"{tool.title} changed {done.changed} things where one file differed")
    wrong = bench.near.ssh(f"grep -c '# changed' {state.CHANGED} || true")
    expect(wrong == "0", f"{tool.title} left {state.CHANGED} as it was")
    return done


def release(bench: Bench, tool: Tool) -> Outcome:
    """A release of new code."""
    link = f"/srv/{APP if isinstance(tool, Slipway) else PLAIN}/current"
    before = bench.near.ssh(f"readlink {link} || true")
    done = tool.release()
    after = bench.near.ssh(f"readlink {link}")
    expect(before != after, f"{tool.title} left {link} at {before}")
    code = bench.near.ssh(f"cat {link}/number.py")
    expect(code == f"NUMBER = {bench.releases}", f"{tool.title} released {code}")
    return done


CASES: Mapping[str, tuple[str, Callable[[Bench, Tool], Outcome]]] = {
    "converged": ("Converged run: nothing to change", converged),
    "dry": ("Dry run of the same", dry),
    "file": ("The content of one managed file differs", one_file),
    "release": ("A release: the app's code changed, and nothing else", release),
}
"""Name → title and case, for every tool; the order is that of the table."""


def prove(bench: Bench, tool: Tool) -> None:
    """Fail unless the tool holds the very state: it mends what is damaged, and finds nothing to change then."""
    for each in DAMAGE:
        bench.damage(each)
    done = tool.converge()
    left = bench.differs()
    expect(not left, f"{tool.title} left the {' and '.join(left)} damaged")
    expect(done.changed > 0, f"{tool.title} mended the host and told of no change")
    converged(bench, tool)
    say(f"  {tool.title} mends {len(DAMAGE)} damages ({done.seconds:.1f} s), and finds nothing more to change")


def compare(
    bench: Bench, relay: Relay, chosen: Sequence[Tool], names: Sequence[str], plan: Plan, into: Figures
) -> None:
    """Measure cases with every tool, in interleaved rounds."""
    # A release is the last: from then on the host isn't as described any more.
    for group in ([name for name in names if name != "release"], [name for name in names if name == "release"]):
        if group == ["release"]:
            bench.prepare_plain()
            for tool in chosen:
                if not isinstance(tool, Slipway):
                    say(f"  {tool.title} fills uv's cache …")
                    tool.release()
                    break
        for round_, delay in plan.cells:
            for name in group:
                for tool in [*chosen[round_ % len(chosen) :], *chosen[: round_ % len(chosen)]]:
                    if plan.wants(into.of(name, tool.name), round_, delay):
                        measure(name, relay, delay, tool.name, partial(CASES[name][1], bench, tool), into)
    bench.describe()


def measure(case: str, relay: Relay, delay: float, name: str, act: Callable[[], Outcome], into: Figures) -> None:
    """Do it once at this delay, and count the seconds."""
    relay.delay = delay
    try:
        done = act()
    finally:
        relay.delay = 0.0
    into.add(case, name, delay, done.seconds)
    say(f"  {case} {delay * 1000:.0f} ms {name}: {done.seconds:.2f} s")


def more_files(bench: Bench, relay: Relay, plan: Plan, into: Figures) -> None:
    """Measure Slipway's converged run with and without further files."""
    extra = str(ROOT / "tests/bench/more_files.py")

    def run(*entries: str) -> Outcome:
        command = bench.far.command("-y", "--json", "--data", f"more_files={MORE_FILES}")
        seconds, told = subject.run([*command, *entries])
        return Outcome(seconds, Stock.changed(told))

    def unchanged(*entries: str) -> Outcome:
        done = run(*entries)
        expect(done.changed == 0, f"Slipway changed {done.changed} things on a host that was as described")
        return done

    made = run(extra)
    expect(made.changed > 0, "the further files were there already")
    for round_, delay in plan.cells:
        for name, entries in (("without", ()), ("with", (extra,))):
            if delay in plan.ends and plan.wants(into.of("files", name), round_, delay):
                measure("files", relay, delay, name, partial(unchanged, *entries), into)


def more_apps(bench: Bench, plan: Plan, into: Figures) -> None:
    """Measure Slipway's converged run and its plan of hosts with 1, 10 and 100 apps."""

    def once(case: str, relay: Relay, delay: float, row: str, act: Callable[[], Outcome]) -> None:
        measure(case, relay, delay, row, act, into)

    near = bench.near
    with apps.places(near.name, near.target["os"], bench.folder, apps.COUNTS, say, far_host) as found:
        apps.measure(found, plan, into, once)


def first(bench: Bench, relay: Relay, plan: Plan, chosen: Sequence[Tool], into: Figures) -> None:
    """Measure the first provisioning of a bare host that has every download nearby."""
    caches = bench.folder / "caches.tar"
    keep_caches(bench.near, caches)
    able = [tool for tool in chosen if isinstance(tool, Slipway | Script)]
    for round_, delay in ((round_, delay) for round_ in range(plan.slow_rounds) for delay in plan.ends):
        for tool in [*able[round_ % len(able) :], *able[: round_ % len(able)]]:
            bare(bench, relay, caches)
            act = tool.converge if isinstance(tool, Slipway) else partial(provision, bench, tool)
            measure("first", relay, delay, tool.name, act, into)
            answer = bench.near.get("/readyz")
            expect(answer.status_code == 200, f"{tool.title} made a site that answers {answer.status_code}")


def provision(bench: Bench, tool: Tool) -> Outcome:
    """Let the shell script make all of it."""
    assert isinstance(tool, Script)
    return tool.provision(bench.folder / f"{APP}.tar.gz")


def keep_caches(near: Host, path: Path) -> None:
    """Keep what a host has downloaded, the wheel of uv too, which pip doesn't keep."""
    version = Path(near.ssh("readlink /opt/slipway/bin/uv")).parents[1].name
    near.ssh(f"{state.PIP} download --quiet --no-deps --dest {WHEELS} uv=={version}")
    near.ssh("cat >/etc/pip.conf", stdin=f"[global]\nno-index = true\nfind-links = {WHEELS}\n")
    packed = call("exec", near.target["container"], "tar", "-C", "/", "-cf", "-", *CACHES, timeout=SECONDS_FOR_CACHES)
    expect(packed.returncode == 0, f"the caches can't be packed: {packed.stderr.decode(errors='replace')}")
    path.write_bytes(packed.stdout)


def bare(bench: Bench, relay: Relay, caches: Path) -> None:
    """Make the target's host anew, with what `keep_caches` kept, as new as if fetched now; its ACME server stays."""
    near, far = bench.near, bench.far
    docker("rm", "--force", "--volumes", near.target["container"])
    near.target = lifecycle.up(near.name, near.target["os"])
    relay.target = (near.target["ssh"]["host"], near.target["ssh"]["port"])
    far.target = seen_through(relay, near, bench.folder)
    unpacked = call(
        "exec", "--interactive", near.target["container"], "tar", "-C", "/", "-xpmf", "-",
        stdin=caches.read_bytes(), timeout=SECONDS_FOR_CACHES,
    )  # fmt: skip
    expect(unpacked.returncode == 0, f"the caches can't be unpacked: {unpacked.stderr.decode(errors='replace')}")
