"""What no single value shows: settings that contradict each other, and the files they name."""

from __future__ import annotations

import datetime
import difflib
import functools
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from roles import _source
from roles.settings import _environment, _names
from roles.settings import _types as t
from roles.settings._errors import HIDDEN, Problem, show, under
from roles.settings._models import HOOKS, AppSettings, FolderSource, GitSource, Settings, UvSettings

if TYPE_CHECKING:
    from cryptography import x509  # takes long to load, and few hosts bring certificates along

_PRIVATE_NAMES = """
test local localhost internal invalid example onion lan home corp intranet private localdomain
"""
_RUNNERS = ("gunicorn", "uvicorn-worker")
_ADD_RUNNERS = "in the project run: uv add gunicorn uvicorn-worker uvloop httptools"
_FIRST_LINE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass
class Report:
    """Collects problems, one a place: what is already wrong isn't judged again."""

    problems: list[Problem] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    """Paths that hold a stand-in, because what the inventory has there was refused."""

    def add(self, path: str, expected: str, found: str, do: str) -> None:
        """Note a problem, unless its place was refused before."""
        if not any(under(path, wrong) for wrong in self.bad):
            self.problems.append(Problem(path, expected, found, do))


# --- Files -----------------------------------------------------------------------------------------------------------


def read_file(
    report: Report, path: str, file: Path | None, what: str, *, private: bool = False, start: str = "the inventory"
) -> bytes | None:
    """The content of a local file; None after reporting why not, and for no file at all.

    A `private` file that others may read is reported, and read nevertheless. `start` is what relative names are
    relative to.
    """
    if file is None:
        return None
    try:
        content = file.read_bytes()
        mode = file.stat().st_mode & 0o777
    except IsADirectoryError:
        report.add(path, what, f"a folder: {file}", "name the file in it")
        return None
    except FileNotFoundError:
        report.add(path, what, f"no file {file}", f"create it, or correct the name; it is relative to {start}")
        return None
    except OSError as error:
        report.add(path, what, f"{file}: {error.strerror}", "make it readable for you")
        return None
    if private and mode & 0o077:
        report.add(path, f"{what} that only you can read", f"mode {mode:04o}", f"chmod 600 {file}")
    return content


def read_env(report: Report, path: str, file: Path | None, *, of_app: bool) -> dict[str, str]:
    """The variables of a .env file; everything wrong with it is reported without any value."""
    content = read_file(report, path, file, "a .env file", private=True)
    if content is None or file is None:
        return {}
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        report.add(path, "a .env file in UTF-8", f"other bytes in line {line}", f"save {file.name} as UTF-8")
        return {}
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        report.add(path, "a .env file of text", f"a NUL character in line {line}", "remove it; no variable can hold it")
        return {}
    parsed = _environment.parse_env(text)
    for number in parsed.unreadable:
        found = f"line {number} of {file.name} is something else {HIDDEN}"
        report.add(path, "lines of NAME=value", found, "correct the line: a name, =, and quotes that are closed")
    for name, lines in parsed.duplicates.items():
        found = f"{public_name(name)} in lines {', '.join(map(str, lines))}"
        report.add(f"{path}: {public_name(name)}", "each variable once", found, "keep one of the lines")
    for name, value in parsed.values.items():
        place = f"{path}: {public_name(name)}"
        if _environment.NAME.fullmatch(name) is None:
            report.add(place, t.VARIABLE.expected, f'the name "{public_name(name)}"', t.VARIABLE.do)
        elif of_app and (hint := _names.reserved_variable(name)):
            report.add(place, t.VARIABLE.expected, f"{name}, which is reserved", hint)
        if reason := _environment.unfit_value(value):
            report.add(place, t.VARIABLE_VALUE.expected, f"{reason} {HIDDEN}", t.unfit_hint(reason))
    return parsed.values


def public_name(name: str) -> str:
    """A variable's name as a message may show it: up to what could already be its value."""
    head = re.split(r"[=:\s]", name, maxsplit=1)[0][:60]
    return head if head == name else f"{head}…"


@dataclass(frozen=True)
class _Key:
    key: Any
    """The key, or None where a passphrase keeps it closed."""


def read_private_key(content: bytes, *, ssh: bool) -> _Key | str:
    """A private key from a file's content, or what the content is instead."""
    if re.match(rb"\s*(ssh-|ecdsa-|sk-|-----BEGIN (?:[A-Z0-9]+ )?PUBLIC KEY|---- BEGIN SSH2 PUBLIC)", content):
        return "a public key"
    if re.match(rb"\s*PuTTY-User-Key-File", content):
        return "a PuTTY key"
    if b"-----BEGIN CERTIFICATE" in content and not _FIRST_LINE.search(content):
        return "a certificate"
    if not _FIRST_LINE.search(content):
        return "something else"
    loader = serialization.load_pem_private_key
    if ssh and b"BEGIN OPENSSH PRIVATE KEY" in content:
        loader = serialization.load_ssh_private_key
    try:
        return _Key(loader(content, password=None))
    except TypeError:
        return _Key(None)
    except Exception:  # cryptography raises many kinds here; each means that the key can't be read
        return "a private key that can't be read"


def check_ssh_key(report: Report, path: str, file: Path | None, *, login: bool) -> None:
    """A private SSH key: of the operator (`login`), or a deploy key that works without a passphrase."""
    what = "a private SSH key"
    start = "the folder pyinfra runs in" if login else "the inventory"
    content = read_file(report, path, file, what, private=True, start=start)
    if content is None or file is None:
        return
    found = read_private_key(content, ssh=True)
    if isinstance(found, str):
        do = f"name the private key: {file.with_suffix('').name}" if file.suffix == ".pub" else "name the private key"
        if found == "a PuTTY key":
            do = "export it from PuTTYgen in OpenSSH's format"
        report.add(path, what, f"{found} in {file}", do)
    elif not login and found.key is None:
        report.add(path, f"{what} without passphrase", f"{file} has one", f"ssh-keygen -p -N '' -f {file}")
    elif login and isinstance(found.key, rsa.RSAPrivateKey) and found.key.key_size < t.SMALLEST_RSA:
        report.add(
            path,
            f"an Ed25519 key, or RSA of at least {t.SMALLEST_RSA} bits",
            f"RSA of {found.key.key_size} bits",
            "make a new key with ssh-keygen -t ed25519 and put its .pub on the host first",
        )


def _check_text(report: Report, path: str, file: Path | None, what: str) -> None:
    content = read_file(report, path, file, what)
    if content is None:
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or not text.strip():
        found = "an empty file" if not text.strip() else "a file that isn't text in UTF-8"
        report.add(path, what, found, "correct the file, or remove the setting")


def _certificates(content: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        return []


# --- The source ------------------------------------------------------------------------------------------------------


@functools.cache
def _parsed(content: bytes) -> dict[str, Any]:
    """TOML; nobody changes what is returned, since a run checks the same files twice, and a lock file is long."""
    return tomllib.loads(content.decode("utf-8"))


def _load_toml(report: Report, path: str, file: Path) -> dict[str, Any] | None:
    content = read_file(report, path, file, f"a project with {file.name}")
    if content is None:
        return None
    try:
        return _parsed(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        report.add(path, f"a readable {file.name}", f"{file}: {error}", "correct the file")
        return None


def _check_folder(report: Report, at: str, app: AppSettings, source: FolderSource) -> None:
    root, folder = app.source_dir, app.app_dir
    if root is None or folder is None:
        return
    if not root.is_dir():
        do = "correct the path; it is relative to the inventory's folder"
        report.add(f"{at}.path", "an existing folder", f"no folder {root}", do)
        return
    if not folder.is_dir() or not folder.resolve().is_relative_to(root):
        report.add(f"{at}.subdir", f"a folder inside {root}", f"no folder {folder}", "correct the name")
        return
    place = f"{at}.subdir" if source.subdir else f"{at}.path"
    if not (folder / "pyproject.toml").is_file():
        do = "name the app's folder in subdir, or run uv init there"
        report.add(place, "a project with pyproject.toml", f"none in {folder}", do)
        return
    project_file = _load_toml(report, place, folder / "pyproject.toml")
    if app.lock_dir is None:
        do = f"run uv lock in {folder} and commit uv.lock; of a workspace, path must be its root"
        report.add(place, "a project with uv.lock", f"none in {folder} or above it inside {root}", do)
        lock = None
    else:
        lock = _load_toml(report, place, app.lock_dir / "uv.lock")
    project = (project_file or {}).get("project")
    if project_file is None:
        return
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        report.add(place, "a project with a [project] table and a name", f"none in {folder}/pyproject.toml", "add it")
        return
    _check_python(report, at, app, project)
    if lock is not None:
        try:
            _check_lock(report, place, folder, project_file, lock)
        except (AttributeError, KeyError, TypeError, ValueError):  # not the shape uv writes
            do = f"run uv lock in {folder} and commit uv.lock"
            report.add(place, "a uv.lock as uv writes it", "one that can't be understood", do)


def _check_python(report: Report, at: str, app: AppSettings, project: dict[str, Any]) -> None:
    required = project.get("requires-python")
    if not isinstance(required, str):
        return
    path = at.rpartition(".")[0] + ".python"
    try:
        specifier = SpecifierSet(required)
    except InvalidSpecifier:
        report.add(at, "a requires-python that can be read", show(required), "correct it in pyproject.toml")
        return
    wanted = app.python_version
    patches = [wanted] if wanted.count(".") == 2 else [f"{wanted}.{patch}" for patch in range(100)]
    if not any(specifier.contains(version) for version in patches):
        fitting = [
            f"3.{minor}" for minor in range(11, 15) if any(specifier.contains(f"3.{minor}.{n}") for n in range(100))
        ]
        do = f'set python to "{fitting[-1]}"' if fitting else "release the app for Python 3.11 or newer"
        report.add(path, f"a version that the project's requires-python allows ({required})", show(wanted), do)


def _requirement_key(name: str, extras: list[str], specifier: str) -> tuple[str, frozenset[str], SpecifierSet]:
    return canonicalize_name(name), frozenset(map(canonicalize_name, extras)), SpecifierSet(specifier)


def _check_lock(report: Report, path: str, folder: Path, project_file: dict[str, Any], lock: dict[str, Any]) -> None:
    """Compare pyproject.toml with what uv.lock recorded of it, without running uv.

    This finds a dependency that was added, removed or changed after `uv lock`. What only uv can tell (markers, uv's
    own sources, whether an index still has a file) the host's `uv sync --locked` refuses later, before any traffic.
    """
    project = project_file["project"]
    name = canonicalize_name(project["name"])
    packages = [package for package in lock.get("package", []) if isinstance(package, dict) and "name" in package]
    own = [package for package in packages if package["name"] == name and not _is_remote(package)]
    relock = f"run uv lock in {folder} and commit uv.lock"
    if not own:
        report.add(path, "a uv.lock of this project", f"uv.lock doesn't know {name}", relock)
        return
    if "dependencies" not in project.get("dynamic", []):
        try:
            wanted = [Requirement(line) for line in project.get("dependencies", [])]
        except (InvalidRequirement, TypeError) as error:
            report.add(path, "dependencies that can be read", f"{folder}/pyproject.toml: {error}", "correct them")
            return
        if changed := _changed(wanted, own[0].get("metadata", {}).get("requires-dist", []), project_file):
            report.add(path, "a uv.lock that fits pyproject.toml", f"it differs in {', '.join(changed)}", relock)
            return
    reached = _reachable(name, project_file, packages)
    if missing := [runner for runner in _RUNNERS if runner not in reached]:
        found = f"uv.lock without {' and '.join(missing)}"
        report.add(path, "an app that depends on gunicorn and uvicorn-worker", found, _ADD_RUNNERS)


def _is_remote(package: dict[str, Any]) -> bool:
    source = package.get("source", {})
    return not any(kind in source for kind in ("virtual", "editable", "directory"))


def _changed(wanted: list[Requirement], recorded: list[dict[str, Any]], project_file: dict[str, Any]) -> list[str]:
    sources = project_file.get("tool", {}).get("uv", {}).get("sources", {})
    own_sources = {canonicalize_name(name) for name in sources}
    before = {
        _requirement_key(entry["name"], entry.get("extras", []), entry.get("specifier", ""))
        for entry in recorded
        if not re.search(r"\bextra\s*==", entry.get("marker", ""))
    }
    now = {_requirement_key(one.name, sorted(one.extras), str(one.specifier)) for one in wanted}
    by_source = own_sources | {canonicalize_name(one.name) for one in wanted if one.url}
    differing = {key[0] for key in before ^ now}
    for name in differing & by_source:  # uv rewrites these, so only their presence can be compared
        if {key[0] for key in before} >= {name} and {key[0] for key in now} >= {name}:
            differing = differing - {name}
    return sorted(differing)


def _reachable(name: str, project_file: dict[str, Any], packages: list[dict[str, Any]]) -> set[str]:
    """Names of what `uv sync --no-dev` installs for the project, markers left aside."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    groups = project_file.get("tool", {}).get("uv", {}).get("default-groups", [])
    todo: list[tuple[str, str]] = [(name, "")]
    todo += [
        (entry["name"], extra)
        for package in by_name[name]
        for group, entries in package.get("dev-dependencies", {}).items()
        if group != "dev" and (groups == "all" or group in groups)
        for entry in entries
        for extra in ("", *entry.get("extra", []))
    ]
    seen: set[tuple[str, str]] = set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for package in by_name.get(current[0], []):
            extra = current[1]
            entries = (
                package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
            )
            todo += [(entry["name"], more) for entry in entries for more in ("", *entry.get("extra", []))]
    return {found for found, _ in seen}


# --- One app ---------------------------------------------------------------------------------------------------------


def _check_git_source(report: Report, at: str, app: AppSettings, source: GitSource) -> None:
    for option, file in (("deploy_key", app.deploy_key_local), ("known_hosts", app.known_hosts_local)):
        if file is not None and not source.uses_ssh:
            do = f"write git as an SSH address (git@host:path), or remove {option}"
            report.add(f"{at}.{option}", "set with an SSH address alone", show(source.git), do)
    if source.uses_ssh:
        check_ssh_key(report, f"{at}.deploy_key", app.deploy_key_local, login=False)
        _check_text(report, f"{at}.known_hosts", app.known_hosts_local, "a known_hosts file")


def _check_environment(report: Report, at: str, app: AppSettings) -> None:
    file = app.env_local
    name = file.name if file is not None else ""
    from_file = app._environment
    for key in sorted(from_file.keys() & app.env.keys()):
        report.add(f"{at}.env.{key}", "each variable once", f"{key} also in {name}", f"remove it here or in {name}")
    merged = {key: _environment.plain_text(value) for key, value in app.env.items()} | from_file
    where = f"in {name}" if name else "in env or in a .env file that env_file names"
    for key in app.required_env:
        if not merged.get(key):
            found = f"{key} is empty" if key in merged else f"no {key}"
            report.add(f"{at}.required_env", f"a value for {key}", found, f"set {key} {where}")
    for key in app.build_env:
        if key not in from_file:
            report.add(f"{at}.build_env", "names of variables in env_file", f"no {key} there", f"set {key} {where}")
    url_at = f"{at}.env.DATABASE_URL" if "DATABASE_URL" in app.env else f"{at}.env_file: DATABASE_URL"
    url = merged.get("DATABASE_URL")
    if url and (wrong := _environment.unfit_database_url(url, app.database_driver)):
        report.add(url_at, "the URL of a database", f"{wrong[0]} {HIDDEN}", wrong[1])
    if url and app.sandbox.network == "unix" and _environment.names_host(url):
        expected = '"internet", because DATABASE_URL names a host'
        do = 'name the folder of its socket (postgresql:///notes?host=/run/postgresql), or write "internet"'
        report.add(f"{at}.sandbox.network", expected, '"unix"', do)
    if app.database_driver is None:
        return
    if not url:
        do = f"set DATABASE_URL {where}, or remove database_driver"
        report.add(f"{at}.database_driver", "None without DATABASE_URL", show(app.database_driver), do)
    if "DATABASE_URL_SYNC" in merged:
        place = f"{at}.env.DATABASE_URL_SYNC" if "DATABASE_URL_SYNC" in app.env else f"{at}.env_file: DATABASE_URL_SYNC"
        do = "remove it, or remove database_driver and set both yourself"
        report.add(place, "not set together with database_driver", "DATABASE_URL_SYNC, which follows from it", do)


def _is_private(domain: str) -> bool:
    return "." not in domain or domain.rpartition(".")[2] in _PRIVATE_NAMES.split() or domain.endswith(".home.arpa")


def _check_domains(report: Report, at: str, app: AppSettings, settings: Settings) -> None:
    for domain in sorted({domain for domain in app.domains if app.domains.count(domain) > 1}):
        report.add(f"{at}.domains", "each name once", f"{show(domain)} twice", "remove one of them")
    if app.tls.mode != "acme":
        return
    for domain in dict.fromkeys(app.domains):
        if domain.startswith("*."):
            do = 'name each host, or bring a wildcard certificate with tls mode "files"'
            report.add(f"{at}.domains", "names without wildcard, because HTTP-01 can't prove one", show(domain), do)
        if settings.acme.directory is None and _is_private(domain):
            do = 'use a public name, tls mode "self-signed" or "files", or your own acme.directory'
            report.add(f"{at}.domains", "names that Let's Encrypt can issue for", show(domain), do)


def _check_tls(report: Report, at: str, app: AppSettings) -> None:
    if app.tls.mode != "files":
        for option in ("certificate", "key"):
            if getattr(app.tls, option) is not None:
                do = f'set mode to "files", or remove {option}'
                report.add(f"{at}.{option}", 'set with mode "files" alone', f"mode {show(app.tls.mode)}", do)
        return
    for option in ("certificate", "key"):
        if getattr(app.tls, option) is None:
            report.add(f"{at}.{option}", 'a PEM file, because mode is "files"', "None", "name the file")
    chain = read_file(report, f"{at}.certificate", app.certificate_local, "a PEM file with the certificate chain")
    certificates = _certificates(chain) if chain is not None else []
    if chain is not None and not certificates:
        do = "convert it: openssl x509 -inform der -in FILE -out chain.pem"
        report.add(f"{at}.certificate", "a PEM file with the certificate chain", "no certificate in it", do)
    content = read_file(report, f"{at}.key", app.key_local, "a PEM file with the private key", private=True)
    key = read_private_key(content, ssh=False) if content is not None else None
    if isinstance(key, str):
        report.add(f"{at}.key", "a PEM file with the private key", key, "name the key's file")
    elif key is not None and key.key is None:
        do = "remove it: openssl pkey -in FILE -out key.pem"
        report.add(f"{at}.key", "a private key without passphrase", "one with a passphrase", do)
    if certificates:
        _check_certificate(report, at, app, certificates, key.key if isinstance(key, _Key) else None)


def _public_bytes(key: Any) -> bytes:
    raw: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw


def _check_certificate(report: Report, at: str, app: AppSettings, chain: list[x509.Certificate], key: Any) -> None:
    from cryptography import x509

    leaf, place = chain[0], f"{at}.certificate"
    if key is not None:
        fitting = [_public_bytes(one.public_key()) == _public_bytes(key.public_key()) for one in chain]
        if True not in fitting:
            do = "name the key the certificate was made for"
            report.add(f"{at}.key", "the key of the certificate", "another key", do)
        elif not fitting[0]:
            do = "put the app's certificate before those of its CA"
            report.add(place, "the app's certificate first in the file", "another one first", do)
            return
    today = datetime.datetime.now(datetime.UTC)
    if leaf.not_valid_after_utc < today:
        report.add(place, "a valid certificate", f"one that expired on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it")
    elif leaf.not_valid_before_utc > today:
        found = f"one that is valid from {leaf.not_valid_before_utc:%Y-%m-%d}"
        report.add(place, "a valid certificate", found, "wait, or correct this machine's clock")
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        names = []
    missing = [one for one in dict.fromkeys(app.domains) if not _covered(one, names)]
    if missing:
        do = f"have it made for {', '.join(missing)} too, or remove what it doesn't cover from domains"
        report.add(place, "a certificate for every domain", f"one for {', '.join(names[:10]) or 'no name'}", do)


def _covered(domain: str, names: list[str]) -> bool:
    return domain in names or "*." + domain.partition(".")[2] in names


def _check_hooks(report: Report, at: str, app: AppSettings) -> None:
    """Programs of a folder source that are paths: each must be a file that a release has, and be executable.

    What lies on the host (an absolute path), or in a git repository, can't be seen from here.
    """
    root, folder = app.source_dir, app.app_dir
    programs = {name: words[0] for name in HOOKS if (words := app.hooks.argv(name)) and "/" in words[0]}
    if root is None or folder is None or not folder.is_dir():
        return
    programs = {name: program for name, program in programs.items() if not program.startswith("/")}
    try:
        files = set(_source.listed(root)) if programs else set()
    except _source.SourceError:  # the release tells it
        return
    expected = f"a command whose program is a file in {folder}"
    for name, program in programs.items():
        file, path = _file_at(folder / program), f"{at}.{name}"
        if file is None:
            known = sorted(os.path.relpath(root / one, folder) for one in files)
            fit = [one for one in known if os.access(folder / one, os.X_OK)]
            wanted = os.path.normpath(program)
            near = difflib.get_close_matches(wanted, fit, n=1) or difflib.get_close_matches(wanted, known, n=1)
            do = f'write "{near[0]}"' if near else "correct the path: it starts in the app's folder"
            report.add(path, expected, f"no file {show(program)} there", do)
        elif not file.is_relative_to(root) or file.relative_to(root) not in files:
            do = "take it out of .gitignore; for what the release's environment has, write the name alone (python)"
            report.add(path, expected, f"{show(program)}, which stays at home: no release has it", do)
        elif not file.stat().st_mode & stat.S_IXUSR:
            mode = f"mode {stat.S_IMODE(file.stat().st_mode):04o} of {show(program)}"
            report.add(path, "a command whose program is executable", mode, f"chmod +x {file}")


def _file_at(path: Path) -> Path | None:
    """The file behind `path`, links followed; None where there is none, or none can have such a name."""
    try:
        file = path.resolve()
        return file if file.is_file() else None
    except (OSError, RuntimeError):  # a name that is too long, or links in a circle
        return None


def _check_migration_times(report: Report, at: str, app: AppSettings) -> None:
    longest = app.migrate_statement_timeout
    path = f"{at}.migrate_statement_timeout"
    if longest is None:
        return
    if longest <= app.migrate_lock_timeout:
        expected = f"more than migrate_lock_timeout ({app.migrate_lock_timeout}), because waiting for a lock counts"
        report.add(path, expected, show(longest), "write a larger number, or lower migrate_lock_timeout too")
    elif longest > app.migrate_timeout:
        do = "write a smaller number, or raise migrate_timeout too"
        report.add(path, f"at most migrate_timeout ({app.migrate_timeout})", show(longest), do)


def _check_app(report: Report, at: str, app: AppSettings, settings: Settings) -> None:
    if isinstance(app.source, GitSource):
        _check_git_source(report, f"{at}.source", app, app.source)
    else:
        _check_folder(report, f"{at}.source", app, app.source)
    _check_environment(report, at, app)
    _check_domains(report, at, app, settings)
    _check_tls(report, f"{at}.tls", app)
    _check_hooks(report, f"{at}.hooks", app)
    _check_migration_times(report, at, app)
    if app.max_requests_jitter and not app.max_requests:
        do = "set max_requests too, such as 10000, or remove max_requests_jitter"
        report.add(f"{at}.max_requests_jitter", "0 without max_requests", show(app.max_requests_jitter), do)
    if app.static is not None and any(
        path.startswith(app.static.url) for path in (app.liveness_path, app.readiness_path)
    ):
        do = "choose another url: the app couldn't answer its liveness or readiness path"
        report.add(f"{at}.static.url", "a prefix that no health path starts with", show(app.static.url), do)
    _check_text(report, f"{at}.nginx_extra", app.nginx_extra_local, "a file with nginx directives")


# --- The host --------------------------------------------------------------------------------------------------------


def _twice(apps: Iterator[tuple[str, Any]]) -> dict[Any, list[str]]:
    users: dict[Any, list[str]] = {}
    for name, value in apps:
        if value is not None and name not in users.setdefault(value, []):
            users[value].append(name)
    return {value: names for value, names in users.items() if len(names) > 1}


def _check_acme(report: Report, at: str, settings: Settings) -> None:
    acme = settings.acme
    if acme.staging and acme.directory is not None:
        do = "remove staging; it is Let's Encrypt's alone"
        report.add(f"{at}.staging", "False with a directory of your own", "True", do)
    if (acme.eab_key_id is None) != (acme.eab_hmac_key_name is None):
        missing = "eab_key_id" if acme.eab_key_id is None else "eab_hmac_key_name"
        report.add(f"{at}.{missing}", "both eab_key_id and eab_hmac_key_name, or none", "None", f"set {missing} too")
    if acme.eab_hmac_key_name is not None and not settings.eab_hmac_key:
        found = f"no such variable with a value {HIDDEN}"
        do = "put the HMAC key into the .env file that slipway.env_file names, and its variable's name here"
        report.add(f"{at}.eab_hmac_key_name", "the name of a variable in the host's env_file", found, do)
    content = read_file(report, f"{at}.ca_file", settings.acme_ca_local, "a PEM file with the ACME server's CA")
    if content is not None and not _certificates(content):
        do = "convert it: openssl x509 -inform der -in FILE -out ca.pem"
        report.add(f"{at}.ca_file", "a PEM file with the ACME server's CA", "no certificate in it", do)


def check_login(report: Report, settings: Settings, at: Callable[..., str], user: object) -> None:
    """Judge the ways in together with `user`, the inventory's ssh_user."""
    if settings.ssh.enabled and not settings.ssh.root_login and user in ("root", None):
        found = '"ssh_user": "root"' if user else "no ssh_user"
        do = 'set ssh_user to another user who may sudo, with "_sudo": True, or root_login to True'
        report.add(at("ssh", "root_login"), "True as long as the inventory logs in as root", found, do)


def _check_access(report: Report, at: Callable[..., str], settings: Settings) -> None:
    operator = settings.operator
    keys = at("operator", "authorized_keys")
    if operator.user is not None and not operator.authorized_keys and not any(under(bad, keys) for bad in report.bad):
        do = 'add "authorized_keys": ["ssh-ed25519 AAAA… me@laptop"]'
        report.add(keys, "at least one public key for the user", "none", do)
    if operator.user is None and operator.authorized_keys:
        report.add(at("operator", "user"), "the user whose keys these are", "None", 'add "user": "deploy"')
    if operator.user in settings.apps:
        report.add(at("operator", "user"), "a name that no app has", show(operator.user), "choose another")
    _check_text(report, at("ssh", "extra"), settings.ssh_extra_local, "a file with directives of sshd_config")
    _check_text(report, at("firewall", "extra"), settings.firewall_extra_local, "a file with nftables rules")


def check(settings: Settings, report: Report, at: Callable[..., str]) -> None:
    """Judge what `settings` say together; `at` gives the path of a setting from its keys.

    Reads every file that the settings name, and keeps the variables of the .env files in the settings.
    """
    settings._environment = read_env(report, at("env_file"), settings.env_local, of_app=False)
    for name, app in settings.apps.items():
        app._environment = read_env(report, at("apps", name, "env_file"), app.env_local, of_app=True)
        _check_app(report, at("apps", name), app, settings)
    apps = settings.apps.items()
    for domain, names in _twice((name, domain) for name, app in apps for domain in app.domains).items():
        for name in names[1:]:
            found = f"{show(domain)} also in {at('apps', names[0], 'domains')}"
            report.add(at("apps", name, "domains"), "names that no other app has", found, "remove it from one of them")
    for port, names in _twice((name, app.port) for name, app in apps).items():
        for name in names[1:]:
            found = f"{port}, also in {at('apps', names[0], 'port')}"
            report.add(at("apps", name, "port"), "a port that no other app has", found, "choose another")
    uv, known = settings.python.uv, UvSettings()
    if uv.version != known.version and not uv.sha256:
        found = f"uv {uv.version} without its SHA-256"
        do = "copy the SHA-256 of the manylinux wheels from https://pypi.org/project/uv/#files"
        report.add(at("python", "uv", "sha256"), f"a SHA-256 for another uv than {known.version}", found, do)
    _check_acme(report, at("acme"), settings)
    _check_access(report, at, settings)
    _check_text(report, at("nginx", "extra"), settings.nginx_extra_local, "a file with nginx directives")
