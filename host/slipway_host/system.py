"""Access to the machine: commands, files, the clock and locks. Tests replace it."""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import fnmatch
import itertools
import json
import os
import re
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

COMMAND_SECONDS = 3600  # for a command of our own; none takes more than minutes
LONGEST_LINE = 65_536  # bytes that are read at once
KEPT_BYTES = 2_000_000  # of what a command writes
LOOK_EVERY = 0.05  # seconds between two tries to take a lock
TAIL_LINES, TAIL_LINE = 30, 2000  # of a command's output in a message, and characters of each
FOLDER_MODE = 0o755


class Failed(Exception):
    """Something can't be done; the message says why and what to do."""


class Late(Failed):
    """A command didn't end in its time, and was killed."""

    def __init__(self, message: str, output: str = "") -> None:
        """`output`: what it wrote, without secrets."""
        super().__init__(message)
        self.output = output


class Busy(Failed):
    """Somebody else holds a lock; `holder` says who, if the lock's file does."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class Undecided(Failed):
    """Nothing is wrong, but the operator has to say how to go on; the message says what to type."""


class Interrupted(Exception):
    """The run was told to stop: it undoes what it did and ends. No Failed, so that nothing handles it and goes on."""


class Done:
    """How a command ended."""

    def __init__(self, argv: tuple[str, ...], code: int, output: str) -> None:
        """`code`: exit status; `output`: of both streams, without secrets unless it was asked for raw."""
        self.argv, self.code, self.output = argv, code, output


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a command's output, short enough for a message."""
    return "\n".join(short(line, TAIL_LINE) for line in text.strip().splitlines()[-lines:])


class System:
    """This machine."""

    def __init__(self, layout: Layout | None = None, hidden: Hidden | None = None) -> None:
        """`layout`: its paths; `hidden`: secrets that it never shows."""
        self.layout = layout or Layout()
        self.hidden = hidden or Hidden()
        self._read: dict[Path, Any] | None = None
        """What `looking` has read: names in a folder, or a file's JSON."""

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
        """Run a command. Its output (both streams) is returned without secrets.

        Without `most` only the last KEPT_BYTES of output are kept: an app may print without end.

        + check: raise Failed unless it exits with 0; the end of its output is the message
        + seconds: after which it is killed, and Late is raised
        + heard: for a command that takes long: called with its last line now and then, as a sign of life; such a
          command is killed when the run is told to stop
        + secrets: texts to hide in the output, besides those of `hidden`
        + most: bytes of output; a command that writes more is killed, and Failed is raised
        + raw: return the output with secrets; pass it through `hidden.shown` before you show it
        + said: its standard input
        + options: more options of subprocess.Popen
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
        """Write a file atomically: after a power cut there is the old or the new one.

        Once this returns, the new one is on the disk. Root owns it. A leftover ``.<name>.partial`` is overwritten.
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

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """For a question about all apps: `names` and `json` read each folder and file once, as it was then."""
        self._read = {}
        try:
            yield
        finally:
            self._read = None

    def _once(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """What `read` makes of a path, remembered while `looking`."""
        if self._read is None:
            return read(path)
        if path not in self._read:
            self._read[path] = read(path)
        return self._read[path]

    def json(self, path: Path) -> Any:
        """A file's JSON object; empty if there is no such file, or none that can be read."""
        return dict(self._once(path, _object))

    def names(self, folder: Path) -> list[str]:
        """Names of what is in a folder, sorted; none if there is no such folder."""
        return list(self._names(folder))

    def like(self, folder: Path, pattern: str) -> list[Path]:
        """What in a folder has a name like this, sorted; the folder of units has some of each of a hundred apps."""
        start = re.split(r"[*?[]", pattern, maxsplit=1)[0]
        names = self._names(folder)
        after = itertools.islice(names, bisect.bisect_left(names, start), None)
        near = itertools.takewhile(lambda name: name.startswith(start), after)
        return [folder / name for name in fnmatch.filter(near, pattern)]

    def _names(self, folder: Path) -> list[str]:
        names: list[str] = self._once(folder, _names)
        return names

    def chown(self, path: Path, user: str, group: str) -> None:
        """Give a file to a user and a group."""
        shutil.chown(path, user, group)

    def sync(self, descriptor: int) -> None:
        """Write what is open to the disk."""
        os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Make renames and removals in a folder survive a power cut."""
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
        """Seconds of a clock that can't be set: for durations and deadlines."""
        return time.monotonic()

    def uptime(self) -> float:
        """Seconds since the boot, including time asleep."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """The id of this boot (random(4))."""
        return (self.layout.proc / "sys/kernel/random/boot_id").read_text().strip()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def stamp(self) -> str:
        """The time as records have it: UTC, to the second, as ISO 8601 has it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time()))

    # ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def locked(self, path: Path, seconds: float, doing: str = "", patient: bool = True) -> Iterator[None]:
        """Hold a lock. The kernel frees it when the process ends, even if it is killed.

        + seconds: to wait for it; then Busy is raised
        + doing: what the holder does, for the message to others
        + patient: if False, go on without the lock after that time. Nobody can end the holder on a host that locks
          everybody out
        """
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        until = self.clock() + seconds
        # For root alone: a user who can open the file could hold the lock.
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
    """A descriptor to read a text from: a file's, not a pipe's, so the text may have any length."""
    with _nameless() as file:
        file.write(text)
        file.seek(0)
        yield file.fileno()


def _nameless() -> IO[bytes]:
    """A file that no other process can open: in memory, or on the disk where the machine has no such files."""
    with contextlib.suppress(AttributeError, OSError):  # no such call, or it is refused
        return os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
