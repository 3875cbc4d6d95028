"""What programs of Slipway ask of the machine: commands, files, the clock and locks. Tests put another in its place."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from slipway_host import commands
from slipway_host.layout import Layout
from slipway_host.text import Hidden, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any

COMMAND_SECONDS = 3600  # for a command of ours, of which none takes minutes
LONGEST_LINE = 65_536  # bytes that are read at once
KEPT_BYTES = 2_000_000  # of what a command writes
LOOK_EVERY = 0.05  # seconds, at a lock that somebody has
TAIL_LINES, TAIL_LINE = 30, 2000  # of a command's output in a message, and characters of each
FOLDER_MODE = 0o755


class Failed(Exception):
    """Something can't be done; the message says why and what to do."""


class Late(Failed):
    """A command didn't end in its time, and was killed."""

    def __init__(self, message: str, output: str = "") -> None:
        """`output` is what it wrote, as it may be shown."""
        super().__init__(message)
        self.output = output


class Busy(Failed):
    """Somebody else has a lock; `holder` says who, as far as the lock's file does."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class Undecided(Failed):
    """Nothing is wrong, but the operator has to say how to go on; the message says what to type."""


class Interrupted(Exception):
    """The run itself was told to stop: it takes back what it did, and goes on with nothing; so this is no Failed."""


class Done:
    """How a command ended."""

    def __init__(self, argv: tuple[str, ...], code: int, output: str) -> None:
        """`code`: its exit status; `output`: what it wrote, on both streams, as it may be shown unless asked raw."""
        self.argv, self.code, self.output = argv, code, output


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of what a command wrote, as a message has room for them."""
    return "\n".join(short(line, TAIL_LINE) for line in text.strip().splitlines()[-lines:])


class System:
    """This machine."""

    def __init__(self, layout: Layout | None = None, hidden: Hidden | None = None) -> None:
        """`layout`: its paths; `hidden`: what it shows nowhere."""
        self.layout = layout or Layout()
        self.hidden = hidden or Hidden()

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        *argv: str,
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
        heard: Callable[[str], object] | None = None,
        secrets: Iterable[str] = (),
        most: int | None = None,
        raw: bool = False,
        said: str | bytes = "",
        **options: Any,
    ) -> Done:
        """Run a command; its output (both streams) is returned as it may be shown.

        Without `most`, what it wrote first is forgotten once it is more than KEPT_BYTES: an app may print without end.

        + check: fail unless it ends with 0, with its output's end as the message
        + seconds: after which it is killed, and has failed (Late), whoever holds its output
        + heard: it takes long: called with its last line now and then, as a sign of life; a run that is told to stop
          ends it
        + secrets: texts that are not shown, whatever it writes, besides those of `hidden`
        + most: bytes that it may write; one that writes more is killed, and has failed
        + raw: return it as it is; who does that may show it as `hidden.shown` makes it
        + said: what it reads on its standard input
        + options: more of subprocess.Popen's
        """
        secrets = tuple(secrets)
        with contextlib.ExitStack() as stack:
            if said:
                options["stdin"] = stack.enter_context(_readable(said.encode() if isinstance(said, str) else said))
            process = commands.start(argv, **{"stdin": subprocess.DEVNULL, **options})
        kept = commands.Kept(most or KEPT_BYTES, LONGEST_LINE)

        def take(piece: bytes) -> None:
            line = kept.take(piece)
            if most and kept.written > most:
                raise Failed(f"`{argv[0]}` was ended: it wrote more than {most} bytes.")
            if heard and line and (text := self.hidden.shown(line.decode(errors="replace").strip(), secrets)):
                heard(text)

        try:
            if heard:
                commands.live.add(process)
            late = commands.follow(process, seconds, take)
        finally:
            commands.live.discard(process)
            commands.forget(process)
        output = kept.text()
        shown = output if raw else self.hidden.shown(output, secrets)
        if late:
            told = self.hidden.shown(output, secrets) if raw else shown
            raise Late(f"`{argv[0]}` was ended after {seconds:g} s. {tail(told)}", told)
        if check and process.returncode != 0:
            raise Failed(f"`{argv[0]}` ended with {process.returncode}:\n{tail(shown)}")
        return Done(argv, process.returncode, shown)

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────

    def replace(self, path: Path, content: str | bytes, mode: int = 0o644, group: str = "root") -> None:
        """Write a file so that it is either the old or the new one, whenever the power fails; once told, the new one.

        It is root's. A leftover of a killed run, named ``.<name>.partial``, is written over.
        """
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            partial.touch(0o600)
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                self.sync(file.fileno())
            self.chown(partial, "root", group)
            partial.chmod(mode)
            partial.rename(path)
            self.sync_folder(path.parent)
        except OSError:  # a full disk
            partial.unlink(missing_ok=True)
            raise

    def link(self, path: Path, target: str) -> None:
        """Point a symbolic link at another target in one step."""
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        partial.rename(path)

    def json(self, path: Path) -> Any:
        """A file's JSON object; empty if there is no such file, or none that can be read."""
        try:
            found = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def chown(self, path: Path, user: str, group: str) -> None:
        """Give a file to a user and a group."""
        shutil.chown(path, user, group)

    def sync(self, descriptor: int) -> None:
        """Write what is open to the disk."""
        os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Let what was renamed or removed in a folder outlive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────

    def groups(self, process: int) -> dict[str, str]:
        """Hierarchy ("" is that of cgroups v2) → control group of a process (cgroups(7)); empty where it has ended."""
        try:
            lines = (self.layout.proc / str(process) / "cgroup").read_text(errors="replace").splitlines()
        except OSError:
            return {}
        return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}

    # ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def clock(self) -> float:
        """Seconds of a clock that nobody sets: for durations and deadlines."""
        return time.monotonic()

    def uptime(self) -> float:
        """Seconds since the boot, those in which the machine slept included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def stamp(self) -> str:
        """The time as records have it: UTC, to the second, as ISO 8601 has it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time()))

    # ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def locked(self, path: Path, seconds: float, doing: str = "", patient: bool = True) -> Iterator[None]:
        """Hold a lock; the kernel frees it when its holder dies, however it dies.

        + seconds: to wait for it, then Busy
        + doing: for those who meet it held
        + patient: if not, go on without it after that time: who is locked out of a host can't end its holder
        """
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        until = self.clock() + seconds
        # Root's alone: whoever can open a file can hold its lock.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+") as lock:
            os.fchmod(lock.fileno(), 0o600)
            held = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held = True
                    break
                except BlockingIOError:
                    if self.clock() > until:
                        if not patient:
                            break
                        lock.seek(0)
                        taken = f"{path} is taken (`fuser -v {path}` names who has it)."
                        raise Busy(taken, lock.read().strip()) from None
                    self.sleep(LOOK_EVERY)
            if held:
                lock.truncate(0)
                lock.write(f"{doing}, process {os.getpid()}, since {self.stamp()}" if doing else "")
                lock.flush()
            try:
                yield
            finally:
                if held:
                    lock.truncate(0)


@contextlib.contextmanager
def _readable(text: bytes) -> Iterator[int]:
    """A descriptor from which a text is read: a file's, not a pipe's, so that it may have any length."""
    with _nameless() as file:
        file.write(text)
        file.seek(0)
        yield file.fileno()


def _nameless() -> IO[bytes]:
    """A file that nobody else can open: in memory, or on the disk where the machine has no such files."""
    with contextlib.suppress(AttributeError, OSError):  # no such call, or it is refused
        return os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "w+b")
    import tempfile

    return tempfile.TemporaryFile()
