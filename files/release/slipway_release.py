"""Release an app on this host as one transaction: the old release serves until the new one has proved itself.

fetch, build, check, migrate, start, prove, switch, watch, commit; then the old release drains, and stays warm for a
while. Up to the commit a failure takes the new release away and leaves the old one serving as if nothing had
happened. Each step may be killed at any instant: the next run starts by bringing the host back to what `current` says.

A release or a rollback runs as a unit of systemd's own, <app>-release.service, so it outlives the connection that
asked for it: `deploy` and `rollback` start it and follow it, `attach` follows one that is under way. Managed by
Slipway (roles/release.py); needs Python 3.10 or newer and nothing else.

/etc/<app>/release.json          what is wanted (roles/release.py describes it)
/etc/<app>/env                   the environment that is wanted, /etc/<app>/releases/<id>.env what a release has
/srv/<app>/releases/<id>/        a release: its code and its .venv, root's
/srv/<app>/current               link to the release that serves: the one truth
/var/lib/slipway/<app>/<id>.json the history: what became of each attempt; <id>.log what it said
/var/lib/slipway/<app>/<id>.manifest its files, each with its size and digest (slipway_manifest.py)
/var/cache/slipway/<app>/        caches and home of the app's builds
/run/slipway/<app>/<run>/        a run that is under way: its request, what it says, how it ended
"""

# What few commands need is imported where it is used: `status` is asked on every run.
import argparse
import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import slipway_guest
import slipway_manifest
import slipway_room
import slipway_step
import slipway_trees
from slipway_text import hide, one_line, read_environment, secrets_of, shown, tell
from slipway_trees import Strange, described
from slipway_trees import remove as remove_tree

PROGRAM = "/opt/slipway/bin/slipway-release"
SCHEMA = "/opt/slipway/bin/slipway-schema"
UV = "/opt/slipway/bin/uv"
CACHE = Path("/var/cache/slipway")
UNITS = Path("/etc/systemd/system")
WARM_UNITS = Path("/run/systemd/system")  # of a release that stays warm: a reboot ends it
RUN = Path("/run/slipway")
PLANS = Path("/var/tmp")  # where a plan unpacks a source: on the disk, and /run is memory
GUESTS = "/etc/slipway/builds.nft"  # what builds may not reach
SEEN = RUN / ".seen"  # of releases whose files were found right since the host booted
KEEP_RECORDS = 50
KEEP_RUNS = 5
LONG_LINE = 2000  # characters of a line of a command's in a message
NAMED = 5  # releases that a message about an ambiguous name lists
ANSWER_SECONDS = 5  # for one answer of the readiness path
PUBLIC_SECONDS = 5  # nginx's old workers accept for an instant after its new ones do
IMPORT_SECONDS = 120  # a large app with a cold disk takes a few
FETCH_SECONDS = 900
BUILD_SECONDS = 3600  # a package that is compiled from source may take long
CACHE_MB = 2048  # of uv's, which never forgets: beyond that the next build with other dependencies begins anew
HOME_MB = 2048  # of what builds leave in their home: beyond that the next one begins with an empty one
RUN_MEMORY = "75%"  # of the host's: git takes most, for a large repository
STOP_SECONDS = 180  # for undoing what was done, when the run itself is told to stop
COMMAND_SECONDS = 3600  # for a command of ours, of which none takes minutes
STEP_END_SECONDS = 10  # for what a step ran to end when its time is over; then it is killed
JOB_SECONDS = 5  # for a job of systemd's; then its unit's own limit counts
KILL_SECONDS = 20  # for what was killed to be gone
JOB_MORE_SECONDS = 5  # beyond that: an app may have it prolonged for ever (EXTEND_TIMEOUT_USEC of sd_notify(3))
LONGEST_JOB_SECONDS = 900  # where a unit has none
RUN_SECONDS = 2 * 86_400  # more than any run takes: a build an hour, a migration a day at most
DRAIN_END_SECONDS = 120  # a drain holds the lock while it stops the old release: graceful_timeout, and less than this
HEARTBEAT_SECONDS = 5
LONGEST_LINE = 65_536  # bytes that are read at once
KEPT_BYTES = 2_000_000  # of what a command writes
SCRIPT_BYTES = 1_000_000  # a larger file in an environment's bin is a program, and doesn't name the environment
BAD_IN_A_ROW = 3  # one bad answer may be a hiccup
WATCH_EVERY = 0.2
IMPORT_AFTER = 0.1  # seconds: by then the first step waits for its command, and nothing for the interpreter
# What our own units are shut off from. They are root's: they write units, give a build to another user, and mount a
# candidate over nginx's configuration, for a `nginx -t` that opens the ports it is to listen on.
CAPABILITIES = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_SYS_ADMIN"
SHUT_OFF = (
    "NoNewPrivileges=yes",
    # In one line: of a unit that systemd-run makes, a second line takes the place of the first.
    f"CapabilityBoundingSet={CAPABILITIES}",
    "RestrictNamespaces=mnt",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "DevicePolicy=closed",
    "LockPersonality=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @resources @swap",
    "SystemCallErrorNumber=EPERM",
)
JOURNAL_SECONDS = 10  # an app's journal ends within a few hundredths of one
ENVIRONMENT_BYTES = 8_000_000  # more than the kernel takes of a program's
PLAN_SECONDS = 60  # for reading or running a source's migrations offline, which takes one or two
PLAN_BYTES = 8_000_000  # of what that prints
# What a plan runs of a source that nobody has trusted yet is shut off from; `sandboxed` has the rest.
SANDBOX = (
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "MountAPIVFS=yes",
    "PrivateNetwork=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ReadOnlyPaths=+/tmp +/var/tmp +/run",
    "InaccessiblePaths=-+/dev/shm -+/dev/mqueue -+/run/systemd/journal",  # which systemd lets in from the host
    "RestrictAddressFamilies=AF_UNIX",  # for an event loop's own pair; nobody else's are seen
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "MemoryMax=512M",
    "MemorySwapMax=0",
    "OOMScoreAdjust=1000",
    "CPUQuota=100%",
    "TasksMax=32",
    "LimitFSIZE=0",
    "LimitCORE=0",
    f"RuntimeMaxSec={PLAN_SECONDS}",
    "TimeoutStopSec=2",
)
LOCK_TAKEN = 75  # EX_TEMPFAIL of sysexits.h: slipway-schema met a lock
RETRY_SECONDS = 2
ACTIVE = ("active", "reloading", "refreshing")  # as `systemctl is-active` takes them
# The app's module, found as Gunicorn finds it: from the folder it starts in. Nothing is collected, at the end least of
# all: that takes a third of the time.
IMPORT = """
import functools, gc, importlib, sys
gc.disable()
sys.path.insert(0, "")
functools.reduce(getattr, sys.argv[2].split("."), importlib.import_module(sys.argv[1]))
gc.freeze()
"""
# What git says of a repository that it can't read, and uv of a cache.
DAMAGED_COPY = re.compile(r"not a git repository|corrupt|is empty|bad object|unable to (read|parse|unpack)|bad config")
FULL_DISK = re.compile(r"No space left on device|: Wrote only \d+ of \d+ bytes")  # the second is tar's
TOO_LARGE = f"signal {signal.SIGXFSZ:d}"  # git's words for what ended a part of it
DAMAGED_CACHE = re.compile(r"(?i)wheel is invalid|deserialize|corrupt|truncated|unexpected end|failed to read")
DEATH = re.compile(
    r"Worker exiting \(pid|Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM))"
)  # Gunicorn's words


class Failed(Exception):
    """A step failed; the message says why and what to do."""


class Undecided(Failed):
    """Nothing is wrong, but the operator has to say how to go on; the message says what to type."""


class DamagedCopy(Failed):
    """The copy of a repository can't be read, as after a power cut."""


class Late(Failed):
    """A command didn't end in its time, and was killed."""

    def __init__(self, message, output=""):
        """`output` is what it wrote, as it may be shown."""
        super().__init__(message)
        self.output = output


class Interrupted(Failed):
    """The run itself was told to stop."""


class Progress:
    """What a run says while it works: lines on standard output, and a sign of life in a step that takes long."""

    def __init__(self):
        self.what = ""
        self.began = 0.0
        self.last = ""

    def say(self, text):
        """Print a line; a full disk or a reader that went away is no reason to fail."""
        with contextlib.suppress(OSError):
            print(text, flush=True)

    def begin(self, what):
        self.what, self.began, self.last = what, time.monotonic(), ""

    def elapsed(self):
        return time.monotonic() - self.began

    def beat(self):
        """Say every few seconds how long the step takes, and the last line that its command wrote."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            if self.what and self.elapsed() >= HEARTBEAT_SECONDS:
                last = f": {shown(self.last)[:150]}" if self.last else ""
                self.say(f"{self.what}, {self.elapsed():.0f} s so far{last}")


progress = Progress()
MARK = f"slipway-schema {os.urandom(16).hex()}: "  # begins the answers of slipway-schema, which reads it
MARKED = {"SLIPWAY_MARKED": "1"}


def run(*argv, check=True, seconds=COMMAND_SECONDS, live=False, secrets=(), most=None, raw=False, said="", **options):
    """Run a command; its output (both streams) is returned as it may be shown, and its end is the message of a failure.

    Without `most`, what it wrote first is forgotten once it is more than KEPT_BYTES: an app may print without end.

    + seconds: after which it is killed, and has failed (Late), whoever holds its output
    + live: it takes long, and its last line is a sign of life; a run that is told to stop ends it
    + secrets: texts that are not shown, whatever it writes, besides those of the app
    + most: bytes that it may write; one that writes more is killed, and has failed
    + raw: return it as it is; who does that may show it as `shown` makes it
    + said: what it reads on its standard input, where `stdin` names none: a few lines
    """
    given = os.pipe() if said else None
    if given:
        options["stdin"] = given[0]
        os.write(given[1], said.encode())
        os.close(given[1])
    try:
        process = slipway_step.start(argv, **{"stdin": subprocess.DEVNULL, **options})
    finally:
        if given:
            os.close(given[0])
    kept = slipway_step.Kept(most or KEPT_BYTES, LONGEST_LINE)

    def take(piece):
        line = kept.take(piece)
        if most and kept.written > most:
            raise Failed(f"`{argv[0]}` was ended: it wrote more than {most} bytes.")
        if live and line:
            progress.last = shown(line.decode(errors="replace").strip(), secrets) or progress.last

    try:
        if live:
            slipway_step.live.add(process)
        late = slipway_step.follow(process, seconds, take)
    finally:
        slipway_step.live.discard(process)
        slipway_step.forget(process)
    output = kept.text()
    done = subprocess.CompletedProcess(argv, process.returncode, output if raw else shown(output, secrets))
    if late:
        told = done.stdout if not raw else shown(output, secrets)
        raise Late(f"`{argv[0]}` was ended after {seconds} s. {tail(told)}", told)
    if check and done.returncode != 0:
        raise Failed(f"`{argv[0]}` ended with {done.returncode}:\n{tail(done.stdout)}")
    return done


def systemctl(*argv, check=True, seconds=LONGEST_JOB_SECONDS):
    # It is read, and a secret may be a word of it by chance.
    return run("systemctl", *argv, check=check, raw=True, seconds=seconds)


def in_time(verb, *units):
    """`systemctl start`, `stop` or `restart`: how it ended, or None where the units didn't come to it in their time.

    In systemd's eyes that time is what the app says: here it is what its units say, and a little more.
    """
    for limit in (lambda: JOB_SECONDS, lambda: job_seconds(verb, units)):
        with contextlib.suppress(Late):  # systemd goes on with it, and the next one joins that
            return systemctl(verb, *units, check=False, seconds=limit())
    return None


def job_seconds(verb, units):
    """Seconds that such a job may take beyond JOB_SECONDS."""
    names = {"start": ["Start"], "stop": ["Stop"], "restart": ["Stop", "Start"]}[verb]
    # A socket has none of these: by its name there is something to say of each.
    states = unit_states(units, ",".join(["Id", *(f"Timeout{name}USec" for name in names)])).values()
    limits = [
        sum(slipway_step.in_seconds(state.get(f"Timeout{name}USec", "0s"), LONGEST_JOB_SECONDS) for name in names)
        for state in states
    ]
    return max(0, max(limits) - JOB_SECONDS) + JOB_MORE_SECONDS


def kill(*units):
    """Kill all processes of units, at once."""
    systemctl("kill", "--signal=SIGKILL", *units, check=False)


def stop(*units):
    """Stop units; what doesn't end in its time is killed, whatever it says to systemd."""
    if in_time("stop", *units) is None:
        kill(*units)
        try:
            systemctl("stop", *units, check=False, seconds=KILL_SECONDS)
        except Late:
            told = f"{', '.join(units)} can't be ended, not even by SIGKILL"
            raise Failed(f"{told}: `systemctl status` and `dmesg` may tell why.") from None


def nginx(*words):
    """What `slipway-nginx` does when told so, within this process: to start another takes as long as its work."""
    try:
        import slipway_nginx
    except ImportError as error:
        raise Failed(f"A part of Slipway is missing on this host ({error}): a run of deploy.py brings it.") from error
    try:
        slipway_nginx.act(*words)
    except slipway_nginx.Refused as refusal:
        raise Failed(str(refusal)) from refusal


def tail(text, lines=30):
    return "\n".join(slipway_trees.short(line, LONG_LINE) for line in text.strip().splitlines()[-lines:])


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def digest(*parts):
    """SHA-256 of texts and bytes."""
    import hashlib

    told = hashlib.sha256()
    for part in parts:
        told.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
        told.update(b"\0")
    return told.hexdigest()


def replace(path, content, mode, group="root"):
    """Write a file so that it is either the old or the new one, whenever the power fails; once told, the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        partial.touch(0o600)
        with partial.open("w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.chown(partial, "root", group)
        partial.chmod(mode)
        partial.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)  # which knows the file by its name
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:  # a full disk
        partial.unlink(missing_ok=True)
        raise


def read_json(path):
    """A file's JSON object; empty if there is no such file, or none that can be read."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


class App:
    """An app of this host: its paths, its units, and what is true of them now."""

    def __init__(self, name):
        self.name = name
        self.etc = Path("/etc") / name
        self.root = Path("/srv") / name
        self.releases = self.root / "releases"
        self.current = self.root / "current"
        self.records = Path("/var/lib/slipway") / name
        self.lock = RUN / f"{name}.lock"
        self.ended = RUN / ".ended"  # how units ended, by their names
        self.runs = RUN / name
        self.run_unit = f"{name}-release.service"
        self.builder = f"_{name}"  # builds run code of the app and of its dependencies: not as root
        self.cache = CACHE / name
        self.helpers = [f"{name}-{what}.service" for what in ("build", "check", "schema", "hook", "migrate")]
        self.wanted = {}
        self.request = {}
        self.attempt = None  # the id of what this run does, once there is one
        self.launched = None  # when this run started a release
        self.knower = None  # a release that has every revision of the database's

    def folder(self, release):
        return self.releases / release

    def work(self, release):
        """The app's folder in a release: where its pyproject.toml is."""
        return self.folder(release) / self.subdir(release)

    def subdir(self, release):
        """The same, below the release's folder."""
        return (self.record(release).get("wanted") or self.wanted)["source"]["subdir"]

    def venv(self, release):
        return self.folder(release) / ".venv"

    def env(self, release):
        return self.etc / "releases" / f"{release}.env"

    def socket(self, release):
        return Path("/run") / self.name / f"{release}.sock"

    def unit(self, release, kind):
        return f"{self.name}@{release}.{kind}"

    def units(self, release):
        return [self.unit(release, kind) for kind in ("socket", "service")]

    def serving(self):
        """Id of the release that `current` names, or None before the first one."""
        return self.current.readlink().name if self.current.is_symlink() else None

    def record(self, release):
        """What became of a release; empty if it has no record, or none that can be read."""
        return read_json(self.records / f"{release}.json") if release else {}

    def write_record(self, release, **facts):
        self.records.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self.record(release) or {"id": release}
        replace(self.records / f"{release}.json", json.dumps(known | facts, indent=1), 0o600)

    def secrets(self):
        """All texts of this app's environments that may not be shown (slipway_text.py says which)."""
        named = self.wanted or read_json(self.etc / "release.json")
        found = secrets_of(read_json(self.etc / "build.env") | self.request.get("build", {}), app=self.name)
        for path in [self.etc / "env", *(self.etc / "releases").glob("*.env")]:
            made = named if path.stem == "env" else self.record(path.stem).get("wanted", {})
            with contextlib.suppress(OSError):
                given = read_environment(path.read_text(errors="replace"))
                given.pop("RELEASE_ID", None)
                found |= secrets_of(given, made.get("secrets"), self.name)
        return found

    def history(self):
        """Every record, oldest first."""
        return [record for path in sorted(self.records.glob("*.json")) if (record := read_json(path)).get("id")]

    def good(self):
        """Ids of the releases that went live and are still there, oldest first."""
        there = sorted(folder.name for folder in self.releases.iterdir()) if self.releases.is_dir() else []
        return [release for release in there if self.record(release).get("state") == "good"]

    def installed_units(self, *folders):
        """Release ids that have a unit file, in these folders only if some are given."""
        return {
            path.name[len(self.name) + 1 : path.name.rindex(".")]
            for folder in folders or (UNITS, WARM_UNITS)
            for path in folder.glob(f"{self.name}@?*.s*")
            if path.is_file() and not path.is_symlink()
        }

    def warm(self):
        """Ids of the releases that don't serve any more, but may run on for a while."""
        return {
            release
            for release in self.installed_units(WARM_UNITS) - self.installed_units(UNITS) - {self.serving()}
            if self.record(release).get("warm_until", 0) > time.time()
        }

    def proxied(self):
        """Id of the release that nginx's upstream file names, or None."""
        with contextlib.suppress(FileNotFoundError):
            found = re.search(
                rf"unix:/run/{re.escape(self.name)}/([^.;]+)\.sock;",
                (Path("/etc/nginx/upstreams") / f"{self.name}.conf").read_text(),
            )
            return found[1] if found else None
        return None

    def manifest(self, release):
        """Where the manifest of a release is kept."""
        return self.records / f"{release}.manifest"

    def describe(self, release, base=None):
        """Write down what a release consists of: of what it shares with `base`, which is whole, as that one says."""
        known = read_json(self.manifest(base)) if base else {}
        shared = slipway_manifest.stamps(self.folder(base), known) if base else {}
        manifest = slipway_manifest.take(self.folder(release), known, shared)
        text = slipway_manifest.dump(manifest)
        replace(self.manifest(release), text, 0o600)
        self.write_record(release, manifest=digest_of_text(text))
        self.remember_seen(release, slipway_manifest.stamps(self.folder(release), manifest))

    def seen(self, release):
        """Where is kept how the files of a release looked that were found right since the host booted."""
        return SEEN / self.name / release

    def remember_seen(self, release, stamps):
        """Write that down; the next look is quicker by it."""
        with contextlib.suppress(OSError):  # a full memory
            self.seen(release).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(self.seen(release), digest_of_text(slipway_manifest.dump(stamps)), 0o600)

    def damage(self, release):
        """What is wrong with the files of a release (path → words); empty when all is as its manifest says."""
        told, folder = self.record(release).get("manifest"), self.folder(release)
        if not told:  # of an earlier Slipway, and not described yet
            program = self.venv(release) / "bin/gunicorn"
            return {} if os.access(program, os.X_OK) else {str(program.relative_to(folder)): "is missing"}
        text = seen = ""
        with contextlib.suppress(OSError, ValueError):
            text = self.manifest(release).read_text()
            seen = self.seen(release).read_text()
        if digest_of_text(text) != told:
            return {str(self.manifest(release)): "is damaged"}
        manifest = json.loads(text)
        stamps = slipway_manifest.stamps(folder, manifest)
        if seen == digest_of_text(slipway_manifest.dump(stamps)):
            return {}
        wrong = slipway_manifest.compare(folder, manifest)
        if not wrong:
            self.remember_seen(release, stamps)
        return wrong

    def healthy(self, release, states):
        """Why `release` isn't the one that serves, fully, now and after a reboot; empty when it is.

        + states: what systemd knows of its units
        """
        wrong = self.damage(release)
        faults = [f"{self.folder(release)} is damaged: {slipway_manifest.listed(wrong)}"] if wrong else []
        if not (self.etc / "release.json").exists():
            faults.append(f"{self.etc}/release.json is missing")
        for unit in self.units(release):
            if states[unit]["ActiveState"] not in ACTIVE:
                faults.append(f"{unit} isn't running")
            if not enabled(unit):
                faults.append(f"{unit} isn't enabled")
        if self.proxied() != release:
            faults.append(f"nginx's upstream names {self.proxied() or 'no release'}")
        strays = self.installed_units() - {release} - self.warm()
        if strays:
            faults.append("units of other releases are there: " + ", ".join(sorted(strays)))
        unfinished = sorted(
            path.name for path in self.releases.iterdir() if self.record(path.name).get("state") != "good"
        )
        if unfinished:
            faults.append("unfinished releases are there: " + ", ".join(unfinished))
        return faults

    def rolled_back(self):
        """The record of the release that the operator went back from and that is still what is wanted, or None."""
        inputs = self.wanted.get("inputs")
        bad = [record for record in self.history() if record.get("bad") and record.get("inputs") == inputs]
        return bad[-1] if bad and self.record(self.serving()).get("inputs") != inputs else None


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(app, release):
    """Bring the source into the release's folder, owned by the builder."""
    unpack(app, app.folder(release))
    if app.wanted["source"]["kind"] == "git":
        app.write_record(release, subject=subjects(app, "-1", app.wanted["source"]["commit"])[0].partition(" ")[2])


def subjects(app, *argv):
    """Lines of `git log` of the source: commit and subject."""
    mirror = str(CACHE / "git" / f"{app.name}.git")
    # Its map of names may be as large as whoever committed it liked.
    log = ["git", "-C", mirror, "-c", "log.mailmap=false", "-c", "log.showSignature=false", "log", "-z"]
    done = run(*log, "--format=%h %s", *argv, check=False, raw=True)
    told = done.stdout.strip("\0\n").split("\0") if done.returncode == 0 else [""]
    return [shown(one_line(each)) for each in told]


def unpack(app, folder):
    """Make a folder of the source, owned by the builder."""
    import slipway_sources

    source = app.wanted["source"]
    folder.mkdir(mode=0o750, parents=True)
    shutil.chown(folder, app.builder, app.builder)
    unpack = [*as_builder(app), "tar", "-x", "-C", str(folder), "--no-same-owner"]
    if source["kind"] == "archive":
        with fit(), slipway_sources.plain(CACHE / "sources" / f"{app.name}.{source['commit']}.tar.gz") as archive:
            # -m: the archive has no times, and nginx tells versions of a static file apart by them.
            run(*unpack, "-m", stdin=archive)
        return
    mirror = CACHE / "git" / f"{app.name}.git"
    try:
        export(source, mirror, unpack)
    except DamagedCopy as failure:
        progress.say(f"{app.name}: this host's copy of the repository is damaged, so it is fetched anew. {failure}")
        aside = mirror.with_name(f"{mirror.name}.damaged")
        remove_tree(aside)
        mirror.rename(aside)
        try:
            export(source, mirror, unpack)
        except Failed:
            remove_tree(mirror)
            aside.rename(mirror)
            raise
        remove_tree(aside)


@contextlib.contextmanager
def fit():
    """What a stranger made fits, or the step fails, and says why."""
    try:
        yield
    except Strange as strange:
        raise Failed(str(strange)) from strange


def of_source(app, folder, name, subdir=None):
    """Content of a regular file of a source, as bytes; None if it has none of that name.

    + folder: has the source
    + subdir: the file's folder below it; None is the app's
    """
    subdir = app.wanted["source"]["subdir"] if subdir is None else subdir
    with fit():
        return slipway_trees.read(folder, Path(subdir) / name)


def as_builder(app):
    """The beginning of a command that runs as the app's builder, where it runs no code of the app's; see `guest`."""
    return ["setpriv", f"--reuid={app.builder}", f"--regid={app.builder}", "--clear-groups", "--no-new-privs"]


def export(source, mirror, unpack):
    """Unpack a commit of a repository, which is fetched where the mirror of it hasn't that commit.

    + unpack: the command that takes a tar of it
    """
    # A line that has become too slow ends the fetch: waiting for it would be for ever. Large files aren't for memory.
    options = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "core.bigFileThreshold=8m")
    git = ["git", "-C", str(mirror), *(word for each in options for word in ("-c", each))]
    if (
        not (mirror / "HEAD").exists()
        or run(*git, "remote", "get-url", "origin", check=False).stdout.strip() != source["url"]
    ):
        remove_tree(mirror)
        run("git", "init", "--quiet", "--bare", str(mirror))
        run(*git, "remote", "add", "origin", "--", source["url"])
    environment = (
        os.environ | {"GIT_TERMINAL_PROMPT": "0"} | ({"GIT_SSH_COMMAND": source["ssh"]} if source.get("ssh") else {})
    )
    if run(*git, "cat-file", "-e", source["commit"] + "^{commit}", check=False).returncode != 0:
        # Tags by force: one that moved, whichever, would end the fetch.
        everything = ["--prune", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        # By itself where it was looked up as that of a branch or a tag: what else is there isn't needed. One that
        # somebody named has to be on one of them, and a server gives those of strangers' copies, too.
        alone = ["--no-tags", "origin", f"+{source['commit']}:refs/slipway/wanted"]
        # A repository without end ends at the disk's last quarter, in one file as a rule.
        bound = f"--fsize={slipway_room.free(CACHE)[0] * 3 // 4}"
        for refs in [alone, everything] if source.get("ref", source["commit"]) != source["commit"] else [everything]:
            command = ["prlimit", bound, *git, "fetch", *refs]
            done = run(*command, check=False, env=environment, seconds=FETCH_SECONDS, live=True)
            if done.returncode == 0:  # not every server gives a commit by its name
                break
        if done.returncode != 0:
            failure = DamagedCopy if DAMAGED_COPY.search(done.stdout) else Failed
            large = (
                "\nIt takes more than three quarters of what is free on the disk." if TOO_LARGE in done.stdout else ""
            )
            raise failure(f"{source['url']} can't be fetched:\n{tail(done.stdout)}{large}")
    if run(*git, "cat-file", "-e", source["commit"] + "^{commit}", check=False).returncode != 0:
        raise Failed(f"Commit {source['commit']} is on no branch and no tag of {source['url']}.")
    import slipway_sources

    (mirror / "info").mkdir(exist_ok=True)
    (mirror / "info/attributes").write_text(slipway_sources.ATTRIBUTES)
    try:
        with fit():
            if not slipway_sources.survey(git, source["commit"]):
                raise DamagedCopy(f"`git ls-tree` of {source['commit']} failed.")
            with slipway_sources.exported(git, source["commit"]) as archive:
                done = run(*unpack, stdin=archive, check=False)
    except slipway_sources.Incomplete as incomplete:
        raise DamagedCopy(str(incomplete)) from incomplete
    if done.returncode != 0:
        raise Failed(f"`{unpack[0]}` ended with {done.returncode}:\n{tail(done.stdout)}")


def build(app, release):
    """Install Python and the locked dependencies into the release's own environment; then it becomes root's."""
    from concurrent.futures import ThreadPoolExecutor

    folder, subdir = app.folder(release), app.wanted["source"]["subdir"]
    if of_source(app, folder, "pyproject.toml") is None:
        where = subdir or "the root"
        raise Failed(f"There is no pyproject.toml in {where} of the source: set source.subdir to the app's folder.")
    above = [str(each) for each in (Path(subdir), *Path(subdir).parents)]
    found = ((each, of_source(app, folder, "uv.lock", each)) for each in above)
    beside, lock = next((each for each in found if each[1] is not None), (None, None))
    if lock is None:
        raise Failed("The source has no uv.lock: `uv lock` in the project, commit it, and run again.")
    projects = sorted(of_source(app, folder, "pyproject.toml", each) or b"" for each in {above[0], beside})
    environment = digest(lock, *projects, app.wanted["python"], app.wanted["uv_env"])
    fresh = app.request.get("fresh")
    if fresh:
        forget_caches(app)
    base = None if fresh else reusable(app, environment)
    if not base:
        sync(app, release, lock)
    python = os.path.realpath(app.venv(base or release) / "bin/python")
    compile_library(app, python)
    with ThreadPoolExecutor() as pool:
        adopted = pool.submit(adopt, app, base, release) if base else None
        # A file that doesn't compile may be one that is never imported (a template, say): not a reason to fail.
        compiling = [python, "-ISm", "compileall", "-q", "-x", r"/\.venv/", str(folder)]
        must_run(app, guest(app, release, compiling, {}, network=False))
        own(app, release)
    if adopted:  # the folder is root's by now: its environment was never the builder's
        adopted.result().rename(app.venv(release))
    app.write_record(release, environment=environment)
    app.describe(release, base)
    return f"the environment of {base}" if base else None


def guest(app, release, argv, environment, network=True, secrets=()):
    """Run a command of a build as the app's builder, in a unit that can write to the release and to the app's caches.

    When this returns, nothing that it started is left: systemd has ended all of the unit, and what escaped it would be
    found. Returns its end, as `run` does without `check`.

    + environment: its variables; they are seen by nobody else
    + network: whether it may ask the network, though never this host
    + secrets: texts that are not shown
    """
    folder, file = app.folder(release), Path(app.request["folder"]) / "build.env"
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(app.cache / "home"), "LC_ALL": "C.UTF-8"}
    file.touch(0o600)
    file.write_text(environment_file(known | environment))
    properties = [
        f"User={app.builder}",
        f"Group={app.builder}",
        *app.wanted["build"]["sandbox"],
        # Other apps aren't there, nor the sockets of this host's services.
        "TemporaryFileSystem=/srv /run",
        f"BindPaths={folder}",
        f"ReadWritePaths={folder} {app.cache}",
        f"BindReadOnlyPaths=-{os.path.realpath('/etc/resolv.conf')}",
        f"EnvironmentFile={file}",
        f"WorkingDirectory={app.work(release)}",
        f"LimitFSIZE={slipway_room.largest(folder)}",
        f"ExecStartPre=+nft -f {GUESTS}" if network else "PrivateNetwork=yes",
    ]
    began = time.monotonic()
    written = [each for each in (folder, app.cache, Path("/tmp"), Path("/var/tmp")) if each.is_dir()]
    try:  # in the file, not in the unit's own properties: those everybody may read
        with slipway_room.Guard(written, lambda: kill(f"{app.name}-build.service")) as guard:
            done = in_unit(app, f"{app.name}-build", properties, {}, argv, BUILD_SECONDS, noting=False, secrets=secrets)
    finally:
        file.unlink(missing_ok=True)
    if done.returncode and time.monotonic() - began >= BUILD_SECONDS:
        raise Failed(f"`{argv[0]}` was ended after {BUILD_SECONDS} s. {tail(done.stdout)}")
    if left := slipway_guest.processes(app.builder):
        raise Failed(f"Processes of the build are left ({', '.join(map(str, left))}): see `ps -u {app.builder}`.")
    if guard.short:
        empty_caches(app)  # it may have filled those, which the next build would find
        raise Failed(f"The build was ended: {guard.short}. Make room, or see what it wrote so much for.")
    return done


def must_run(app, done):
    """Fail where a command of a build wasn't run at all; how it ended is the caller's affair."""
    # What runs in a build writes nothing before its own words.
    if done.returncode in slipway_step.NOT_RUN or done.stdout.startswith("Failed to start transient service unit"):
        raise Failed(f"`{done.args[0]}` couldn't be run in {app.name}-build.service:\n{tail(done.stdout)}")


def environment_file(values):
    """Variables as systemd reads them back (``EnvironmentFile=``, systemd.exec(5)); as roles/release.py writes them."""
    quoted = {name: re.sub(r'(["\\`$])', r"\\\1", value) for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(quoted.items()))


def forget_caches(app):
    """Empty what earlier builds and fetches left for later ones."""
    remove_tree(CACHE / "git" / f"{app.name}.git")
    empty_caches(app)


def empty_caches(app, *names):
    """Empty these folders of builds, or both of them."""
    for folder in [app.cache / name for name in names or ("uv", "home")]:
        remove_tree(folder)
        folder.mkdir(mode=0o700)
        shutil.chown(folder, app.builder, app.builder)


def sync(app, release, lock):
    """Install the locked dependencies, byte-compiled.

    + lock: the lock file's content
    """
    folder = app.folder(release)
    environment = {
        "UV_CACHE_DIR": str(app.cache / "uv"),
        "UV_PROJECT_ENVIRONMENT": str(app.venv(release)),
        "UV_NO_PROGRESS": "1",
        # Copies, since a hard link would share its owner and its mode with the cache that builders may write to.
        "UV_LINK_MODE": "copy",
        **app.wanted["uv_env"],
    }
    if (only := app.wanted["build"]["only"]) is not None:
        environment["UV_NO_BUILD_PACKAGE"] = " ".join(others_in_lock(lock, only))
    secrets = read_json(app.etc / "build.env")
    python = app.wanted["python"]
    command = [UV, "sync", "--locked", "--no-dev", "--compile-bytecode", "--python", python]
    options = {"environment": environment | secrets, "secrets": secrets.values()}
    done = guest(app, release, command, **options)
    differing = unlike_records(app, release) if done.returncode == 0 else []
    if differing or (done.returncode != 0 and DAMAGED_CACHE.search(done.stdout)):
        named = slipway_guest.listed(differing)
        why = f"{slipway_trees.short(named)} isn't as it says of itself" if differing else tail(done.stdout, 1)
        progress.say(f"{app.name}: {why}; the dependencies are installed once more, without uv's cache")
        remove_tree(app.venv(release))
        # Who still differs says something wrong of itself.
        done = guest(app, release, [*command, "--no-cache"], **options)
        if done.returncode == 0 and not (set(differing) & set(unlike_records(app, release))):
            must_run(app, guest(app, release, [UV, "cache", "clean"], environment, network=False))
    if done.returncode != 0:
        text = done.stdout.strip()
        raise Failed(f"`uv sync --locked --no-dev` failed:\n{tail(text)}{uv_advice(text, python)}")
    # uv lets everybody write to its locks.
    closing = ["find", str(app.cache / "uv"), "-type", "f", "-perm", "-o+w", "-exec", "chmod", "o-w", "{}", "+"]
    must_run(app, guest(app, release, closing, {}, network=False))
    if too_large(app.cache / "uv", CACHE_MB):
        empty_caches(app, "uv")
    if too_large(app.cache / "home", HOME_MB):
        empty_caches(app, "home")
    for tool in ("gunicorn", "python"):
        if not (folder / ".venv/bin" / tool).exists():
            add = "uv add gunicorn uvicorn-worker uvloop httptools"
            raise Failed(f"The lock file has no {tool}: `{add}` in the project, commit, and run again.")


def too_large(folder, most_mb):
    """Whether builds have left more in a folder of theirs than they may."""
    told = run("du", "-sm", str(folder), check=False).stdout.splitlines()  # at last the sum, whatever is said before
    size = told[-1].partition("\t")[0] if told else ""
    return not size.isdigit() or int(size) > most_mb


def others_in_lock(lock, only):
    """Packages of a lock file but for those that are named: none of them may be built here."""
    named = {re.sub(r"[-_.]+", "-", each).lower() for each in only}
    # As uv writes it; Python 3.10 can't read TOML.
    return sorted(
        {*re.findall(r'^\[\[package\]\]\nname = "([^"]+)"$', lock.decode(errors="replace"), re.MULTILINE)} - named
    )


def unlike_records(app, release):
    """Packages that differ from what they say of themselves, as those from a cache that a power cut has damaged."""
    venv = app.venv(release)
    if venv.is_symlink() or not venv.is_dir():
        return []
    with fit():
        slipway_trees.measure(app.folder(release), slipway_guest.WHAT)  # before any of it is read
        return slipway_manifest.unlike_records(venv, slipway_manifest.take(venv))


def compile_library(app, python):
    """Byte-compile the standard library of a Python that uv has installed, once: half of the time of an app's start.

    An app may not write there, so each of its starts would compile anew. uv is told to do it when it installs one; this
    is for a Python from before, or whose compiling was killed.
    """
    library = next(Path(python).parents[1].glob("lib/python3*"), None)
    if not library or not library.is_relative_to(app.wanted["uv_env"].get("UV_PYTHON_INSTALL_DIR", "-")):
        return
    compiled = {path.name.partition(".")[0] for path in library.glob("__pycache__/*.pyc")}
    if any(path.stem not in compiled for path in library.glob("*.py")):
        # By name, so that one which was killed before the end is noticed. What can't be compiled is only slower.
        skipped = r"/(tests?|idlelib|turtledemo|site-packages)/"
        run(python, "-IS", "-m", "compileall", "-q", "-x", skipped, str(library), check=False, live=True)


def uv_advice(text, python):
    """What to do about an error of uv's, where it doesn't say so itself."""
    if "needs to be updated" in text:
        return "\nuv.lock is older than pyproject.toml: `uv lock` in the project, commit it, and run again."
    if "no-build" in text:
        return "\nThe package has no wheel for this host: add it to build_only, if its code may run in the build."
    if "No interpreter found" in text:
        return f"\nPython {python} isn't installed on this host: a run of deploy.py installs it."
    return ""


def reusable(app, environment):
    """The newest release that has just this environment, and one that can be taken along; None if there is none."""
    for release in reversed(app.good()):
        venv = app.venv(release)
        if app.record(release).get("environment") != environment or app.damage(release):
            continue
        # A project, or a member of its workspace, that is installed itself is named by its path: build that anew.
        packages = next(venv.glob("lib/python3*/site-packages"), None)
        if not packages:
            continue
        paths = [
            *packages.glob("*.pth"),
            *packages.glob("__editable__*"),
            *packages.glob("*.dist-info/direct_url.json"),
        ]
        if not any(names(path, app.folder(release)) for path in paths):
            return release
    return None


def names(path, folder):
    """Whether a file of an installed package names a folder, as far as can be told."""
    try:
        content = slipway_trees.read(path.parent, path.name)
    except Strange:
        return True
    return content is not None and bytes(folder) in content


def adopt(app, base, release):
    """Take another release's environment along: hard links of what is root's and never written to again.

    Returns the folder that is to become the release's environment.
    """
    before, after, partial = app.venv(base), app.venv(release), app.releases / f".{release}.partial"
    run("cp", "-al", str(before), str(partial))
    for script in (partial / "bin").iterdir():  # their first line names the environment
        if script.is_symlink() or not script.is_file() or script.stat().st_size > SCRIPT_BYTES:
            continue
        content = script.read_bytes()
        if bytes(before) in content:
            mode = script.stat().st_mode & 0o777
            script.unlink()
            script.touch(0o600)
            script.write_bytes(content.replace(bytes(before), bytes(after)))
            shutil.chown(script, "root", app.name)
            script.chmod(mode)
    return partial


def own(app, release):
    """All is root's, and readable by the app alone; of the static folder, and the way to it, nginx may read too."""
    folder = app.folder(release)
    with fit():
        slipway_guest.take_over(folder, 0, group_id(app.name), [app.wanted["uv_env"]["UV_PYTHON_INSTALL_DIR"]])
    static = app.wanted.get("static")
    if static:
        folder = folder.resolve()  # /srv may be a link to another disk
        path = (folder / app.wanted["source"]["subdir"] / static).resolve()
        if not path.is_relative_to(folder) or not path.is_dir():
            raise Failed(f"static.path: {static} is no folder inside the app's source.")
        run("chmod", "-R", "o=rX", str(path))
        for parent in path.parents:
            if parent == folder.parent:
                break
            parent.chmod(parent.stat().st_mode | 0o001)


def group_id(name):
    """Number of a group."""
    import grp

    return grp.getgrnam(name).gr_gid


def as_app(app, release, what, argv, seconds, told=None, said=""):
    """Run a command as the app's user, with the release's environment and folder, in the app's own sandbox.

    It is a unit of its own name, so that two can never run at once and one that outlived us is found (`tidy`).

    + told: more environment variables, none of them secret
    + said: what it reads on its standard input
    """
    unit = f"{app.name}-{what}"
    venv = app.venv(release)
    properties = [
        *app.wanted["sandbox"],
        f"EnvironmentFile={app.env(release)}",
        f"WorkingDirectory={app.work(release)}",
    ]
    environment = {"PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(venv), **(told or {})}
    # Nothing was started: the app's own journal, which the last of these needed alone, is just about to end.
    again = f"Failed to start transient service unit: Transaction for {unit}.service/start is destructive"
    until = time.monotonic() + JOURNAL_SECONDS
    while True:
        done = in_unit(app, unit, properties, environment, argv, seconds, said=said)
        if not done.stdout.startswith(again) or time.monotonic() > until:
            break
        time.sleep(0.05)
    if done.ended and done.ended.result == "timeout":
        done.stdout += f"\nIt was ended after {seconds} s."
    elif done.ended and done.ended.signal:
        done.stdout += f"\n{slipway_step.killed_by(done.ended.signal, app.name)}"
    return done


def in_unit(app, unit, properties, environment, argv, seconds, noting=True, **options):
    """Run a command as a unit of its own, to its end: `ended` of what is returned tells how systemd saw that.

    One that a signal ended has failed, whichever: systemd takes SIGTERM for an end as good as any.

    + seconds: that it may take; after that it is told to end, and then killed, whatever becomes of its output
    + noting: whether `ended` is to be told, which takes some hundredths of a second; it is None otherwise
    + options: more of `run`'s
    """
    note = app.ended / unit
    app.lock.parent.mkdir(mode=0o755, exist_ok=True)
    app.ended.mkdir(mode=0o700, exist_ok=True)
    note.unlink(missing_ok=True)
    # Simple, or a newer systemd-run doesn't wait for the end of what ends before its program is run.
    limits = ["Type=simple", f"RuntimeMaxSec={seconds}", f"TimeoutStopSec={STEP_END_SECONDS}"]
    limits += [slipway_step.noting(note)] if noting else []
    command = as_unit(unit, [*properties, *limits], environment, argv)
    most = seconds + STEP_END_SECONDS + JOB_MORE_SECONDS
    try:
        done = run(*command, check=False, live=True, seconds=most, **options)
    except Late as late:
        kill(f"{unit}.service")
        done = subprocess.CompletedProcess(command, 1, late.output)
    done.args, done.ended = argv, slipway_step.noted(note, done.returncode) if noting else None
    if done.ended and done.ended.signal and done.returncode in (0, 1, 255):  # systemd-run's own
        done.returncode = 128 + getattr(signal, done.ended.signal, 0)
    return done


def as_unit(unit, properties, environment, argv):
    """The command line that runs another one as a unit of its own, with our standard streams."""
    flags = [part for item in properties for part in ("--property", item)]
    flags += [part for name, value in environment.items() for part in ("--setenv", f"{name}={value}")]
    flags.append(f"--description=Slipway: {unit}")  # or it is the command line, with its line feeds
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit", unit, *flags, "--", *argv]


def check(app, release):
    """Before anything changes: the app imports, its units and nginx's configuration are valid, the database fits."""
    from concurrent.futures import ThreadPoolExecutor

    prepare(app, release)
    missing_hooks(app, release)
    with ThreadPoolExecutor() as pool:  # the last two take as long as the app's own imports, on a core each
        checks = [
            pool.submit(flush, app),  # ahead: little is left to be written when it counts
            pool.submit(nginx, "check"),
            pool.submit(valid_units, app, release),
            pool.submit(imports, app, release),
            pool.submit(look, app, release),
        ]
    *_, seen = [each.result() for each in checks]
    if seen:
        app.write_record(release, heads=seen["heads"], pending=seen["pending"], revisions={"before": seen["current"]})
        fits(app, seen)


def flush(app):
    """Let all that a release consists of outlive a power cut: sources, environment, units, settings, records."""
    try:
        slipway_manifest.flush(app.root, app.etc, app.records, UNITS)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Failed(f"The release can't be written to the disk ({error}): see `dmesg` and `df -h`.") from error


def valid_units(app, release):
    """Fail unless systemd takes the release's units."""
    done = run("systemd-analyze", "verify", *(str(UNITS / unit) for unit in app.units(release)), check=False)
    # It ends with 0 for a key it doesn't know, so that what it prints of our files is what counts.
    complaints = [line for line in done.stdout.splitlines() if f"{app.name}@{release}" in line]
    if complaints:
        raise Failed("systemd refuses the unit:\n" + "\n".join(complaints))


def prepare(app, release):
    """Write the release's environment and units."""
    (app.etc / "releases").mkdir(mode=0o750, exist_ok=True)
    shutil.chown(app.etc / "releases", "root", app.name)
    environment = (app.etc / "env").read_text()
    if digest_of_text(environment) != app.wanted["inputs"]["environment"]:
        raise Failed(f"{app.etc}/env isn't the environment this release was asked for: somebody changed it meanwhile.")
    replace(app.env(release), environment + f'RELEASE_ID="{release}"\n', 0o640, app.name)
    write_units(app, release, app.wanted["units"])


def digest_of_text(text):
    """As roles/release.py tells an environment."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def write_units(app, release, texts):
    """Write a release's units: kind → text, where ``@RELEASE@`` stands for its id.

    Of a release that is new, systemd needs no daemon-reload: it reads the file of a unit that it doesn't know yet.
    """
    for kind, text in texts.items():
        replace(UNITS / app.unit(release, kind), text.replace("@RELEASE@", release), 0o644)


def imports(app, release):
    """Fail unless the app can be imported."""
    python = str(app.venv(release) / "bin/python")
    done = as_app(app, release, "check", [python, "-c", IMPORT, *app.wanted["app"].split(":")], IMPORT_SECONDS)
    if done.returncode != 0:
        raise Failed(f"{app.wanted['app']} can't be imported:\n{tail(done.stdout)}")


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────


def has_alembic(app, folder, subdir):
    """Whether the schema of the code in this folder is Alembic's affair.

    + subdir: the app's folder below it
    """
    if app.wanted["migration"]["command"] != "auto":
        return False
    if of_source(app, folder, "alembic.ini", subdir) is not None:
        return True
    return b"[tool.alembic" in (of_source(app, folder, "pyproject.toml", subdir) or b"")


def uses_alembic(app, release):
    """The same of a release's code."""
    return has_alembic(app, app.folder(release), app.subdir(release))


def schema(app, release, *argv, what="schema", seconds=IMPORT_SECONDS):
    """Run slipway-schema with the release's own Python and Alembic."""
    if argv[0] in ("upgrade", "downgrade"):
        limits = app.wanted["migration"]
        argv = [*argv, "--lock-timeout", str(limits["lock_timeout"])]
        argv += ["--statement-timeout", str(limits["statement_timeout"])]
    return as_app(app, release, what, schema_command(app, release, *argv), seconds, MARKED, said=f"{MARK}\n")


def schema_command(app, release, *argv):
    """The command line of slipway-schema with a release's own Python and Alembic."""
    return [str(app.venv(release) / "bin/python"), SCHEMA, *argv]


def answer(done, doing):
    """The JSON that slipway-schema printed: behind the mark that env.py, whose output it stands in, doesn't know."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or not lines:
        raise Failed(f"The database's schema can't be {doing}:\n{tail(done.stdout)}")
    return json.loads(lines[-1].removeprefix(MARK))


def look(app, release):
    """What a release's migrations and the database know of each other; None where Alembic isn't used."""
    return answer(schema(app, release, "look"), "looked at") if uses_alembic(app, release) else None


def plan(app, request):
    """What a release would change, without making one: its commits, and the migrations with their SQL.

    Nothing of the new source is run but in `sandboxed`. The new one isn't built yet, so that its migrations are read
    with the packages of the release that serves; which is also who asks the database where it is.
    """
    import tempfile

    app.wanted = request["wanted"]
    serving = app.serving()
    told = {"commits": [], "pending": [], "error": None, "sql_error": None}
    sweep_plans(app)
    # Readable, as is what it is shown in the sandbox; to its name nobody comes first.
    folder = Path(tempfile.mkdtemp(prefix=f"slipway-plan-{app.name}-", suffix=f".{os.getpid()}", dir=PLANS))
    folder.chmod(0o755)
    source = folder / "source"
    try:
        unpack(app, source)
        if app.wanted["source"]["kind"] == "git" and app.record(serving).get("commit"):
            told["commits"] = subjects(app, f"{app.record(serving)['commit']}..{app.wanted['source']['commit']}")
        if serving and has_alembic(app, source, app.wanted["source"]["subdir"]):
            run("chown", "-hR", f"root:{app.name}", str(source))
            told |= planned_migrations(app, serving, folder, request.get("placeholders", {}))
    except Exception as error:  # whatever a source makes of its own plan, the operator hears of it
        told["error"] = shown(said_of(error))
    finally:
        remove_tree(folder)
    return told


def in_a_unit_of_its_own(app):
    """Plan in a unit with the memory of a run: what is planned is a stranger's. Returns the exit status."""
    limits = (f"MemoryMax={RUN_MEMORY}", f"RuntimeMaxSec={FETCH_SECONDS + 10 * PLAN_SECONDS}", *SHUT_OFF)
    command = as_unit(f"{app.name}-planning-{os.getpid()}", limits, {}, [PROGRAM, "plan", "--here", app.name])
    return subprocess.run(command, check=False).returncode


def sweep_plans(app):
    """Remove what plans that were killed have left."""
    for folder in PLANS.glob(f"slipway-plan-{app.name}-*.*"):
        with contextlib.suppress(FileNotFoundError):
            pid, owner = folder.name.rpartition(".")[2], folder.lstat().st_uid
            # Others may write there, too.
            if owner == os.geteuid() and pid.isdigit() and not Path("/proc", pid).exists():
                remove_tree(folder)


def planned_migrations(app, serving, folder, placeholders):
    """What of a new source's migrations the database lacks, each with its SQL as far as that can be written.

    + folder: has the source
    + placeholders: name → value of the environment that its env.py gets
    """
    seen = {"current": [], "dialect": None}
    if uses_alembic(app, serving):
        seen = answer(schema(app, serving, "look", what=f"plan-look-{os.getpid()}"), "looked at")
    at = f"--at={','.join(seen['current']) or 'base'}"
    # Nothing else of the environment, by which Python itself could be told to run something of the source.
    where = {name: value for name, value in placeholders.items() if name == "ALEMBIC_CONFIG"}
    done = sandboxed(app, serving, folder, schema_command(app, serving, "read", at), where)
    known = {"current": seen["current"], **answer(done, "compared with the new migrations")}
    known["pending"] = [each | {"sql": None} for each in known["pending"]]
    if known["pending"]:
        dialect = [f"--dialect={seen['dialect']}"] if seen["dialect"] else []
        command = schema_command(app, serving, "render", at, *dialect)
        try:  # whatever it answers comes from the new source: it is a text to show, and nothing else
            done = sandboxed(app, serving, folder, command, placeholders)
            sql = answer(done, "written as SQL")["sql"]
            known["pending"] = [
                each | {"sql": shown(str(sql.get(each["revision"]) or ""))} for each in known["pending"]
            ]
        except Exception as error:
            known["sql_error"] = shown(said_of(error))
    return known


def sandboxed(app, release, folder, argv, environment):
    """Run a command on a source that nobody has trusted yet, with a release's packages, and shut off from all else.

    It sees of the host's files the system's programs, those packages, and the source; it can write nowhere, reaches no
    network and no socket, and runs as a user that there is only for it. It is in the app's group, which those files
    are for: of what else that group may read, it sees nothing.

    + folder: has the source
    + environment: all that it gets, none of it secret
    """
    root, venv = folder / "root", app.venv(release)
    for name in ("usr", "proc", "sys", "dev", "run", "tmp", "var/tmp", "etc", "source"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    shown_files = [f"-/etc/{name}" for name in ("ld.so.cache", "localtime")]
    shown_files += ["/usr", "/opt/slipway", f"{venv.resolve()}:{venv}", f"{folder / 'source'}:/source"]
    properties = [
        f"RootDirectory={root}",
        f"BindReadOnlyPaths={' '.join(shown_files)}",
        f"WorkingDirectory=/source/{app.wanted['source']['subdir']}",
        f"SupplementaryGroups={app.name}",
        *SANDBOX,
    ]
    environment = {"LC_ALL": "C.UTF-8", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    environment |= {"PATH": f"{venv}/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(venv), **MARKED}
    unit = f"{app.name}-plan-{os.getpid()}"
    try:
        command = as_unit(unit, properties, environment, argv)
        return run(*command, check=False, seconds=2 * PLAN_SECONDS, most=PLAN_BYTES, said=f"{MARK}\n")
    finally:
        systemctl("stop", f"{unit}.service", check=False)  # one whose reader has gone


def fits(app, seen):
    """Fail if the release's migrations can't be applied, or may break the release that still serves."""
    if len(seen["heads"]) > 1:
        heads = ", ".join(seen["heads"])
        raise Failed(f"The migrations have {len(seen['heads'])} heads ({heads}): `alembic merge heads`, and run again.")
    serving = app.record(app.serving())
    if seen["unknown"] and not same_code(app, serving):
        unknown = ", ".join(seen["unknown"])
        way_out = "it is older than the database, which another release has migrated. Release code that has that too."
        if not knower(app):
            way_out = (
                "nor has any release on this host. Release code that has it; or, if it was never one of the app's, set "
                "the database right: `alembic stamp --purge REVISION`, with the app's environment."
            )
        raise Failed(f"The database is at revision {unknown}, which this release doesn't have: {way_out}")
    contract = [f"{each['revision']} {step}" for each in seen["pending"] for step in each["contract"]]
    if contract and serving and not app.request.get("contract"):
        steps = "\n".join(f"  {step}" for step in contract)
        raise Undecided(
            f"The release that serves may not survive these migrations:\n{steps}\n"
            f"If it no longer uses what they change, consent: --data contract=true (on the host: --contract)."
        )


def same_code(app, record):
    """Whether what is wanted is the code of this record, with another environment or other settings at most."""
    mine, theirs = app.wanted["inputs"], record.get("inputs", {})
    return all(mine.get(key) == theirs.get(key) for key in ("source", "folder"))


def migrate(app, release):
    """Bring the database's schema up, once, as the app's user, before traffic shifts."""
    command, record = app.wanted["migration"]["command"], app.record(release)
    pending = [each["revision"] for each in record.get("pending", [])]
    hook(app, release, "before_migrate", SLIPWAY_PENDING=",".join(pending))
    note = "no migration"
    if uses_alembic(app, release):
        note = "nothing pending"
        if pending:
            tries = patient(
                app, "alembic", lambda limit: schema(app, release, "upgrade", what="migrate", seconds=limit)
            )
            note = ", ".join(pending) + tries
        after = record["heads"] if pending else record["revisions"]["before"]
        app.write_record(release, revisions=record["revisions"] | {"after": after})
    elif command and command != "auto":
        argv = in_path(app, release, command)
        note = patient(app, " ".join(command), lambda limit: as_app(app, release, "migrate", argv, limit))
    hook(app, release, "after_migrate", SLIPWAY_PENDING=",".join(pending))
    return note


def patient(app, name, command):
    """Run a migration, and again where it met a lock of the database's; says how often that was.

    + command: takes the seconds that it may take
    """
    migration = app.wanted["migration"]
    limit = migration["timeout"]
    until = time.monotonic() + limit
    for attempt in range(migration["retries"] + 1):
        done = command(max(1, round(until - time.monotonic())))
        if done.returncode == 0:
            return f" (tried {attempt + 1} times, for a lock)" if attempt else ""
        late = time.monotonic() >= until
        if done.returncode != LOCK_TAKEN or late or attempt == migration["retries"]:
            break
        progress.say(f"{app.name}: the migration met a lock; it is tried again. {tail(done.stdout, 1)}")
        time.sleep(RETRY_SECONDS)
    how = "failed"
    if late:
        how = f"was ended after migrate_timeout ({limit} s)"
    elif done.returncode == LOCK_TAKEN:
        tries = "once" if attempt == 0 else f"{attempt + 1} times (migrate_retries)"
        how = f"met a lock {tries}, and waited for migrate_lock_timeout"
    raise Failed(f"The migration `{name}` {how}:\n{tail(done.stdout)}")


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_path(app, release, command):
    """A command whose program is one of the release's environment where it has one of that name, or of its folder."""
    if "/" in command[0]:
        return [str(app.work(release) / command[0]), *command[1:]]
    program = app.venv(release) / "bin" / command[0]
    return [str(program) if program.exists() else command[0], *command[1:]]


def missing_hooks(app, release):
    """Fail if a hook's program is nowhere to be found."""
    for name, command in app.wanted["hooks"].items():
        if name == "timeout" or not command:
            continue
        program = in_path(app, release, command)[0]
        if "/" in program:
            folders, wanted = [Path(program).parent], Path(program).name
        else:
            folders, wanted = [app.venv(release) / "bin", *map(Path, ("/usr/local/bin", "/usr/bin", "/bin"))], program
        if not any(os.access(folder / wanted, os.X_OK) for folder in folders):
            import difflib

            near = [path.name for path in folders[0].glob("*") if os.access(path, os.X_OK)]
            nearest = difflib.get_close_matches(wanted, near, n=1)
            folder = command[0].rpartition("/")[0]
            meant = f"; there is {folder}{'/' if folder else ''}{nearest[0]}" if nearest else ""
            raise Failed(f"hooks.{name}: there is no program {command[0]} in the release, nor in the PATH{meant}.")


def hook(app, release, name, **told):
    """Run a command of the user's own at its moment; no output of it is shown unless it fails."""
    command, seconds = app.wanted["hooks"].get(name), app.wanted["hooks"].get("timeout", 60)
    if not command:
        return
    began = time.monotonic()
    done = as_app(app, release, "hook", in_path(app, release, command), seconds, {"SLIPWAY_HOOK": name, **told})
    if done.returncode != 0:
        how = f"was ended after {seconds} s" if time.monotonic() - began >= seconds else f"ended with {done.returncode}"
        raise Failed(f"The hook {name} (`{' '.join(command)}`) {how}:\n{tail(done.stdout)}")
    progress.say(f"{app.name}: hook {name} {time.monotonic() - began:.1f} s")


# ── the new one beside the old one ───────────────────────────────────────────────────────────────────────────────


def start(app, release):
    """Start the new release beside the old one, on its own socket."""
    for other in app.warm() - {release}:  # memory for two releases is needed, not for three
        drained(app, other, until=app.record(other).get("left", 0) + app.wanted["drain_timeout"])
        forget_drain(app, other)
        systemctl("stop", "--no-block", app.unit(other, "service"), check=False)
    launch(app, release)


def launch(app, release):
    """Start both units of a release; nothing happens to those that run."""
    app.launched = time.time()
    systemctl("start", app.unit(release, "socket"))
    done = in_time("start", app.unit(release, "service"))
    if done is None:
        kill(app.unit(release, "service"))
        raise Failed("The app didn't start within the time of its unit (TimeoutStartSec):\n" + journal(app, release))
    if done.returncode != 0:
        raise Failed("The app doesn't start:\n" + journal(app, release))


def journal(app, release):
    """The last lines that the release wrote: up to the death of its workers, not what Gunicorn says after that.

    Behind them what there is to say where a signal ended it.
    """
    unit = app.unit(release, "service")
    command = ["journalctl", f"--namespace=+{app.name}", "-u", unit, "-n", "300", "-o", "cat", "--no-pager"]
    lines = run(*command, check=False).stdout.splitlines()
    died = [number for number, line in enumerate(lines) if DEATH.search(line)]
    killed = ""
    if app.launched:  # what ended it earlier may have been us
        since = run(*command, f"--since=@{app.launched:.6f}", check=False).stdout
        killed = slipway_step.killed_in(since, app.name)
    return tail("\n".join(lines[: died[-1] + 1] if died else lines)) + killed


def ask(connect, readiness, seconds=ANSWER_SECONDS):
    """Ask the readiness path: (status, body, release nginx names); status 0 is no answer, and the body says why.

    + connect: opens the connection
    + seconds: for the whole question, however slowly an answer trickles
    """
    import http.client
    import socket

    late, opened = threading.Event(), []

    def end_it():
        late.set()
        for each in opened:  # not the connection's own, which it lets go where the answer says so
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end_it)
    connection = http.client.HTTPConnection("localhost")
    headers = {
        "Host": readiness["host"],
        "X-Forwarded-Proto": readiness["scheme"],
        "X-Forwarded-For": "127.0.0.1",
        "Connection": "close",
        "User-Agent": "slipway-release",
    }
    try:
        connection.sock = connect()
        opened.append(connection.sock)
        timer.start()
        connection.request("GET", readiness["path"], headers=headers)
        response = connection.getresponse()
        body = response.read(400).decode(errors="replace").strip()
        if not late.is_set():
            return response.status, body, response.getheader("X-Slipway-Release")
    except (OSError, http.client.HTTPException) as error:
        if not late.is_set():
            return 0, f"no answer ({error or type(error).__name__})", None
    finally:
        timer.cancel()
        connection.close()
    return 0, f"no whole answer within {seconds:g} s", None


def probe(app, release):
    """Ask a release for its readiness, by its own path and socket: (answered 2xx, what was seen)."""
    made = app.record(release).get("wanted") or app.wanted
    readiness = app.wanted["readiness"] | {"path": made["readiness"]["path"]}
    status, body, _ = ask(lambda: own_socket(app.socket(release)), readiness)
    # Here, where it ends: of a secret that is cut off there, the rest isn't shown either.
    return 200 <= status < 300, shown(f"{status} {body}" if status else body)


def own_socket(path):
    """A connection to a release's own socket."""
    import socket

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(5)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def site_socket(name, tls):
    """A connection to this host's own nginx, as to a site's public name; from where it knows us (roles/nginx.py)."""
    import socket
    import ssl

    plain = socket.create_connection(("127.0.0.1", 443 if tls else 80), 10, ("127.83.76.87", 0))
    if not tls:
        return plain
    # Which certificate is served is roles/tls.py's affair; a private CA's isn't known to this host.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=name)


def public(app, release):
    """Fail unless the site, asked by its public name, is answered by this release; says what can't be asked."""
    readiness = app.wanted["readiness"]
    site = Path("/etc/nginx/slipway/sites") / f"{app.name}.conf"
    tls = readiness["scheme"] == "https"
    if not site.exists() or (tls and "ssl_certificate " not in site.read_text()):
        return "the public name has no certificate yet"
    until, host = time.monotonic() + PUBLIC_SECONDS, readiness["host"]
    while True:
        status, body, named = ask(lambda: site_socket(host, tls), readiness)
        if named == release and status not in (0, 502, 504):
            return None
        if time.monotonic() > until:
            url = f"{readiness['scheme']}://{host}{readiness['path']}"
            raise Failed(f"{url} isn't answered by {release} but by {named or 'no release'}: {status} {body}")
        time.sleep(0.01)  # a worker of the configuration from before may have taken the connection


def prove(app, release):
    """Wait until this very release answers 2xx on its readiness path, through its own socket."""
    readiness = app.wanted["readiness"]
    unit = app.unit(release, "service")
    deadline = time.monotonic() + readiness["timeout"]
    while True:
        ready, seen = probe(app, release)
        progress.last = seen
        if ready:
            break
        state = unit_state(unit)
        if int(state["NRestarts"]) >= 2 or state["ActiveState"] == "failed":
            raise Failed("The app crashes on boot:\n" + journal(app, release))
        if time.monotonic() > deadline:
            missed = f"{readiness['path']} wasn't ready within {readiness['timeout']} s; it last answered {seen}."
            raise Failed(f"{missed} The journal's last lines:\n{journal(app, release)}")
        time.sleep(0.1)
    if f"RELEASE_ID={release}".encode() not in environment_of(unit_state(unit)["MainPID"]).split(b"\0"):
        raise Failed(f"{unit} runs with another release's environment: `systemctl cat {unit}` tells why.")


def environment_of(process):
    """The environment of a process, which may have given it any length."""
    with Path(f"/proc/{process}/environ").open("rb") as file:
        return file.read(ENVIRONMENT_BYTES)


def unit_states(units, properties):
    """What systemd knows of units, by name; asked once for all of them."""
    blocks = systemctl("show", f"--property={properties}", *units).stdout.strip().split("\n\n")
    told = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    return dict(zip(units, told, strict=True))


def unit_state(unit, properties="ActiveState,SubState,NRestarts,MainPID"):
    """What systemd knows of a unit."""
    return unit_states([unit], properties)[unit]


def loaded(units):
    """The state of those units that systemd has in memory, by name; the others don't run, and nothing is left of them.

    It takes half as long as to ask for each of them.
    """
    lines = systemctl("list-units", "--all", "--plain", "--no-legend", "--full", *units).stdout.splitlines()
    rows = [line.split() for line in lines]  # a description has as many lines as it likes
    return {row[0]: row[2] for row in rows if row[:1] and row[0] in units}


def enabled(unit):
    """Whether a reboot starts a unit of ours: what `systemctl is-enabled` looks at too."""
    return (UNITS / unit).is_file() and any(UNITS.glob(f"*.wants/{unit}"))


def switch(app, release):
    """Let nginx send new requests to the new release; both are enabled meanwhile, for a reboot right now."""
    # Links for the next boot: the systemd that runs needn't read them.
    systemctl("enable", "--quiet", "--no-reload", *app.units(release))
    app.write_record(release, switched=now())
    flush(app)  # from here on a boot may bring the new one
    nginx("switch", app.name, release)
    return public(app, release)


def watch(app, release):
    """Look at the readiness of a release that has just begun to serve in the place of another."""
    if not app.serving():
        return "none to go back to"
    unit, bad, seconds = app.unit(release, "service"), 0, app.wanted["watch"]
    restarts = unit_state(unit)["NRestarts"]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ready, seen = probe(app, release)
        bad = 0 if ready else bad + 1
        if unit_state(unit)["NRestarts"] != restarts:
            bad, seen = BAD_IN_A_ROW, "nothing: it crashed"
        if bad >= BAD_IN_A_ROW:
            path = app.wanted["readiness"]["path"]
            raise Failed(f"It served, then {path} turned bad: it answered {seen}.\n{journal(app, release)}")
        clear(app, release)
        time.sleep(min(WATCH_EVERY, max(0, until - time.monotonic())))
    return None


def clear(app, release):
    """Take away what made room for this release, as far as it has ended: now there is time, `commit` would wait."""
    others = sorted(app.installed_units() - {release, app.serving()})
    states = unit_states([app.unit(other, "service") for other in others], "ActiveState") if others else {}
    for other in others:
        if states[app.unit(other, "service")]["ActiveState"] in ("inactive", "failed"):
            remove(app, other)


def commit(app, release):
    """Make it the truth; the old one is let go."""
    from concurrent.futures import ThreadPoolExecutor

    before = confirm(app, release)
    with ThreadPoolExecutor() as pool:  # to delete a release takes as long as all the rest
        pruned = pool.submit(prune, app, release, before)
        leave(app, before, release)
    pruned.result()
    tidy(app)


def settle(app, release, damaged=False):
    """The release that nginx sends to becomes the truth, and the one before it is let go.

    + damaged: which is why it was left, and not its code
    """
    leave(app, confirm(app, release, damaged), release)


def confirm(app, release, damaged=False):
    """Write down that this release is the truth; one that is newer, and was left for it, is marked as bad.

    Returns the one that was the truth before, or None.

    + damaged: as `settle` takes it
    """
    before, known = app.serving(), app.record(release)
    if not known.get("committed") and known.get("wanted"):
        remember(app, known["wanted"])
    previous = known.get("previous") if known.get("committed") else before
    app.write_record(
        release, state="good", committed=now(), previous=previous, bad=None, warm_until=0, stopped_first=None
    )
    if before and release < before and not damaged:
        left = {"since": now(), "by": app.request.get("by", "a run that was killed"), "why": f"went back to {release}"}
        app.write_record(before, bad=left)
    point_current(app, release)
    flush(app)  # before anything of the old one goes
    return before


def leave(app, before, release):
    """Let go what `current` named before this release."""
    if before and before != release:
        let_go(app, before)
    else:
        systemctl("daemon-reload")  # it was enabled without one


def remember(app, wanted):
    """Write down what is wanted now: the inputs of the next `deploy` on the host itself, and how long is drained."""
    replace(app.etc / "release.json", json.dumps(wanted, indent=1), 0o600)


def point_current(app, release):
    """Let `current` name this release, in one step."""
    partial = app.current.with_name(".current.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(f"releases/{release}")
    partial.rename(app.current)


STEPS = (fetch, build, check, migrate, start, prove, switch, watch, commit)


def make_way(app, release):
    """End every process of the app's before anything of a release runs: one that was taken over could kill that.

    Old and new are one user's, and nothing keeps a user's processes from killing each other.
    """
    serving = app.serving()
    if serving:
        progress.say(f"{app.name}: {serving} is stopped first, as told: requests are lost until a release serves")
        app.write_record(serving, stopped_first=now())  # a run that is killed from here on is made good by the next
    others = app.installed_units()  # what one goes back to, too, where it is warm
    for other in others:
        forget_drain(app, other)
    # In this order: systemd would start anew what is killed, and what a connection asks for.
    if units := [unit for other in others for unit in app.units(other)]:
        systemctl("stop", "--no-block", *units, check=False)
    until = time.monotonic() + KILL_SECONDS
    slices = [line.removeprefix("Slice=") for line in app.wanted["sandbox"] if line.startswith("Slice=")]
    kill(*slices)
    while left := slipway_guest.processes(app.name):
        if time.monotonic() > until:
            listed = ", ".join(map(str, left[:NAMED]))
            raise Failed(f"Processes of {app.name} don't end ({listed}): see `ps -u {app.name}`.")
        for process in left:  # those outside of its slice, too
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        kill(*slices)
        time.sleep(0.05)
    for other in others:
        stop(*app.units(other))
    return None if serving else "nothing served"


make_way.__name__ = "stop"


def start_again(app):
    """Start what was stopped first, where no other release took its place; returns what came of it, if anything."""
    serving = app.serving()
    if not serving or not app.record(serving).get("stopped_first"):
        return ""
    try:
        ensure_running(app, serving)
    except (Failed, OSError) as error:
        return f"{serving}, which was stopped first, can't be started again: {error}"
    app.write_record(serving, stopped_first=None)
    return f"{serving}, which was stopped first, was started again."


# ── the old one ──────────────────────────────────────────────────────────────────────────────────────────────────


def let_go(app, release):
    """Let a release that no longer serves finish what it has, in the background, and stay warm as long as is set."""
    from concurrent.futures import ThreadPoolExecutor

    grace, warm = app.wanted["drain_timeout"], app.wanted["keep_warm"]
    stopping = grace + app.wanted["graceful_timeout"] + 30
    stopped = app.record(release).get("stopped_first")
    app.write_record(release, left=time.time(), stopped_first=None)
    if stopped or not all((UNITS / unit).exists() for unit in app.units(release)):  # or somebody took them away
        remove(app, release)
        return
    for unit in app.units(release):  # in /run, so that a reboot ends it
        WARM_UNITS.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copy(UNITS / unit, WARM_UNITS / unit)
    later = ["--timer-property=AccuracySec=1s", f"--on-active={max(warm, grace)}s"]
    common = ["systemd-run", "--quiet", "--collect", *(f"--property={each}" for each in SHUT_OFF)]
    commands = [
        [*common, f"--unit={app.name}-{what}-{release}", *options, PROGRAM, what, app.name, release]
        for what, options in {"drain": [], **({"retire": later} if warm else {})}.items()
    ]
    with ThreadPoolExecutor() as pool:
        disabled = pool.submit(systemctl, "disable", "--quiet", "--no-reload", *app.units(release), check=False)
        begun = [pool.submit(run, *command, check=False) for command in commands]
    disabled.result()
    if any(each.result().returncode != 0 for each in begun):  # those of a run that was killed are there
        forget_drain(app, release)
        for command in commands:
            run(*command)
    for unit in app.units(release):
        (UNITS / unit).unlink()
    # At last: a release that nothing is there to end isn't warm but a stray, and the next run takes it away.
    app.write_record(release, warm_until=time.time() + max(warm, stopping))


def forget_drain(app, release):
    """End what would stop a release later on."""
    systemctl("stop", f"{app.name}-retire-{release}.timer", f"{app.name}-drain-{release}.service", check=False)


def busy(app, release):
    """How many connections of nginx's the release has."""
    import slipway_sockets

    return slipway_sockets.connections(app.socket(release))


def leaving():
    """Whether workers of an earlier configuration of nginx's are left: each may still hold a request."""
    import slipway_nginx

    return any(title.endswith("is shutting down") for title in slipway_nginx.workers().values())


def drained(app, release, until):
    """Wait until no request can be at the release any more; at most until that time (in seconds since 1970)."""
    while time.time() < until:
        if not leaving() and not busy(app, release):
            return
        time.sleep(0.1)


def drain(app, release):
    """Wait for the last requests of a release; what is still open then (WebSockets, streams) gets a clean close."""
    with locked(app, "drain", RUN_SECONDS):  # once the run that let it go has ended, which needn't wait for this
        systemctl("daemon-reload", check=False)
    drained(app, release, until=app.record(release).get("left", 0) + app.wanted["drain_timeout"])
    with locked(app, "drain", RUN_SECONDS):
        if release == app.serving() or release not in app.installed_units():
            return
        if not app.wanted["keep_warm"]:
            take_away(app, release)
        elif busy(app, release) and in_time("restart", app.unit(release, "service")) is None:
            take_away(app, release, at_once=True)  # one that doesn't end isn't kept warm


def retire(app, release):
    """End a release that was kept warm."""
    with locked(app, "retire", RUN_SECONDS):
        if release != app.serving():
            take_away(app, release)


def remove(app, release, at_once=False):
    """Stop a release, and what would stop it later on, and take its units and its socket away; its folder stays.

    + at_once: it never served, so there is no request to wait for
    """
    forget_drain(app, release)
    take_away(app, release, at_once)


def take_away(app, release, at_once=False):
    """The same from within the unit that does it later on."""
    units = app.units(release)
    systemctl("disable", "--quiet", "--no-reload", *units, check=False)
    if at_once:
        kill(app.unit(release, "service"))
    stop(*reversed(units))
    for unit in units:
        (UNITS / unit).unlink(missing_ok=True)
        (WARM_UNITS / unit).unlink(missing_ok=True)
    systemctl("reset-failed", *units, check=False)
    # As a rule systemd has forgotten them by now; not if what it has read last wants them still.
    if any(state["LoadState"] != "not-found" for state in unit_states(units, "LoadState").values()):
        systemctl("daemon-reload")
    app.socket(release).unlink(missing_ok=True)


# ── healing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def tidy(app, forward=True):
    """Leave what `current` says, what is warm, and nothing else: it heals a killed run just as it ends a good one.

    + forward: a release that nginx names and that answers was killed between switch and commit: it becomes the truth
    """
    serving = app.serving()
    states = loaded([*app.helpers, *(app.unit(release, "service") for release in app.installed_units())])
    stop_helpers(app, states)
    proxied = app.proxied()
    if forward and proxied and proxied != serving and answers(app, proxied) and not app.damage(proxied):
        nginx("switch", app.name, proxied)  # its file was written; whether it was reloaded isn't known
        settle(app, proxied)
        serving = proxied
        left = " Its after_switch hook wasn't run." if app.wanted["hooks"].get("after_switch") else ""
        progress.say(f"{app.name}: {proxied} was killed after the switch; it answers, so it stays, unwatched.{left}")
    elif serving and proxied != serving:  # the upstream was lost or changed by hand, or its release turned bad
        ensure_running(app, serving)
        nginx("switch", app.name, serving)
        if proxied:
            drained(app, proxied, until=time.time() + app.wanted["drain_timeout"])
    elif not serving and proxied and proxied != "none":  # the very first one served, and turned bad
        nginx("switch", app.name, "none")
    if serving and app.record(serving).get("state") != "good":  # killed before it was written down
        app.write_record(serving, state="good", committed=now())
    for release in app.installed_units() - {serving}:
        if release in app.warm() and states.get(app.unit(release, "service")) in ACTIVE:
            continue
        record = app.record(release)
        served = release == proxied or record.get("state") == "good"
        if "left" in record:
            drained(app, release, until=record["left"] + app.wanted["drain_timeout"])
        remove(app, release, at_once=not served)
    sweep_plans(app)
    for partial in [
        *app.root.glob(".*.partial"),
        *app.etc.glob(".*.partial"),
        *app.etc.glob("releases/.*.partial"),
        *app.records.glob(".*.partial"),
        *UNITS.glob(f".{app.name}@*.partial"),
    ]:
        remove_tree(partial)
    for partial in (CACHE / "sources").glob(f".{app.name}.*.partial"):  # named by who was writing it
        if not Path("/proc", partial.name.split(".")[-2]).exists():
            partial.unlink()
    for folder in sorted(app.releases.iterdir()) if app.releases.is_dir() else []:
        if folder.name != serving and app.record(folder.name).get("state") != "good":
            remove_tree(folder)
    prune(app, serving)


def prune(app, serving, left=None):
    """Keep the newest releases, and always the one that serves, its predecessor and those that are warm.

    + left: the one that is about to be warm
    """
    keep = {serving, left, app.record(serving).get("previous"), *app.warm(), *app.good()[-app.wanted["keep"] :]}
    for release in app.good():
        if release not in keep:
            remove_tree(app.folder(release))
    asked = [read_json(about).get("inputs") or {} for about in app.runs.glob("*/about.json")]  # some may wait for us
    commits = {app.wanted["source"]["commit"], *(inputs.get("source") for inputs in asked)}
    for archive in (CACHE / "sources").glob(f"{app.name}.*.tar.gz"):
        if archive.name.split(".")[1] not in commits:
            archive.unlink()
    for path in (app.etc / "releases").glob("*.env"):
        if not app.folder(path.stem).is_dir():
            path.unlink()
    for path in [*app.records.glob("*.manifest"), *(SEEN / app.name).glob("[!.]*")]:
        if not app.folder(path.stem).is_dir():
            path.unlink()
    for path in sorted(app.records.glob("*.json"))[:-KEEP_RECORDS]:  # of failed ones too: they can be looked at
        if not app.folder(path.stem).is_dir():
            path.unlink()
            path.with_suffix(".log").unlink(missing_ok=True)


def heal(app):
    """Put the host in order after whatever ended the last run, and write down that it was ended.

    Returns the release that took the place of a damaged one, or None.
    """
    progress.begin(f"{app.name}: looking at what is here")  # the first time after a boot, at every file
    for release in app.good():
        if not app.record(release).get("manifest") and not app.damage(release):  # an earlier Slipway made it
            app.describe(release)
    replacing = replace_damaged(app)
    if not app.request.get("stop_first") and (told := start_again(app)):
        progress.say(f"{app.name}: {told}")
    tidy(app)
    for record in app.history():
        if record.get("state") == "started":
            app.write_record(record["id"], state="killed", finished=now())
    progress.what = ""
    return replacing


def stop_helpers(app, states):
    """End what a killed run may have left running: a migration, say.

    + states: what `loaded` told of them
    """
    if left := [unit for unit in app.helpers if unit in states]:
        stop(*left)
        systemctl("reset-failed", *left, check=False)


def replace_damaged(app):
    """Let the last whole release serve in the place of one that is damaged and doesn't answer.

    Returns that release; None where there is nothing to replace, or none that can take its place: one that somebody
    went back from can't, nor one that doesn't fit the database as it is.
    """
    serving = app.serving()
    wrong = app.damage(serving) if serving else {}
    if not wrong:
        return None
    progress.say(f"{app.name}: {serving} is damaged: {slipway_manifest.listed(wrong)}")
    stop_helpers(app, loaded(app.helpers))
    for _ in range(BAD_IN_A_ROW):
        if answers(app, serving):
            return None
        time.sleep(WATCH_EVERY)
    for release in reversed(app.good()):
        bad = app.record(release).get("bad")
        if release == serving or bad or not app.env(release).exists() or app.damage(release):
            continue
        if not fits_database(app, release):
            progress.say(f"{app.name}: {release} can't take its place: the database isn't at its revision")
        elif bring_back(app, release):
            settle(app, release, damaged=True)
            progress.say(f"{app.name}: {release} serves in its place")
            return release
        else:
            remove(app, release, at_once=True)
    progress.say(f"{app.name}: no other release can take its place")
    return None


def fits_database(app, release):
    """Whether the database is just where a release's migrations end, as far as Alembic can tell."""
    try:
        seen = look(app, release)
    except (Failed, OSError):
        return False
    return not seen or not (seen["pending"] or seen["unknown"])


def answers(app, release):
    """Whether a release is there and answers that it is ready."""
    return app.socket(release).exists() and app.folder(release).is_dir() and probe(app, release)[0]


def ensure_running(app, release):
    """Both units of a release there, enabled and running."""
    units = app.record(release).get("wanted", {}).get("units", {})
    missing = {kind: text for kind, text in units.items() if not (UNITS / app.unit(release, kind)).exists()}
    write_units(app, release, missing)
    systemctl("daemon-reload")
    systemctl("reset-failed", *app.units(release), check=False)
    systemctl("enable", "--quiet", *app.units(release))
    states = unit_states([*app.units(release), "nginx.service"], "ActiveState")  # the caller lets nginx switch to it
    if down := [unit for unit, state in states.items() if state["ActiveState"] not in ACTIVE]:
        progress.say(f"{app.name}: {', '.join(down)} didn't run: starting again")
    launch(app, release)


def bring_back(app, release):
    """Let the release that `current` names serve, fully; say whether it does."""
    try:
        ensure_running(app, release)
        prove(app, release)
        nginx("switch", app.name, release)
    except (Failed, OSError) as failure:
        progress.say(f"{app.name}: {release} can't be brought back.\n{said_of(failure)}")
        return False
    return True


def undo(app, release):
    """Take a failed release away; its record and its log stay."""
    if app.serving() == release:
        return ""
    try:
        tidy(app, forward=False)
    except (Failed, OSError) as error:
        return f"\nWhat was begun can't be taken away yet ({said_of(error)}); the next run does it."
    return f"\n{told}" if (told := start_again(app)) else ""


# ── the transactions ─────────────────────────────────────────────────────────────────────────────────────────────


def transact(app, attempt, release, steps, **facts):
    """Take the steps, each recorded; a failure leaves what served before serving."""
    begun = time.monotonic()
    ahead = threading.Timer(IMPORT_AFTER, import_ahead)
    ahead.daemon = True
    ahead.start()
    with contextlib.suppress(KeyError, OSError):  # for the next run, if this one is killed
        Path(app.request["folder"], "attempt").write_text(attempt)
    app.write_record(attempt, app=app.name, state="started", started=now(), by=app.request["by"], steps={}, **facts)
    seconds, name, number = {}, "start", 0
    try:
        for number, step in enumerate(steps, start=1):
            name = step.__name__
            progress.begin(f"{app.name}: {number}/{len(steps)} {name}")
            note = step(app, release)
            seconds[name] = round(progress.elapsed(), 2)
            app.write_record(attempt, steps=seconds)
            noted = f" ({note})" if note else ""
            progress.say(f"{app.name}: {number}/{len(steps)} {name} {seconds[name]:.1f} s{noted}")
    except Exception as error:  # whatever it is, what was begun is taken back
        with contextlib.suppress(OSError):  # a full disk
            app.write_record(attempt, took=round(time.monotonic() - begun, 1))
        fail(app, attempt, release, f"failed at {name} ({number} of {len(steps)})", name, error)
    finally:
        progress.what = ""
    app.write_record(attempt, state="good", finished=now())
    return sum(seconds.values())


def fail(app, attempt, release, where, step, error):
    """Undo, write down and say what happened; always raises Failed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = app.proxied() == release and app.serving() != release
    later = failure_hook(app, release, step)
    schema_left = schema_after(app, attempt, release, step)
    undone = undo(app, release)
    with contextlib.suppress(OSError):  # a full disk: the room was made by undoing, or there is none
        state = "good" if app.serving() == attempt else "failed"  # it is the truth already: the next run ends it
        app.write_record(attempt, state=state, finished=now(), step=step, error=shown(said_of(error)))
    serving = app.serving()
    told = said_of(error)
    after = f"{serving} {'serves again' if before else 'goes on serving'}." if serving else "No release serves yet."
    if serving and app.damage(serving) and not answers(app, serving):
        after = f"{serving}, which should serve, is damaged and doesn't answer."
    after += schema_left
    kind = "release" if attempt == release else "going back to"
    more = "" if isinstance(error, Undecided) else " Correct the cause and run again."
    raise Failed(f"{kind} {release} {where}.\n{told}{advice(error)}{later}{undone}\n{after}{more}") from error


def said_of(error):
    """What a message says of an error, however long what it is about."""
    return str(error) if isinstance(error, Failed) else described(error)


def last_word(error):
    """What the program says of the error that ends it."""
    return f"slipway-release: {said_of(error)}{advice(error) if isinstance(error, OSError) else ''}"


def schema_after(app, attempt, release, step):
    """What a failed attempt left of the database's schema; a downgrade is made good."""
    if step == "migrate" and app.record(attempt).get("pending"):
        with contextlib.suppress(Failed, OSError):
            return f" The database is at {', '.join(look(app, release)['current']) or 'no revision'}."
    revisions = app.record(attempt).get("revisions", {})
    before, after = revisions.get("before"), revisions.get("after", revisions.get("before"))
    if before == after:
        return ""
    if attempt == release:
        return f" The database stays at {', '.join(after)}: migrations aren't taken back."
    done = schema(app, app.knower, "upgrade", what="migrate", seconds=app.wanted["migration"]["timeout"])
    if done.returncode == 0:
        return f" The database was downgraded, and is at {', '.join(before)} again, without what was lost by that."
    stays = f"stays at {', '.join(after) or 'base'}, and can't be brought to {', '.join(before)} again"
    return f" The database {stays}:\n{tail(done.stdout)}\n"


def advice(error):
    """What to do about an error of the system's."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or FULL_DISK.search(str(error)):
        return "\nThe disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."
    return ""


def failure_hook(app, release, step):
    """Run the hook on_failure, with the failed release's environment, or else with that of the one that serves."""
    if not app.wanted["hooks"].get("on_failure"):
        return ""
    able = [each for each in (release, app.serving()) if each and app.env(each).exists() and not app.damage(each)]
    if not able:
        return "\nThe hook on_failure wasn't run: no release has an environment yet."
    try:
        hook(app, able[0], "on_failure", SLIPWAY_STEP=step, SLIPWAY_RELEASE=release)
    except (Failed, OSError) as error:
        return f"\n{said_of(error)}"
    return ""


def deploy(app):
    """Bring the host to what is wanted."""
    if "build" in app.request:
        replace(app.etc / "build.env", json.dumps(app.request["build"]), 0o600)
    heal(app)
    serving = app.serving()
    bad = app.rolled_back()
    if bad and not app.request.get("again") and not app.request.get("fresh"):
        told = f"{bad['id']} was made from just this, and {bad['bad']['by']} went back from it at {bad['bad']['since']}"
        if wrong := app.damage(serving):
            ways = "Go back to another release (--to), or release that again (--data again=true; on the host: --again)"
            raise Failed(f"{serving} is damaged: {slipway_manifest.listed(wrong)}. And {told}. {ways}.")
        if not bring_back(app, serving):
            raise Failed(f"{serving} doesn't serve, and {told}: --data again=true releases that again.")
        remember(app, app.wanted)
        again = "New code, or --data again=true (on the host: --again), makes a release."
        progress.say(f"{app.name}: {told}; {serving} serves. {again}")
        return
    wanted = app.record(serving).get("inputs") == app.wanted["inputs"]
    if wanted and not app.request.get("fresh") and not app.damage(serving) and bring_back(app, serving):
        remember(app, app.wanted)
        progress.say(f"{app.name}: {serving} already is what is wanted; it serves")
        return
    release = new_id(app, app.wanted["source"]["commit"][:7])
    facts = {"commit": app.wanted["source"]["commit"], "inputs": app.wanted["inputs"], "wanted": app.wanted}
    app.attempt = release
    steps = STEPS
    if app.request.get("stop_first"):  # as late as can be: what fetches and builds is another user's
        steps = [each for step in STEPS for each in ([make_way, step] if step is check else [step])]
    took = transact(app, release, release, steps, kind="release", **facts)
    progress.say(f"{app.name}: {release} serves ({took:.1f} s)")
    try:
        hook(app, release, "after_switch")
    except Failed as failure:
        app.write_record(release, hook="after_switch failed")
        again = "A run doesn't call it again: see to what it should have done."
        raise Failed(f"{release} serves, and goes on serving. But: {failure}\n{again}") from failure


def new_id(app, name):
    """An id that sorts by time; none is given twice."""
    while True:
        made = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
        if not (app.records / f"{made}.json").exists():
            return made
        time.sleep(0.1)


def rollback(app):
    """Let a release that served before serve again: nothing is fetched and nothing built."""
    replacing = heal(app)
    serving = app.serving()
    if replacing and not app.request.get("to"):
        return  # the damaged one was to go back from
    target = choose(app, serving, app.request.get("to"))
    if target == serving:
        if not bring_back(app, serving):
            raise Failed(f"{serving} doesn't serve, though it is what should: go back to another one, or release anew.")
        progress.say(f"{app.name}: {serving} serves already")
        return
    made = app.record(target)["wanted"]
    app.wanted |= {key: made[key] for key in ("app", "source", "units", "sandbox", "migration", "static", "inputs")}
    app.wanted["readiness"]["path"] = made["readiness"]["path"]
    app.attempt = new_id(app, "rollback")
    steps = (consider, revive, prove, switch, commit)
    if app.request.get("stop_first"):
        steps = (make_way, *steps)
    took = transact(app, app.attempt, target, steps, kind="rollback", previous=serving, to=target)
    progress.say(f"{app.name}: {target} serves again ({took:.1f} s); {serving} was before")


def choose(app, serving, named):
    """The release to go back to; the nearest valid choice is told where there is none of that name."""
    if not serving:
        raise Failed("No release serves yet, so there is nothing to go back from.")
    there = [release for release in app.good() if app.env(release).exists() and app.record(release).get("wanted")]
    if named:
        found = [release for release in there if release.startswith(named) or without_t(release).startswith(named)]
        # A commit may have been released again, with another environment: then the newest one that isn't bad.
        of_commit = [release for release in there if app.record(release).get("commit", "").startswith(named)]
        sound = [release for release in of_commit if not app.record(release).get("bad")] or of_commit
        several = len({app.record(release)["commit"] for release in of_commit}) > 1
        found = found or (of_commit if several else sound[-1:])
        if len(found) == 1:
            return found[0]
        releases = [record["id"] for record in app.history() if record.get("kind") == "release"]
        known = [release for release in releases if release.startswith(named)]
        if len(found) > 1:
            more = f" and {len(found) - NAMED} older ones" if len(found) > NAMED else ""
            raise Failed(f"{named} is the beginning of {', '.join(found[-NAMED:])}{more}: name one of them.")
        if known and app.record(known[0]).get("state") != "good":
            why = f"{known[0]} never went live"
        elif known:
            why = f"{known[0]} isn't on this host any more (keep_releases)"
        else:
            why = f"There is no release {named}"
        import difflib

        near = difflib.get_close_matches(named, there, n=1) or there[-1:] or ["none"]
        raise Failed(f"{why}. Nearest: {near[0]}; those one can go back to: {', '.join(there)}.")
    previous = app.record(serving).get("previous")
    older = [release for release in there if release < serving and not app.record(release).get("bad")]
    for release in [*(each for each in older if each == previous), *reversed(older)]:
        if not app.damage(release):
            return release
    bad = [release for release in there if app.record(release).get("bad")]
    marked = f" Marked as bad, and skipped unless named: {', '.join(bad)}." if bad else ""
    marked += f" Damaged: {', '.join(older)}." if older else ""
    raise Failed(f"There is no good release before {serving} on this host.{marked}")


def without_t(release):
    """An id as one types it who takes its time for a number: without the T of its format (ISO 8601's)."""
    return release.replace("T", "", 1)


def target(app, named):
    """The release that a rollback would let serve, or why there is none, for roles/_operations.py, as JSON."""
    try:
        return {"release": choose(app, app.serving(), named), "error": None}
    except Failed as failure:
        return {"release": None, "error": shown(str(failure))}


def consider(app, target):
    """Look whether the database is ahead of the release one goes back to; go on only when told how."""
    missing = {} if app.env(target).exists() else {str(app.env(target)): "is missing"}
    if wrong := missing or app.damage(target):
        listed = slipway_manifest.listed(wrong)
        raise Failed(f"{target} is damaged: {listed}. Name another one, or release its commit anew.")
    seen = look(app, target)
    if not seen:
        return "its schema can't be looked at: no Alembic" if app.wanted["migration"]["command"] else "no migrations"
    app.write_record(app.attempt, revisions={"before": seen["current"], "after": seen["current"]})
    if seen["pending"] and not seen["unknown"]:
        pending = ", ".join(each["revision"] for each in seen["pending"])
        raise Failed(f"The database is behind {target}: it lacks {pending}. Release its commit anew, which migrates.")
    if not seen["unknown"]:
        return None
    told, to = app.request.get("schema"), ",".join(seen["heads"]) or "base"
    app.knower = knower(app)
    undone = [
        {"revision": each, "doc": "(no release on this host has it)", "downgrade": False} for each in seen["unknown"]
    ]
    if app.knower:
        undone = answer(schema(app, app.knower, "undone", "--to", to), "looked at")["undone"]
    stuck = ", ".join(each["revision"] for each in undone if not each["downgrade"])
    listed = "\n".join(f"  {each['revision']} {each['doc']}" for each in undone)
    ahead = f"The database is ahead of {target} by:\n{listed}\n"
    if told == "code-only":
        progress.say(f"{app.name}: {ahead}The code alone goes back, as told.")
        return "code only"
    if stuck and not app.knower:
        back = f"It can't be taken back from here: release code that has {stuck}, and go back from that."
    elif stuck:
        back = f"{stuck} can't be taken back: it has no downgrade."
    else:
        back = "To take that back first, and lose what is stored in what it added: --data schema=downgrade."
    if stuck or told != "downgrade":
        alone = f"To let the code alone go back, if {target} can live with that: --data schema=code-only."
        raise Undecided(f"{ahead}{alone}\n{back} (On the host: --schema.)")
    down = ("downgrade", "--to", to)
    patient(app, "downgrade", lambda limit: schema(app, app.knower, *down, what="migrate", seconds=limit))
    app.write_record(app.attempt, revisions={"before": seen["current"], "after": seen["heads"]})
    return f"downgraded to {to}"


def knower(app):
    """A release whose migrations know all that the database has: the one that serves, else the newest; or None."""
    for release in dict.fromkeys(filter(None, [app.serving(), *reversed(app.good())])):
        with contextlib.suppress(Failed):
            seen = look(app, release)
            if seen and not seen["unknown"]:
                return release
    return None


def revive(app, target):
    """Start the release again, where it isn't warm."""
    state = unit_state(app.unit(target, "service"), "ActiveState")["ActiveState"]
    forget_drain(app, target)
    write_units(app, target, app.wanted["units"])
    for unit in app.units(target):
        (WARM_UNITS / unit).unlink(missing_ok=True)
    if state in ACTIVE:
        return "it was warm"
    systemctl("daemon-reload")
    if state == "deactivating":  # a start would wait for its end
        stop(app.unit(target, "service"))
    systemctl("reset-failed", *app.units(target), check=False)
    start(app, target)
    return None


consider.__name__, revive.__name__ = "schema", "start"


# ── the unit that it runs in ─────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def locked(app, doing, wait):
    """One release an app at a time; the kernel frees the lock when its holder dies, however it dies.

    + wait: seconds to wait for it
    """
    app.lock.parent.mkdir(mode=0o755, exist_ok=True)
    until = time.monotonic() + wait
    # Root's alone: whoever can open a file can hold its lock.
    with os.fdopen(os.open(app.lock, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+") as lock:
        os.fchmod(lock.fileno(), 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    lock.seek(0)
                    raise Failed(busy_message(app, lock.read().strip(), wait)) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(f"{doing}, process {os.getpid()}, since {now()}")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def busy_message(app, holder, waited):
    return (
        f"Another run of {app.name} is under way ({holder}), and did not end within {waited} s. "
        f"Follow it with `{PROGRAM} attach {app.name}`, or wait, then run again."
    )


def under_way(app, shown=None):
    """Folder of the run that is under way, or None.

    + shown: what systemd knows of its unit, if it was asked already
    """
    shown = shown or unit_state(app.run_unit, "ActiveState,Description")
    if shown["ActiveState"] in ("inactive", "failed"):
        return None
    folder = app.runs / shown["Description"].rpartition(" ")[2]
    return folder if folder.is_dir() else None


def submit(app, request, wait):
    """Start a run as a unit of its own and follow it; returns its exit status."""
    app.runs.mkdir(mode=0o755, parents=True, exist_ok=True)
    at = time.time_ns()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at // 10**9)) + f"{at // 1000 % 10**6:06}"
    folder = app.runs / f"{stamp}-{os.getpid()}"
    folder.mkdir(mode=0o700)
    inputs = request.get("wanted", {}).get("inputs")
    about = {"verb": request["verb"], "inputs": inputs, "to": request.get("to"), "by": request["by"], "since": now()}
    (folder / "request.json").touch(0o600)
    (folder / "request.json").write_text(json.dumps(request))
    (folder / "about.json").write_text(json.dumps(about))
    (folder / "log").touch(0o600)
    properties = [
        f"StandardOutput=append:{folder}/log",
        f"StandardError=append:{folder}/log",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        # What it reads is bounded; if all that fails, it ends before the host's memory does.
        f"MemoryMax={RUN_MEMORY}",
        *SHUT_OFF,
    ]
    flags = [part for item in properties for part in ("--property", item)]
    described = f"--description=Slipway: {request['verb']} of {app.name}, run {folder.name}"
    start = ["systemd-run", "--quiet", "--collect", "--unit", app.run_unit, described, *flags]
    command = [*start, PROGRAM, "run", app.name, folder.name]
    until, said = time.monotonic() + wait, False
    while True:
        done = run(*command, check=False)
        if done.returncode == 0:
            unit = app.run_unit.removesuffix(".service")
            progress.say(
                f"{app.name}: on the host as {unit}, whatever becomes of you (`systemctl stop {unit}` ends it)"
            )
            return follow(app, folder)
        other = under_way(app)
        if other:
            told = read_json(other / "about.json")
            if inputs and (told.get("verb"), told.get("inputs")) == ("deploy", inputs):
                shutil.rmtree(folder)
                progress.say(f"{app.name}: {told['by']} began this very release at {told['since']}; following it")
                return follow(app, other)
            holder = f"{told.get('verb')} by {told.get('by')} since {told.get('since')}"
            if time.monotonic() > until:
                shutil.rmtree(folder)
                raise Failed(busy_message(app, holder, wait))
            if not said:
                progress.say(f"{app.name}: waiting for another run ({holder}), {wait} s at most")
                said = True
        elif "already" not in done.stdout or time.monotonic() > until:
            shutil.rmtree(folder)
            raise Failed(f"{app.run_unit} can't be started:\n{tail(done.stdout)}")
        time.sleep(0.1)


def follow(app, folder):
    """Print what a run says until it ends; returns its exit status."""
    looked = time.monotonic()
    with (folder / "log").open(errors="replace") as log:
        while True:
            # In this order: what is said before the end is read after the end is known.
            gone = False
            if time.monotonic() - looked > 1:
                looked, gone = time.monotonic(), under_way(app) != folder
            ended = read_json(folder / "result.json")
            text = log.read()
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
            if ended:
                return ended["code"]
            if gone:
                raise Failed(
                    f"The run ended without a result: it was killed, or the host ran out of memory "
                    f"(`journalctl -u {app.run_unit}`). Run again: it begins by putting the host in order."
                )
            time.sleep(0.01)


def sweep_runs(app, own):
    """Forget earlier runs, but for the newest; of those whose asker died, the question too."""
    others = sorted(folder for folder in app.runs.iterdir() if folder != own)
    left = {folder for folder in others if not Path("/proc", folder.name.rpartition("-")[2]).exists()}
    for folder in left:  # killed: what it said is kept with what became of it
        attempt = folder / "attempt"
        if attempt.exists() and not (folder / "result.json").exists():
            keep_log(app, folder, attempt.read_text())
            attempt.unlink()
    for folder in others:
        if folder in left and (folder.name.startswith("plan-") or folder in others[:-KEEP_RUNS]):  # one of before
            remove_tree(folder)
        elif folder in left:
            (folder / "request.json").unlink(missing_ok=True)


def keep_log(app, folder, attempt):
    """Keep what a run said beside the record of what it did."""
    with contextlib.suppress(OSError):  # a full disk
        shutil.copyfile(folder / "log", app.records / f"{attempt}.log")
        (app.records / f"{attempt}.log").chmod(0o600)


def import_ahead():
    """Import what the steps are going to need, while they wait for their commands."""
    import importlib

    for module in ("slipway_nginx", "slipway_sockets", "concurrent.futures.thread", "http.client", "ssl"):
        with contextlib.suppress(ImportError):  # who needs it says so
            importlib.import_module(module)


def work(app, token):
    """What the unit runs: one request, under the lock; how it ended is left for those who follow."""
    folder, code = app.runs / token, 1
    app.request = read_json(folder / "request.json") | {"folder": str(folder)}
    (folder / "request.json").unlink()
    app.wanted = app.request.pop("wanted", None) or read_json(app.etc / "release.json")
    hide(app.secrets())

    def ended(*_):
        slipway_step.end_all()  # a step's threads wait for these
        raise Interrupted(f"{app.run_unit} was told to stop.")

    signal.signal(signal.SIGTERM, ended)
    threading.Thread(target=progress.beat, daemon=True).start()
    verb = app.request["verb"]
    try:
        if not app.wanted:
            raise Failed(f"{app.etc}/release.json is missing: nothing was ever released here; run deploy.py.")
        # Other runs were waited for by `submit`: this is for the end of a drain.
        patience = max(app.wanted["graceful_timeout"] + DRAIN_END_SECONDS, app.request["wait"])
        with locked(app, f"{verb} by {app.request['by']}", patience):
            sweep_runs(app, folder)
            {"deploy": deploy, "rollback": rollback}[verb](app)
        code = 0
    except (Failed, OSError) as failure:
        progress.say(last_word(failure))
    finally:
        if app.attempt:
            keep_log(app, folder, app.attempt)
        replace(folder / "result.json", json.dumps({"code": code}), 0o600)
    return code


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def status(app):
    """What serves and how it was made, for roles/release.py, the tests and a person, as JSON."""
    serving = app.serving()
    record = app.record(serving)
    states = unit_states([app.run_unit, *(app.units(serving) if serving else [])], "ActiveState,Description")
    told = under_way(app, states[app.run_unit])
    return {
        "release": serving,
        "commit": record.get("commit"),
        "inputs": record.get("inputs", {}),
        "faults": app.healthy(serving, states) if serving else ["no release serves yet"],
        "steps": record.get("steps", {}),
        "wanted": read_json(app.etc / "release.json"),
        "warm": sorted(app.warm()),
        "rolled_back": [
            {"id": each["id"], "inputs": each.get("inputs"), **each["bad"]} for each in app.history() if each.get("bad")
        ],
        "run": read_json(told / "about.json") if told else None,
    }


def seconds_since(stamp):
    """Seconds since a time as `now` writes it."""
    import datetime

    at = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    return (datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()


def age(stamp):
    """How long ago that was, in words as short as can be."""
    seconds = seconds_since(stamp)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def history(app):
    """The attempts as rows, newest first; sizes in MB, of what a release doesn't share with an older one."""
    serving, warm, there = app.serving(), app.warm(), app.good()
    told = run("du", "-sm", *(str(app.folder(release)) for release in there), check=False).stdout if there else ""
    sizes = {
        Path(path).name: int(size) for size, _, path in (line.partition("\t") for line in told.splitlines()) if path
    }
    rows = []
    for record in reversed(app.history()):
        release = record["id"]
        state = record.get("state", "?")
        if record.get("bad"):
            state = "bad"
        if state == "failed":
            state = f"failed at {record.get('step', '?')}"
        if record.get("kind") == "release" and state in ("good", "bad") and release not in there:
            state = f"{state}, removed"
        if release in there and app.damage(release):
            state += ", damaged"
        if record.get("hook"):
            state += f", {record['hook']}"
        revisions = record.get("revisions", {})
        before = ",".join(revisions.get("before") or ["none"])
        after = ",".join(revisions["after"] or ["none"]) if "after" in revisions else before
        now_is = "serves" if release == serving else "warm" if release in warm else ""
        rows.append(
            {
                "id": release,
                "what": f"back to {record['to']}" if record.get("kind") == "rollback" else record.get("subject", ""),
                "commit": (record.get("commit") or "")[:12],
                "by": record.get("by", ""),
                "when": record.get("started", ""),
                "seconds": record.get("took", round(sum(record.get("steps", {}).values()), 1)),
                "steps": record.get("steps", {}),
                "outcome": state,
                "now": now_is,
                "schema": "" if not revisions else after if before == after else f"{before} -> {after}",
                "size_mb": sizes.get(release),
                "log": str(said) if (said := app.records / f"{release}.log").exists() else None,
            }
        )
    return rows


def table(app):
    """The history for a person."""
    head = ("RELEASE", "NOW", "OUTCOME", "AGE", "TOOK", "BY", "SCHEMA", "SIZE", "WHAT")
    lines = [head]
    for row in history(app):
        size = f"{row['size_mb']} MB" if row["size_mb"] is not None else ""
        when = age(row["when"]) if row["when"] else ""
        what = row["what"][:50]
        took = f"{row['seconds']:.1f} s"
        cells = (row["id"], row["now"], row["outcome"], when, took, row["by"], row["schema"], size, what)
        lines.append(tuple(map(one_line, cells)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(lines) == 1:
        print("no release yet")


def log(app, release):
    """What an attempt said: the newest one, or the one named."""
    logs = sorted(app.records.glob("*.log"))
    found = [path for path in logs if path.stem.startswith(release or "")]
    if not found:
        raise Failed(f"There is no log of {release or app.name}; there are: {', '.join(path.stem for path in logs)}.")
    print(found[-1].read_text(errors="replace"), end="")


def asker():
    """Who asks, as the history names them."""
    return f"{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'root'}@{os.uname().nodename}"


def plain_name(text):
    """An argument that becomes part of paths and of units' names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits and hyphens")
    return text


def arguments():
    parser = argparse.ArgumentParser(
        prog="slipway-release",
        description=__doc__.split("\n\n")[0],
        epilog="To stop a run that is under way: systemctl stop APP-release. It takes back what it did.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, text, shown=True):
        made = commands.add_parser(name, **({"help": text} if shown else {}), description=text)
        made.add_argument("app", metavar="APP", type=plain_name, help="name of the app")
        return made

    deploying = command("deploy", "release what /etc/APP/release.json wants, if it doesn't serve already")
    deploying.add_argument("--contract", action="store_true", help="consent to migrations the old release may not bear")
    deploying.add_argument("--again", action="store_true", help="release again what was rolled back from")
    deploying.add_argument("--fresh", action="store_true", help="build all anew, from empty caches, whatever serves")
    going = command("rollback", "let the release from before serve again")
    going.add_argument(
        "--to", metavar="RELEASE", type=plain_name, help="this release (an id, the beginning of one, or a commit)"
    )
    going.add_argument("--schema", choices=("code-only", "downgrade"), help="if the database is ahead of it")
    for each in (deploying, going):
        each.add_argument(
            "--stop-first",
            action="store_true",
            help="end all processes of the app first, so that none can kill the new one's: requests are lost meanwhile",
        )
        each.add_argument("--request", action="store_true", help=argparse.SUPPRESS)  # JSON on standard input
        each.add_argument("--wait", type=int, default=60, metavar="SECONDS", help="for another run to end (60)")
        each.add_argument("--by", default=asker(), metavar="WHO", help=f"for the history ({asker()})")
    command("attach", "follow the run that is under way, or see how the last one ended")
    command("status", "what serves, as JSON")
    command("history", "every attempt: what serves, what is warm, sizes, ages").add_argument(
        "--json", action="store_true", help="with the durations of the steps"
    )
    command("log", "what an attempt said").add_argument("release", nargs="?", metavar="RELEASE", type=plain_name)
    planning = command("plan", "what a request (JSON on standard input) would change", shown=False)
    planning.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in its unit
    command("target", "what a rollback would let serve", shown=False).add_argument("--to", type=plain_name)
    command("run", "run a request (in its unit)", shown=False).add_argument("token", type=plain_name)
    for name in ("drain", "retire"):
        command(name, f"{name} a release that no longer serves", shown=False).add_argument("release", type=plain_name)
    return parser.parse_args()


def attach(app):
    """Follow the run that is under way; without one, the last that can be found."""
    runs = sorted(about.parent for about in app.runs.glob("*/about.json"))
    if not runs:
        raise Failed(f"There was no run of {app.name} since the host booted; `{PROGRAM} history {app.name}` shows all.")
    current = under_way(app)
    if not current:
        began = read_json(runs[-1] / "about.json").get("since")
        progress.say(f"{app.name}: no run is under way; this is what the last one, begun at {began}, said")
    return follow(app, current or runs[-1])


def carry_out(app, given):
    """One command of the command line; returns the exit status."""
    if given.command in ("deploy", "rollback"):
        told = json.load(sys.stdin) if given.request else {}
        told |= {"by": one_line(told.get("by", given.by))}
        options = ("contract", "again", "fresh", "to", "schema", "stop_first")
        named = {key: getattr(given, key) for key in options if hasattr(given, key)}
        request = {"verb": given.command, "wait": given.wait, **named, **told}
        if archive := request.pop("archive", None):
            store(app, request["wanted"]["source"]["commit"], archive)
        return submit(app, request, request["wait"])
    if given.command == "attach":
        return attach(app)
    if given.command == "run":
        return work(app, given.token)
    if given.command == "status":
        tell(status(app))
    elif given.command == "target":
        tell(target(app, given.to))
    elif given.command == "plan":
        if not given.here:
            return in_a_unit_of_its_own(app)
        request = json.load(sys.stdin)
        if archive := request.pop("archive", None):
            store(app, request["wanted"]["source"]["commit"], archive)
        tell(plan(app, request))
    elif given.command == "history":
        tell(history(app)) if given.json else table(app)
    elif given.command == "log":
        log(app, given.release or "")
    else:
        app.wanted = read_json(app.etc / "release.json")
        {"drain": drain, "retire": retire}[given.command](app, given.release)
    return 0


def store(app, commit, archive):
    """Keep a source that came with a request, where the fetch finds it."""
    import base64

    path = CACHE / "sources" / f"{app.name}.{commit}.tar.gz"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.touch(0o600)
    with partial.open("wb") as file:
        file.write(base64.b64decode(archive))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def main():
    """Exit status: 0 done, 1 failed (the old release serves), 2 wrong usage."""
    given = arguments()
    os.environ["LC_ALL"] = "C.UTF-8"
    os.umask(0o022)
    app = App(given.app)
    if os.geteuid() != 0:
        sys.exit(f"slipway-release: only root may do that: sudo {' '.join([PROGRAM, *sys.argv[1:]])}")
    if not app.etc.is_dir():
        there = ", ".join(sorted(path.parent.name for path in Path("/etc").glob("*/release.json"))) or "none"
        sys.exit(f"slipway-release: there is no app {given.app} on this host; there are: {there}")
    try:
        if given.command not in ("status", "target"):  # asked on every run, and they run nothing of the app's
            hide(app.secrets())
        sys.exit(carry_out(app, given))
    except (Failed, OSError) as failure:
        sys.exit(last_word(failure))
    except KeyboardInterrupt:
        attach_again = f"`{PROGRAM} attach {app.name}` follows it again"
        sys.exit(f"\nslipway-release: a run that was begun goes on without you; {attach_again}.")


if __name__ == "__main__":
    main()
