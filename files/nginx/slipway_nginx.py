"""Change nginx's configuration on this host without ever leaving it broken.

Every change is validated before it is put in place, switched by one rename(2), reloaded, and then proven: the
running nginx itself is asked which configuration and which releases it serves, since a reload may return 0 while
the old configuration goes on serving (a listen port that is taken, for one). What could not be proven is taken
back. Managed by Slipway (roles/nginx.py); needs Python 3.10 or newer and nothing else.

/etc/nginx/nginx.conf   -> slipway/nginx.conf
/etc/nginx/slipway      -> slipway.d/<generation>    one folder a configuration, named by its content
/etc/nginx/upstreams/<app>.conf                      which release of an app serves
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path

ETC = Path("/etc/nginx")
LIVE = ETC / "slipway"  # link to the generation that serves
GENERATIONS = ETC / "slipway.d"
UPSTREAMS = ETC / "upstreams"
MAIN = ETC / "nginx.conf"
SRV = Path("/srv")
LOCK = Path("/run/slipway/nginx.lock")
INTERNAL = "slipway.internal"  # server name, answered to ITSELF alone (templates/nginx/internal.conf.j2)
ITSELF = ("127.83.76.87", 0)  # where we come from: no proxy on this host does
ANSWER_SECONDS = 2
MOST_BYTES = 65536  # of an answer: somebody else may have the port
LOCK_SECONDS = 120  # a change takes PROOF_SECONDS at most, and what `nginx -t` takes
MASTER = Path("/run/nginx.pid")  # as Debian's unit has it (PIDFile)
TITLE_BYTES = 256  # "nginx: worker process is shutting down", with the zeros behind it
PROOF_SECONDS = 15  # a reload of a large configuration takes well under a second


class Refused(Exception):
    """The change was not made; the message says why and what serves now."""


def run(*argv, check=True):
    """Run a command; its output is returned, and is the message when it fails and `check` is set."""
    import subprocess  # here, since `status`, which is asked on every run, needs it as little as it needs hashlib

    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if check and done.returncode != 0:
        raise Refused(f"`{' '.join(argv)}` ended with {done.returncode}:\n{done.stdout.strip()}")
    return done


@contextlib.contextmanager
def locked():
    """Only one change at a time; the kernel frees the lock when its holder dies, however it dies."""
    LOCK.parent.mkdir(mode=0o755, exist_ok=True)
    until = time.monotonic() + LOCK_SECONDS
    # Root's alone: whoever can open a file can hold its lock.
    with os.fdopen(os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)) as lock:
        os.fchmod(lock.fileno(), 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(
                        f"Another change of nginx did not end within {LOCK_SECONDS} s (`fuser -v {LOCK}` names it); "
                        "nothing was changed. Run again."
                    ) from None
                time.sleep(0.05)
        yield


def replace(path, content):
    """Write a file so that it is either the old or the new one, whenever the power fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.rename(path)
    except OSError:  # a full disk
        partial.unlink(missing_ok=True)
        raise


def link(path, target):
    """Point a symbolic link at another target in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(path)


def upstream(app, release):
    """The upstream of `app`, and a variable that lets the running nginx tell which release it serves."""
    variable = "release_" + app.replace("-", "_")
    server = f"server unix:/run/{app}/{release}.sock;" if release else f"server unix:/run/{app}/none.sock down;"
    return (
        "# Managed by Slipway (slipway-nginx switch): the release that serves.\n"
        f"upstream {app} {{\n"
        f"    {server}\n"
        "    keepalive 32;\n"
        # Shorter than Gunicorn's keep-alive: nginx must be the one who closes an idle connection, or a request
        # could be sent into a connection that the app is closing.
        "    keepalive_timeout 60s;\n"
        "    keepalive_requests 10000;\n"
        "}\n"
        f'map "" ${variable} {{\n'
        f'    default "{release or "none"}";\n'
        "}\n"
    )


def named_release(app):
    """The release that an app's upstream file names, or else the one that `current` does; None before the first."""
    path, current = UPSTREAMS / f"{app}.conf", SRV / app / "current"
    text = path.read_text(errors="replace") if path.exists() else ""
    found = re.search(rf"unix:/run/{re.escape(app)}/(\S+)\.sock;", text)
    if found:
        return found[1]
    return current.readlink().name if current.is_symlink() else None


def wanted_upstreams(files):
    """Path → content of each site's upstream file, whatever became of it since it was written."""
    apps = [Path(path).stem for path in files if path.startswith("sites/")]
    return {UPSTREAMS / f"{app}.conf": upstream(app, named_release(app)) for app in apps}


def ask(path):
    """What the running nginx answers on its internal server, or None if it doesn't answer."""
    # By hand: importing http.client takes longer than all the rest of `status`.
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", 80), ANSWER_SECONDS, ITSELF) as connection:
            until = time.monotonic() + ANSWER_SECONDS  # for all of it: somebody else may have the port, and trickle
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {INTERNAL}\r\n\r\n".encode())
            while (part := connection.recv(4096)) and len(answer) < MOST_BYTES:
                answer += part
                connection.settimeout(max(0.001, until - time.monotonic()))
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace").strip() if re.match(rb"HTTP/1\.[01] 200 ", head) else None


def validate(mounts):
    """Let nginx read the configuration as it would be with each `mounts` source in its place.

    The candidate is mounted over the live path in a mount namespace of its own, so that nothing anybody else
    sees has changed before nginx has accepted it.
    """
    # A log that isn't there yet is made by that, too, and tells who visits a site.
    script = 'set -e; umask 027; while [ $# -gt 1 ]; do mount --bind "$1" "$2"; shift 2; done; exec nginx -t -q'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    done = run(*argv, *(str(part) for pair in mounts for part in pair), check=False)
    if done.returncode != 0:
        raise Refused(f"nginx refuses the configuration; nothing was changed.\n{explain(done.stdout)}")


def explain(output):
    """nginx's own words, and whose file is wrong when it isn't Slipway's."""
    named = re.search(r" in (/\S+):(\d+)", output)
    text = output.strip()
    if named and not named[1].startswith((str(LIVE), str(GENERATIONS), str(UPSTREAMS))):
        text += f"\n{named[1]} isn't Slipway's: correct line {named[2]} there (`nginx -t` checks it) and run again."
    return text


def workers():
    """Process id → title of nginx's workers. Any process can take their title, but only nginx's are its children."""
    found = {}
    try:
        master = MASTER.read_text().strip().encode()
    except FileNotFoundError:
        return found
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we look
            # First whose it is: a stranger's title may be longer than the memory there is.
            if parent_of(process) == master and (title := title_of(process)).startswith("nginx: worker process"):
                found[int(process.name)] = title
    return found


def parent_of(process):
    """Process id of a process's parent, as it is written there."""
    # proc(5): the parent is the second field after the name, which may have any letters.
    return (process / "stat").read_bytes().rpartition(b")")[2].split()[1]


def title_of(process):
    """What a process calls itself, as far as a title of nginx's goes."""
    with (process / "cmdline").open("rb") as file:
        return file.read(TITLE_BYTES).rstrip(b"\0 ").decode(errors="replace")


def accepting():
    """Process ids of nginx's workers that still accept connections."""
    return {number for number, title in workers().items() if title == "nginx: worker process"}


def reload_and_prove(expected, unmask=False, alone=True):
    """Reload nginx and wait until it answers every path of `expected` with its value, from new workers.

    + unmask: start it, too, where somebody kept it from starting; a renewal of certificates mustn't
    + alone: wait until the old workers accept no connections any more, which nginx lets them do for a tenth of a second
      beside the new ones
    """
    if run("systemctl", "is-active", "--quiet", "nginx", check=False).returncode != 0:
        run("systemctl", "reset-failed", "nginx", check=False)
        if unmask:
            run("systemctl", "unmask", "--quiet", "nginx", check=False)
        before = set()
        if run("systemctl", "start", "nginx", check=False).returncode != 0:
            raise Refused(
                "nginx doesn't start:\n"
                + run("journalctl", "-u", "nginx", "-n", "8", "-o", "cat", "--no-pager", check=False).stdout
            )
    else:
        before = accepting()
        # What `systemctl reload` comes to, but that reads the whole configuration once more to find the process.
        run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "nginx")
    deadline = time.monotonic() + PROOF_SECONDS
    while True:
        answers = {path: ask(path) for path in expected}
        now = accepting()
        if answers == expected and now - before and not (alone and now & before):
            return
        if time.monotonic() > deadline:
            wrong = ", ".join(
                f"{path} is {answers[path]}, not {value}" for path, value in expected.items() if answers[path] != value
            )
            log = run("tail", "-n", "5", "/var/log/nginx/error.log", check=False).stdout.strip()
            raise Refused(
                f"nginx was reloaded, but the new configuration isn't live ({wrong or 'old workers go on'}).\n{log}"
            )
        time.sleep(0.005)


def generation():
    """Name of the generation that the files on disk point at, or None before the first one."""
    return LIVE.readlink().name if LIVE.is_symlink() else None


def managed():
    """Whether nginx's main file is ours: it isn't before the first configuration of ours was live."""
    return MAIN.is_symlink() and MAIN.readlink() == Path("slipway/nginx.conf")


def expectation():
    """What the running nginx must answer if it serves what is on disk."""
    expected = {"/generation": generation()}
    for path in sorted((LIVE / "sites").glob("*.conf")):
        found = re.search(r'default "([^"]+)";', (UPSTREAMS / path.name).read_text())
        expected[f"/release/{path.stem}"] = found[1] if found else None
    return expected


def files_of(folder):
    """Relative path → content of a generation's files."""
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def named(files, name):
    """The files of a generation, told its name so that the running nginx can tell it."""
    return {path: text.replace("@GENERATION@", name) for path, text in files.items()}


def status():
    """What is on disk, and whether the running nginx serves just that."""
    on_disk = generation()
    files = files_of(LIVE) if on_disk and LIVE.is_dir() else {}
    try:
        right = all(path.read_text(errors="replace") == text for path, text in wanted_upstreams(files).items())
        live = managed() and right and all(ask(path) == value for path, value in expectation().items())
    except FileNotFoundError:
        live = False
    return {"generation": on_disk, "managed": managed(), "live": live, "files": files}


def apply(files):
    """Make `files` (relative path → content, without the generation's name) the configuration that serves."""
    import hashlib

    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    name, content = digest, named(files, digest)
    number = 2
    while (GENERATIONS / name).is_dir() and files_of(GENERATIONS / name) != content:  # edited by hand since
        name = f"{digest}.{number}"
        content, number = named(files, name), number + 1
    for leftover in [*GENERATIONS.glob(".*.partial"), *UPSTREAMS.glob(".*.partial"), *ETC.glob(".*.partial")]:
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
    UPSTREAMS.mkdir(mode=0o755, exist_ok=True)
    GENERATIONS.mkdir(mode=0o755, exist_ok=True)

    candidate = GENERATIONS / name
    if not candidate.is_dir():
        partial = GENERATIONS / f".{name}.partial"
        for path, text in content.items():
            file = partial / path
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o644)
        os.sync()
        partial.rename(candidate)
    repaired = []
    for path, text in wanted_upstreams(files).items():
        if not path.exists():
            replace(path, text)  # read by nobody yet
        elif path.read_text(errors="replace") != text:  # half a file after a full disk, or a hand's edit
            repaired.append((path.with_name(f".{path.name}.repair.partial"), path))
            replace(repaired[-1][0], text)

    before, first = generation(), not managed()
    if before is None or not LIVE.is_dir():
        link(LIVE, f"slipway.d/{name}")  # read by nobody yet
        before = None
    live = LIVE.resolve()
    try:
        main = [(candidate / "nginx.conf", MAIN.resolve())] if first else []
        validate([(candidate, live), *main, *repaired])
    except Refused:
        if before is None:
            LIVE.unlink()
        raise
    for right, path in repaired:
        right.rename(path)
    if first:
        shutil.copy2(MAIN, ETC / "nginx.conf.before-slipway")
        link(LIVE, f"slipway.d/{name}")
        link(MAIN, "slipway/nginx.conf")
    else:
        link(LIVE, f"slipway.d/{name}")
    try:
        reload_and_prove(expectation(), unmask=True)
    except Refused as refusal:
        if first:
            shutil.copy2(ETC / "nginx.conf.before-slipway", ETC / ".nginx.conf.partial")
            (ETC / ".nginx.conf.partial").rename(MAIN)
        elif before != name:
            link(LIVE, f"slipway.d/{before}")
        else:  # nothing older to go back to: what is on disk is what was wanted, and the next run tries again
            raise
        run("systemctl", "reload", "nginx", check=False)
        raise Refused(f"{refusal}\nThe configuration from before was put back.") from None
    for path in GENERATIONS.iterdir():  # the one that serves and the one before it stay
        if path.is_dir() and path.name not in (name, before):
            shutil.rmtree(path)


def switch(app, release):
    """Let `release` of `app` serve from now on."""
    path = UPSTREAMS / f"{app}.conf"
    for leftover in UPSTREAMS.glob(f".*{path.name}*.partial"):  # of a run that was killed
        leftover.unlink()
    before = path.read_text()
    candidate = path.with_name(f".{path.name}.candidate.partial")
    replace(candidate, upstream(app, release))
    try:
        validate([(candidate, path)])
        candidate.rename(path)
        try:
            # What is still sent to the release from before is answered by it.
            reload_and_prove({f"/release/{app}": release}, alone=False)
        except Refused as refusal:
            replace(path, before)
            run("systemctl", "reload", "nginx", check=False)
            raise Refused(f"{refusal}\nThe release from before goes on serving.") from None
    finally:
        candidate.unlink(missing_ok=True)


def reload():
    """Validate what is on disk and make it live (after a certificate was renewed, or a run was killed)."""
    check()
    reload_and_prove(expectation())


def check():
    """Fail, and change nothing, if nginx would refuse what is on disk, whoever wrote it."""
    validate([])


def act(command, *words):
    """What one command of the command line does, while nobody else changes anything.

    slipway-release calls it, too, maybe one that was started before this file was replaced.
    """
    commands = {"apply": lambda: apply(json.load(sys.stdin)), "switch": switch, "check": check, "reload": reload}
    with locked():
        commands[command](*words)


def main():
    """Exit status: 0 done, 1 refused (the old configuration serves), 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="slipway-nginx", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="what is configured, and whether it is live, as JSON")
    commands.add_parser("apply", help="make the files given as JSON on standard input the configuration")
    commands.add_parser("check", help="validate what is on disk")
    commands.add_parser("reload", help="validate, reload and prove what is on disk")
    command = commands.add_parser("switch", help="let a release of an app serve")
    command.add_argument("app")
    command.add_argument("release")
    given = parser.parse_args()
    os.environ["LC_ALL"] = "C"
    os.umask(0o022)
    if given.command == "status":
        print(json.dumps(status()))
        return
    try:
        act(given.command, *([given.app, given.release] if given.command == "switch" else []))
    except (Refused, OSError) as refusal:
        sys.exit(f"slipway-nginx: {refusal}")


if __name__ == "__main__":
    main()
