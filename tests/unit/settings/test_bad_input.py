"""Every kind of wrong inventory is refused, with this very message, before a host is touched.

One row a mistake: what is changed in a good inventory, and the message's path, expectation, finding and next step.
The numbers are those of the kinds of bad input that settings can tell (0: further ones of our own); the state of a
host (its release, memory, disk) is judged by roles/preflight.py instead.
"""

# ruff: noqa: E501  (a table: one mistake a line)

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from slipway.settings import SettingsError, check_command_line, load, load_for, load_inventory
from tests.unit.inventories import (
    KIT,
    MINIMAL,
    PYPROJECT,
    WITHOUT_KIT,
    certificate,
    changed,
    new_key,
    pem_key,
    ssh_key,
    write_private,
    write_project,
)


class Row(NamedTuple):
    """One mistake. ``{dir}`` stands for the inventory's folder; `files` are written there (None: removed)."""

    kind: int
    label: str
    changes: dict[str, Any]
    path: str
    expected: str
    found: str
    do: str
    files: dict[str, Any] | None = None


NOTES = MINIMAL["apps"]["notes"]
PRIVATE = Ed25519PrivateKey.generate()
KEY = ssh_key(PRIVATE)
CLOSED_KEY = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.OpenSSH,
    serialization.BestAvailableEncryption(b"passphrase"),
)
PUBLIC_KEY = (
    PRIVATE.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
)
SHORT_RSA = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)
ENV = {"apps.notes.env_file": ".env"}

APP = "a name of 1 to 30 lower-case letters, digits and hyphens that starts with a letter and is not the system's"
DATABASE = "the URL of a database"
INNER = "a folder inside the app's folder: letters, digits and . _ + - /"
APART = "a path apart from all others of shared and shared_files"
STATIC = "a mapping of options of static files, or a list of such mappings"
DOMAIN = "a host name in lower-case ASCII, such as notes.example.com"
HOOK = "one command with its arguments, or None"
HOOK_DO = 'write None, or a command such as "bin/after-switch --quick" or "python -m notes.warm_up"'
HEADER = 'the value of a header: one line of ASCII without ", \\ and $, or None'
HEADER_DO = "write it as browsers should get it, such as \"default-src 'self'; object-src 'none'\""
HSTS = "max-age=seconds, with or without ; includeSubDomains and ; preload, or None"
HSTS_DO = 'write it such as "max-age=63072000" or "max-age=63072000; includeSubDomains"'
RATE = "a rate as nginx writes it: a number, then r/s or r/m"
RATE_DO = 'write it such as "20r/s" or "10r/m"'
PROGRAM = "a command whose program is a file in {dir}/project"
AT_HOME = "take it out of .gitignore; for what the release's environment has, write the name alone (python)"
TARGET = "a path with or without a query, such as /search?q=1"
QUERY = "percent-encode the query: letters, digits and . _ ~ = & + , : @ - stay, a space is %20, a slash %2F"
KEY_FILE = "a private SSH key"
NETWORK = "a network in CIDR notation, such as 173.245.48.0/20 or 2400:cb00::/32"
PATH = "a path such as /healthz: / first, then letters, digits and . _ ~ - /"
PORT = "a port from 1024 to 65535, or None"
SCHEDULE = "a time: cron's five fields, or a calendar expression of systemd"
SCHEDULE_DO = 'write it such as "*/15 * * * *", "daily" or "Mon..Fri 03:30" (systemd.time(7) has them all)'
SECONDS = "a whole number of seconds from 1 to 3600"
SIZE = "a size as nginx writes it: digits with k, m or g, or 0 for no limit"
SOURCE = 'either {"git": address, "ref": …} or {"path": local folder}'
CARRIAGE = "it has a carriage return, as files of Windows have: end its lines with a line feed alone (dos2unix)"
TEXT = "text, a number, True or False"
ORIGIN = "an origin as unattended-upgrades names it: keyword=value, several joined by commas"
ORIGIN_DO = (
    'write it such as "site=apt.postgresql.org" or "origin=Docker,label=Docker CE" (apt-cache policy shows them)'
)
SYSCTL = "a kernel setting's name, such as net.ipv4.tcp_syncookies"
UMASK = 'four octal digits as a string, from "0000" to "0077"'
VARIABLE = "a variable's name: letters, digits and underscores, not starting with a digit, and not reserved"
WORKERS = "a whole number from 1 to 256, or None"
ENCODE = "percent-encode the password, that is @ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25: python3 -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'"

# fmt: off
ROWS = [
    Row(1, "empty domain", {"apps.notes.domains": [""]}, "slipway.apps.notes.domains[0]", DOMAIN, '""', "write the name, such as notes.example.com, or remove the empty entry"),
    Row(1, "no domain at all", {"apps.notes.domains": []}, "slipway.apps.notes.domains", "a list of 1 to 100 host names", "an empty list", 'write a list, such as ["notes.example.com"]'),
    Row(2, "domain with scheme", {"apps.notes.domains": ["http://notes.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"http://notes.example.com"', "write the name alone, without http:// or https://"),
    Row(3, "domain with port", {"apps.notes.domains": ["notes.example.com:8443"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"notes.example.com:8443"', "write the name alone, without a port; nginx listens on 80 and 443"),
    Row(4, "domain with path", {"apps.notes.domains": ["notes.example.com/app"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"notes.example.com/app"', "write the name alone, without a path"),
    Row(5, "domain with a dot at the end", {"apps.notes.domains": ["notes.example.com."]}, "slipway.apps.notes.domains[0]", DOMAIN, '"notes.example.com."', "remove the dot at the end"),
    Row(5, "domain with a space at the end", {"apps.notes.domains": ["notes.example.com "]}, "slipway.apps.notes.domains[0]", DOMAIN, '"notes.example.com "', "remove the space around the name"),
    Row(6, "domain with an underscore", {"apps.notes.domains": ["my_notes.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"my_notes.example.com"', "remove the underscore: a host name has letters, digits and hyphens alone"),
    Row(7, "label of 64 characters", {"apps.notes.domains": ["a" * 64 + ".example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com"', "shorten the part that starts with aaaaaaaaaaaaaaaaaaaa: it has 64 characters, DNS allows 63"),
    Row(8, "name of 254 characters", {"apps.notes.domains": ["a." * 120 + "an.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a…" (254 characters)', "shorten the name: it has 254 characters, DNS allows 253"),
    Row(9, "IDN that is not punycode", {"apps.notes.domains": ["bücher.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"bücher.example.com"', "write it in punycode: xn--bcher-kva.example.com"),
    Row(9, "domain in capitals", {"apps.notes.domains": ["Notes.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"Notes.example.com"', "write it in lower case"),
    Row(10, "wildcard with HTTP-01", {"apps.notes.domains": ["*.example.com"]}, "slipway.apps.notes.domains", "names without wildcard, because HTTP-01 can't prove one", '"*.example.com"', 'name each host, or bring a wildcard certificate with tls mode "files"'),
    Row(11, "IPv4 address as domain", {"apps.notes.domains": ["203.0.113.5"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"203.0.113.5"', "write a name that points to this address; certificates here are for names"),
    Row(11, "IPv6 address as domain", {"apps.notes.domains": ["2001:db8::5"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"2001:db8::5"', "write a name that points to this address; certificates here are for names"),
    Row(12, "localhost with the public CA", {"apps.notes.domains": ["localhost"]}, "slipway.apps.notes.domains", "names that Let's Encrypt can issue for", '"localhost"', 'use a public name, tls mode "self-signed" or "files", or your own acme.directory'),
    Row(12, ".local with the public CA", {"apps.notes.domains": ["printer.local"]}, "slipway.apps.notes.domains", "names that Let's Encrypt can issue for", '"printer.local"', 'use a public name, tls mode "self-signed" or "files", or your own acme.directory'),
    Row(12, ".test with staging", {"apps.notes.domains": ["notes.test"], "acme.staging": True}, "slipway.apps.notes.domains", "names that Let's Encrypt can issue for", '"notes.test"', 'use a public name, tls mode "self-signed" or "files", or your own acme.directory'),
    Row(13, "domain twice in an app", {"apps.notes.domains": ["a.example.com", "a.example.com"]}, "slipway.apps.notes.domains", "each name once", '"a.example.com" twice', "remove one of them"),
    Row(13, "domain in two apps", {"apps.shop": {**NOTES}}, "slipway.apps.shop.domains", "names that no other app has", '"notes.example.com" also in slipway.apps.notes.domains', "remove it from one of them"),
    Row(14, "domain with a line break", {"apps.notes.domains": ["a.example.com\nb"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"a.example.com\\nb"', "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen"),
    Row(14, "domain that ends nginx's directive", {"apps.notes.domains": ["a.example.com;"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"a.example.com;"', "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen"),
    Row(14, "domain that opens a block", {"apps.notes.domains": ["a.example.com{}"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"a.example.com{}"', "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen"),
    Row(14, "domain with a variable of nginx", {"apps.notes.domains": ["$host.example.com"]}, "slipway.apps.notes.domains[0]", DOMAIN, '"$host.example.com"', "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen"),
    Row(15, "101 names", {"apps.notes.domains": [f"a{number}.example.com" for number in range(101)]}, "slipway.apps.notes.domains", "a list of 1 to 100 host names", "a list of 101", "remove 1 of the 101 names, or make a second app of them"),
    Row(16, "app with a slash", {"apps": {"a/b": NOTES}}, 'slipway.apps["a/b"]', APP, '"a/b"', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(16, "app named ..", {"apps": {"..": NOTES}}, 'slipway.apps[".."]', APP, '".."', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(16, "app with a space", {"apps": {"my app": NOTES}}, 'slipway.apps["my app"]', APP, '"my app"', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(16, "app with a per cent sign", {"apps": {"a%i": NOTES}}, 'slipway.apps["a%i"]', APP, '"a%i"', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(16, "app that starts with a hyphen", {"apps": {"-rf": NOTES}}, "slipway.apps.-rf", APP, '"-rf"', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(16, "app of 31 characters", {"apps": {"a" * 31: NOTES}}, "slipway.apps.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", APP, '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"', "choose a name such as notes or notes-api; user, folders and units are called after it"),
    Row(17, "app named as a user of the system", {"apps": {"www-data": NOTES}}, "slipway.apps.www-data", APP, '"www-data"', "choose another name: a user, unit or folder of the system is called so, and the app's would collide"),
    Row(17, "app named root", {"apps": {"root": NOTES}}, "slipway.apps.root", APP, '"root"', "choose another name: a user, unit or folder of the system is called so, and the app's would collide"),
    Row(17, "app named as a unit of the system", {"apps": {"systemd-resolved": NOTES}}, "slipway.apps.systemd-resolved", APP, '"systemd-resolved"', "choose another name: a user, unit or folder of the system is called so, and the app's would collide"),
    Row(18, "module without attribute", {"apps.notes.app": "notes.main"}, "slipway.apps.notes.app", "an application as module:attribute, or None", '"notes.main"', 'add the attribute after a colon, such as "notes.main:app"'),
    Row(18, "factory that is given a variable", {"apps.notes.app": "notes.main:create(settings)"}, "slipway.apps.notes.app", "an application as module:attribute, or None", '"notes.main:create(settings)"', "give the function literals alone, such as \"notes:create_app('production')\""),
    Row(18, "factory with a text that systemd would read", {"apps.notes.app": "notes.main:create('%h')"}, "slipway.apps.notes.app", "an application as module:attribute, or None", "\"notes.main:create('%h')\"", "give the function literals alone, such as \"notes:create_app('production')\""),
    Row(18, "file instead of a module", {"apps.notes.app": "notes/main.py:app"}, "slipway.apps.notes.app", "an application as module:attribute, or None", '"notes/main.py:app"', 'write it such as "notes.main:app", without .py'),
    Row(18, "call that is no factory", {"apps.notes.app": "notes.main:create()", "apps.notes.factory": False}, "slipway.apps.notes.factory", "left out with a call in app", "False", "remove it, or the call in app"),
    Row(18, "interface that isn't known", {"apps.notes.interface": "rsgi"}, "slipway.apps.notes.interface", 'one of "asgi", "wsgi", or None', '"rsgi"', 'write one of "asgi", "wsgi"'),
    Row(18, "interface that the server hasn't", {"apps.notes.interface": "wsgi", "apps.notes.server": "uvicorn", "apps.notes.source": {"git": "https://git.example.com/a.git"}}, "slipway.apps.notes.server", "a server of WSGI", '"uvicorn"', 'write server as one of "gunicorn", "granian"'),
    Row(18, "threads of a server of ASGI", {"apps.notes.threads": 4, "apps.notes.server": "uvicorn", "apps.notes.source": {"git": "https://git.example.com/a.git"}}, "slipway.apps.notes.threads", 'left out with server "uvicorn"', "4", "Uvicorn serves ASGI alone, whose apps have no threads here: leave it out"),
    Row(18, "fewer connections than threads", {"apps.notes.concurrency": 8, "apps.notes.interface": "wsgi"}, "slipway.apps.notes.concurrency", "more than threads (8)", "8", "write a larger number, or lower threads: with fewer, no connection of nginx's would be kept"),
    Row(18, "server that closes before nginx", {"apps.notes.keep_alive": 60}, "slipway.apps.notes.keep_alive", "more than the 60 seconds that nginx keeps an idle connection", "60", "leave it out: requests would be lost"),
    Row(18, "limit that the server hasn't", {"apps.notes.concurrency": 4, "apps.notes.server": "hypercorn", "apps.notes.source": {"git": "https://git.example.com/a.git"}}, "slipway.apps.notes.concurrency", 'left out with server "hypercorn"', "4", 'Hypercorn has no such limit: leave it out, or write "server": "uvicorn"'),
    Row(18, "time that the server hasn't", {"apps.notes.keep_alive": 70, "apps.notes.server": "granian", "apps.notes.source": {"git": "https://git.example.com/a.git"}}, "slipway.apps.notes.keep_alive", 'left out with server "granian"', "70", "Granian keeps idle connections until nginx ends them, which loses no request: leave it out"),
    Row(18, "folder of modules above the app's", {"apps.notes.python_path": ["../lib"]}, "slipway.apps.notes.python_path[0]", "a folder inside the app's folder: letters, digits and . _ + - /", '"../lib"', "write it without .. ; for what lies above, point the source there"),
    Row(18, "no threads", {"apps.notes.threads": 0}, "slipway.apps.notes.threads", "a whole number of threads from 1 to 1000", "0", "write a number from 1 to 1000, without quotes"),
    Row(18, "backlog in quotes", {"apps.notes.backlog": "100"}, "slipway.apps.notes.backlog", "a whole number of connections from 1 to 65535", '"100"', "write a number from 1 to 65535, without quotes"),
    Row(19, "folder that is not there", {"apps.notes.source.path": "nowhere"}, "slipway.apps.notes.source.path", "an existing folder", "no folder {dir}/nowhere", "correct the path; it is relative to the inventory's folder"),
    Row(19, "subfolder that is not there", {"apps.notes.source.subdir": "nowhere"}, "slipway.apps.notes.source.subdir", "a folder inside {dir}/project", "no folder {dir}/project/nowhere", "correct the name"),
    Row(19, "subfolder outside the source", {"apps.notes.source.subdir": "../other"}, "slipway.apps.notes.source.subdir", "a folder inside the source: letters, digits and . _ + - /, or empty for its root", '"../other"', "write it without .. ; for what lies above, point the source there"),
    Row(19, "ref that is an option of git", {"apps.notes.source": {"git": "https://git.example.com/a.git", "ref": "--upload-pack=x"}}, "slipway.apps.notes.source.ref", "a branch, tag or commit: letters, digits and . _ / @ + -", '"--upload-pack=x"', "write a branch, tag or commit; git would take this for an option"),
    Row(19, "git address that is an option", {"apps.notes.source": {"git": "--upload-pack=x"}}, "slipway.apps.notes.source.git", "the address of a git repository: https://…, ssh://…, git@host:path or file:///…", '"--upload-pack=x"', "write a URL; git would take this for an option"),
    Row(19, "git address with a command", {"apps.notes.source": {"git": "ext::sh -c id"}}, "slipway.apps.notes.source.git", "the address of a git repository: https://…, ssh://…, git@host:path or file:///…", '"ext::sh -c id"', "remove spaces and line breaks"),
    Row(19, "git address with a token", {"apps.notes.source": {"git": "https://TOKEN@git.example.com/a.git"}}, "slipway.apps.notes.source.git", "the address of a git repository: https://…, ssh://…, git@host:path or file:///…", '"https://…@git.example.com/a.git"', "remove user and password; for a private repository use its SSH URL and deploy_key"),
    Row(20, "no pyproject.toml", {}, "slipway.apps.notes.source.path", "a project with pyproject.toml", "none in {dir}/project", "name the app's folder in subdir, or run uv init there", {"project/pyproject.toml": None}),
    Row(20, "no uv.lock", {}, "slipway.apps.notes.source.path", "a project with uv.lock", "none in {dir}/project or above it inside {dir}/project", "run uv lock in {dir}/project and commit uv.lock; of a workspace, path must be its root; or set dependencies.hashes to False, and the first build pins what the project names", {"project/uv.lock": None}),
    Row(21, "stale uv.lock", {}, "slipway.apps.notes.source.path", "a uv.lock that fits pyproject.toml", "an older one", "run uv lock in {dir}/project and commit uv.lock", {"project/pyproject.toml": WITHOUT_KIT, "project/uv.lock": KIT["uv.lock"]}),
    Row(21, "uv.lock of another project", {}, "slipway.apps.notes.source.path", "a uv.lock that fits pyproject.toml", "one without other", "run uv lock in {dir}/project and commit uv.lock", {"project/pyproject.toml": PYPROJECT.replace('"notes"', '"other"')}),
    Row(21, "uv.lock that is cut off", {}, "slipway.apps.notes.source.path", "a uv.lock as uv writes it", "one that can't be understood", "run uv lock in {dir}/project and commit uv.lock", {"project/uv.lock": "version = ["}),
    Row(20, "no poetry.lock", {}, "slipway.apps.notes.source.path", "a project with poetry.lock", "none in {dir}/project", "run poetry lock there and commit poetry.lock; or set dependencies.hashes to False, and the first build pins what the project names", {"project/uv.lock": None, "project/pyproject.toml": '[tool.poetry]\nname = "notes"\n'}),
    Row(20, "no pdm.lock", {}, "slipway.apps.notes.source.path", "a project with pdm.lock", "none in {dir}/project", "run pdm lock there and commit pdm.lock; or set dependencies.hashes to False, and the first build pins what the project names", {"project/uv.lock": None, "project/pyproject.toml": PYPROJECT + "[tool.pdm]\n"}),
    Row(20, "lock file that is not there", {"apps.notes.dependencies": {"lock": "requirements/prod.txt"}}, "slipway.apps.notes.dependencies.lock", "a file in {dir}/project", '"requirements/prod.txt"', "correct the path; it is relative to the app's folder"),
    Row(20, "lock file that is an absolute path", {"apps.notes.dependencies": {"lock": "/srv/uv.lock"}}, "slipway.apps.notes.dependencies.lock", "a lock file's path, from the app's folder on: letters, digits and . _ + - /, or None", '"/srv/uv.lock"', "write it relative to the source, without / or ~ at the start"),
    Row(20, "requirements without hashes", {}, "slipway.apps.notes.source.path", "requirements with hashes", "requirements.txt without one of flask, gunicorn", "pin it: uv pip compile --generate-hashes requirements.txt -o requirements.lock.txt, and name that in dependencies.lock; or set dependencies.hashes to False, and the first build pins it", {"project/uv.lock": None, "project/requirements.txt": "flask\ngunicorn==27.0.1\n"}),
    Row(20, "requirements that include a file that is missing", {"apps.notes.dependencies": {"lock": "requirements.txt"}}, "slipway.apps.notes.dependencies.lock", "a requirements file that can be read", "requirements.txt: there is no base.txt in the source", "correct it", {"project/requirements.txt": "-r base.txt\n"}),
    Row(20, "extras with requirements", {"apps.notes.dependencies": {"lock": "requirements.txt", "hashes": False, "extras": ["pg"]}}, "slipway.apps.notes.dependencies.extras", "none with a requirements file", "a list of 1", "remove them, or name the requirements file that has what they need in lock; requirements.txt has no such", {"project/requirements.txt": "flask\n"}),
    Row(20, "extra that the project lacks", {"apps.notes.dependencies": {"extras": ["pg"]}}, "slipway.apps.notes.dependencies.extras", "extras of pyproject.toml", '"pg"', "correct the name, or remove it; it has postgres", {"project/pyproject.toml": PYPROJECT + '[project.optional-dependencies]\npostgres = []\n'}),
    Row(20, "group that the project lacks", {"apps.notes.dependencies": {"groups": ["prod"]}}, "slipway.apps.notes.dependencies.groups", "groups of pyproject.toml", '"prod"', "correct the name, or remove it; it has none"),
    Row(20, "extras that are no list", {"apps.notes.dependencies": {"extras": "pg"}}, "slipway.apps.notes.dependencies.extras", "a list of extras' names", '"pg"', 'write a list in square brackets, such as ["a", "b"]'),
    Row(20, "dependencies that are a list", {"apps.notes.dependencies": ["flask"]}, "slipway.apps.notes.dependencies", "a mapping of options of dependencies", "a list of 1", 'write a mapping, such as {"extras": ["postgres"]}'),
    Row(20, "key to dependencies without known hosts", {"apps.notes.dependencies": {"deploy_key": "key"}}, "slipway.apps.notes.dependencies.deploy_key", "set together with known_hosts", '"key"', "set known_hosts too", {"key": (KEY, 0o600)}),
    Row(20, "hashes that are no switch", {"apps.notes.dependencies": {"hashes": "no"}}, "slipway.apps.notes.dependencies.hashes", "True or False", '"no"', "write True or False, without quotes"),
    Row(20, "a package with an address", {"apps.notes.dependencies": {"more": ["x @ https://x"]}}, "slipway.apps.notes.dependencies.more[0]", "a package, with or without extras and versions", '"x @ https://x"', 'write it as "pymysql", "psycopg[binary]" or "setuptools<81"'),
    Row(20, "a day that there isn't", {"apps.notes.dependencies": {"before": "2026-02-30"}}, "slipway.apps.notes.dependencies.before", 'a day as "2022-12-31", or None', '"2026-02-30"', 'write year, month and day, such as "2022-12-31"'),
    Row(20, "project that is no switch", {"apps.notes.dependencies": {"project": "."}}, "slipway.apps.notes.dependencies.project", "True or False, or None", '"."', "write True or False, without quotes"),
    Row(21, "stale poetry.lock", {}, "slipway.apps.notes.source.path", "a poetry.lock that fits pyproject.toml", "an older one", "run poetry lock in {dir}/project and commit poetry.lock", {"project/uv.lock": None, "project/pyproject.toml": '[tool.poetry]\nname = "notes"\n', "project/poetry.lock": f'[metadata]\nlock-version = "2.1"\ncontent-hash = "{"0" * 64}"\n'}),
    Row(21, "stale pdm.lock", {}, "slipway.apps.notes.source.path", "a pdm.lock that fits pyproject.toml", "an older one", "run pdm lock in {dir}/project and commit pdm.lock", {"project/uv.lock": None, "project/pdm.lock": f'[metadata]\nlock_version = "4.5.1"\ncontent_hash = "sha256:{"0" * 64}"\n'}),
    Row(22, "Python that a project of Poetry refuses", {}, "slipway.apps.notes.python", "a version that the project's [tool.poetry.dependencies] python allows (~3.12)", '"3.13"', 'set python to "3.12"', {"project/uv.lock": None, "project/pyproject.toml": '[tool.poetry.dependencies]\npython = "~3.12"\n', "project/poetry.lock": ""}),
    Row(22, "Python that the project refuses", {"python.version": "3.11"}, "slipway.apps.notes.python", "a version that the project's requires-python allows (>=3.12,<3.14)", '"3.11"', 'set python to "3.13"', {"project/pyproject.toml": PYPROJECT.replace(">=3.11", ">=3.12,<3.14")}),
    Row(22, "Python that Slipway does not know", {"apps.notes.python": "3.9"}, "slipway.apps.notes.python", 'a Python version from "3.10" to "3.14", with or without a patch number, or None', '"3.9"', 'write a string such as "3.13" or "3.13.5"'),
    Row(23, "no workers", {"apps.notes.workers": 0}, "slipway.apps.notes.workers", WORKERS, "0", "write a number from 1 to 256, without quotes"),
    Row(23, "workers below zero", {"apps.notes.workers": -1}, "slipway.apps.notes.workers", WORKERS, "-1", "write a number from 1 to 256, without quotes"),
    Row(23, "workers in words", {"apps.notes.workers": "four"}, "slipway.apps.notes.workers", WORKERS, '"four"', "write a number from 1 to 256, without quotes"),
    Row(23, "10000 workers", {"apps.notes.workers": 10000}, "slipway.apps.notes.workers", WORKERS, "10000", "write a number from 1 to 256, without quotes"),
    Row(24, "no timeout", {"apps.notes.timeout": 0}, "slipway.apps.notes.timeout", SECONDS, "0", "write a number from 1 to 3600, without quotes"),
    Row(24, "timeout below zero", {"apps.notes.graceful_timeout": -5}, "slipway.apps.notes.graceful_timeout", SECONDS, "-5", "write a number from 1 to 3600, without quotes"),
    Row(24, "timeout over an hour", {"apps.notes.timeout": 3601}, "slipway.apps.notes.timeout", SECONDS, "3601", "write a number from 1 to 3600, without quotes"),
    Row(25, "port 0", {"apps.notes.port": 0}, "slipway.apps.notes.port", PORT, "0", "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's"),
    Row(25, "port 70000", {"apps.notes.port": 70000}, "slipway.apps.notes.port", PORT, "70000", "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's"),
    Row(25, "port with a letter", {"apps.notes.port": "80a"}, "slipway.apps.notes.port", PORT, '"80a"', "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's"),
    Row(25, "port of sshd", {"apps.notes.port": 22}, "slipway.apps.notes.port", PORT, "22", "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's"),
    Row(25, "port of nginx", {"apps.notes.port": 443}, "slipway.apps.notes.port", PORT, "443", "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's"),
    Row(25, "port of another app", {"apps.notes.port": 8001, "apps.shop": {**NOTES, "domains": ["b.example.com"], "port": 8001}}, "slipway.apps.shop.port", "a port that no other app has", "8001, also in slipway.apps.notes.port", "choose another"),
    Row(26, "health path without a slash", {"apps.notes.liveness_path": "healthz"}, "slipway.apps.notes.liveness_path", f"{PATH}, or None", '"healthz"', "start it with /"),
    Row(26, "health path as URL", {"apps.notes.readiness_path": "http://127.0.0.1/readyz"}, "slipway.apps.notes.readiness_path", f"{PATH}, or None", '"http://127.0.0.1/readyz"', "write the path alone, without scheme and host"),
    Row(0, "interval of no time", {"apps.notes.readiness_interval": 0}, "slipway.apps.notes.readiness_interval", SECONDS, "0", "write a number from 1 to 3600, without quotes"),
    Row(27, "health path with a line break", {"apps.notes.readiness_path": "/readyz\r\nHost: x"}, "slipway.apps.notes.readiness_path", f"{PATH}, or None", '"/readyz\\r\\nHost: x"', "remove the line break"),
    Row(0, "header that ends a directive", {"apps.notes.headers": {"content_security_policy": "default-src 'self'\"; return 200"}}, "slipway.apps.notes.headers.content_security_policy", HEADER, '"default-src \'self\'\\"; return 200"', HEADER_DO),
    Row(0, "header with a variable of nginx's", {"apps.notes.headers": {"permissions_policy": "camera=($http_x)"}}, "slipway.apps.notes.headers.permissions_policy", HEADER, '"camera=($http_x)"', HEADER_DO),
    Row(0, "header of two lines", {"apps.notes.headers": {"referrer_policy": "no-referrer\r\nSet-Cookie: a=b"}}, "slipway.apps.notes.headers.referrer_policy", HEADER, '"no-referrer\\r\\nSet-Cookie: a=b"', HEADER_DO),
    Row(0, "header that isn't known", {"apps.notes.headers": {"x_frame_option": "DENY"}}, "slipway.apps.notes.headers.x_frame_option", "a setting of slipway.apps.notes.headers", '"x_frame_option", which is unknown', 'rename it to "x_frame_options"'),
    Row(0, "headers that are a list", {"apps.notes.headers": ["X-Frame-Options: DENY"]}, "slipway.apps.notes.headers", "a mapping of headers", "a list of 1", 'write a mapping, such as {"x_frame_options": "SAMEORIGIN"}'),
    Row(0, "HSTS as a number", {"apps.notes.headers": {"strict_transport_security": 63072000}}, "slipway.apps.notes.headers.strict_transport_security", HSTS, "63072000", HSTS_DO),
    Row(0, "HSTS without max-age", {"apps.notes.headers": {"strict_transport_security": "includeSubDomains"}}, "slipway.apps.notes.headers.strict_transport_security", HSTS, '"includeSubDomains"', HSTS_DO),
    Row(0, "HSTS that no list takes", {"apps.notes.headers": {"strict_transport_security": "max-age=63072000; preload"}}, "slipway.apps.notes.headers.strict_transport_security", HSTS, '"max-age=63072000; preload"', "preload needs includeSubDomains and a max-age of at least 31536000 (hstspreload.org)"),
    Row(0, "HSTS with a part twice", {"apps.notes.headers": {"strict_transport_security": "max-age=1; preload; preload"}}, "slipway.apps.notes.headers.strict_transport_security", HSTS, '"max-age=1; preload; preload"', "write each part once"),
    Row(0, "typo in a limit", {"apps.notes.rate_limits": {"/login": {"rate": "1r/s", "brust": 5}}}, 'slipway.apps.notes.rate_limits["/login"].brust', 'a setting of slipway.apps.notes.rate_limits["/login"]', '"brust", which is unknown', 'rename it to "burst"'),
    Row(0, "rate without a unit", {"apps.notes.rate_limits": {"/login": {"rate": "10"}}}, 'slipway.apps.notes.rate_limits["/login"].rate', RATE, '"10"', RATE_DO),
    Row(0, "rate of nothing", {"apps.notes.rate_limits": {"/login": {"rate": "0r/s"}}}, 'slipway.apps.notes.rate_limits["/login"].rate', RATE, '"0r/s"', RATE_DO),
    Row(0, "rate that is missing", {"apps.notes.rate_limits": {"/login": {"burst": 1}}}, 'slipway.apps.notes.rate_limits["/login"].rate', RATE, "nothing", 'add "rate": "10r/m"'),
    Row(0, "burst below zero", {"apps.notes.rate_limits": {"/login": {"rate": "1r/s", "burst": -1}}}, 'slipway.apps.notes.rate_limits["/login"].burst', "a whole number of requests from 0 to 10000", "-1", "write a number from 0 to 10000, without quotes"),
    Row(0, "rate of a path with a pattern", {"apps.notes.rate_limits": {"/api/*": {"rate": "1r/s"}}}, 'slipway.apps.notes.rate_limits["/api/*"]', PATH, '"/api/*"', "write the path alone, without query, spaces or quotes"),
    Row(0, "maintenance in words", {"apps.notes.maintenance": "on"}, "slipway.apps.notes.maintenance", "True or False", '"on"', "write True or False, without quotes"),
    Row(0, "no connections", {"apps.notes.connections_per_client": 0}, "slipway.apps.notes.connections_per_client", "a whole number of connections from 1 to 65535, or None", "0", "write a number from 1 to 65535, without quotes"),
    Row(0, "more connections than nginx counts", {"apps.notes.connections_per_client": 65536}, "slipway.apps.notes.connections_per_client", "a whole number of connections from 1 to 65535, or None", "65536", "write a number from 1 to 65535, without quotes"),
    Row(0, "no uploads", {"apps.notes.uploads_per_client": 0}, "slipway.apps.notes.uploads_per_client", "a whole number of uploads from 1 to 65535, or None", "0", "write a number from 1 to 65535, without quotes"),
    Row(0, "network that isn't one", {"apps.notes.sandbox": {"network": "local"}}, "slipway.apps.notes.sandbox.network", 'one of "internet", "unix"', '"local"', 'write one of "internet", "unix"'),
    Row(0, "sandbox that is off", {"apps.notes.sandbox": False}, "slipway.apps.notes.sandbox", "a mapping of options of the sandbox", "False", 'write a mapping, such as {"network": "unix"}'),
    Row(0, "database out of the sandbox's reach", {"apps.notes.sandbox": {"network": "unix"}, "apps.notes.env": {"DATABASE_URL": "postgresql://notes@localhost/notes"}}, "slipway.apps.notes.sandbox.network", '"internet", because DATABASE_URL names a host', '"unix"', "name the folder of its socket (postgresql:///notes?host=/run/postgresql), or write \"internet\""),
    Row(0, "header timeout of 0", {"nginx.header_timeout": 0}, "slipway.nginx.header_timeout", SECONDS, "0", "write a number from 1 to 3600, without quotes"),
    Row(28, "body size with a space", {"apps.notes.max_body_size": "10 MB"}, "slipway.apps.notes.max_body_size", SIZE, '"10 MB"', 'write it such as "10m", "512k" or "1g", without a space'),
    Row(28, "body size below zero", {"apps.notes.max_body_size": "-1"}, "slipway.apps.notes.max_body_size", SIZE, '"-1"', 'write it such as "10m", "512k" or "1g", without a space'),
    Row(28, "body size as a number", {"apps.notes.max_body_size": 10}, "slipway.apps.notes.max_body_size", SIZE, "10", 'write it such as "10m", "512k" or "1g", without a space'),
    Row(29, "umask that is not octal", {"apps.notes.umask": "999"}, "slipway.apps.notes.umask", UMASK, '"999"', "write \"0027\" (group reads, others nothing) or \"0077\" (nobody else); the owner's bits stay 0, or the app couldn't read its own files"),
    Row(29, "umask as a number", {"apps.notes.umask": 0o027}, "slipway.apps.notes.umask", UMASK, "23", "write \"0027\" (group reads, others nothing) or \"0077\" (nobody else); the owner's bits stay 0, or the app couldn't read its own files"),
    Row(30, "variable with =", {"apps.notes.env": {"A=hidden": "x"}}, 'slipway.apps.notes.env["A…"]', VARIABLE, '"A…"', "rename the variable, in the app too"),
    Row(30, "variable with a space", {"apps.notes.env": {"A B": "x"}}, 'slipway.apps.notes.env["A…"]', VARIABLE, '"A…"', "rename the variable, in the app too"),
    Row(30, "variable that starts with a digit", {"apps.notes.env": {"1A": "x"}}, "slipway.apps.notes.env.1A", VARIABLE, '"1A"', "rename the variable, in the app too"),
    Row(30, "line without = in the .env", ENV, "slipway.apps.notes.env_file", "lines of NAME=value", "line 1 of .env is something else (not shown)", "correct the line: a name, =, and quotes that are closed", {".env": 'hidden\n'}),
    Row(30, "quote that is never closed", ENV, "slipway.apps.notes.env_file", "lines of NAME=value", "line 1 of .env is something else (not shown)", "correct the line: a name, =, and quotes that are closed", {".env": "A='hidden\n"}),
    Row(31, "value with a carriage return", {"apps.notes.env": {"A": "hidden\r\nB=1"}}, "slipway.apps.notes.env.A", TEXT, "a value of type str (not shown)", CARRIAGE),
    Row(31, "value with NUL", {"apps.notes.env": {"A": "hidden\0"}}, "slipway.apps.notes.env.A", TEXT, "a value of type str (not shown)", "it has a NUL character: encode the value (base64) and decode it in the app"),
    Row(31, "carriage return in the .env", ENV, "slipway.apps.notes.env_file: A", TEXT, "a carriage return (not shown)", CARRIAGE, {".env": 'A="hidden\\r\\nB"\n'}),
    Row(31, "NUL in the .env", ENV, "slipway.apps.notes.env_file", "a .env file of text", "a NUL character in line 1", "remove it; no variable can hold it", {".env": 'A=hidden\x00\n'}),
    Row(31, ".env that is not UTF-8", ENV, "slipway.apps.notes.env_file", "a .env file in UTF-8", "other bytes in line 2", "save .env as UTF-8", {".env": b'OK=1\nA=hidden\xff\n'}),
    Row(31, "value that is a list", {"apps.notes.env": {"A": ["hidden"]}}, "slipway.apps.notes.env.A", TEXT, "a value of type list (not shown)", "write a string, a number, True or False"),
    Row(32, "required secret empty", {"apps.notes.env_file": ".env", "apps.notes.required_env": ["SECRET_KEY"]}, "slipway.apps.notes.required_env", "a value for SECRET_KEY", "SECRET_KEY is empty", "set SECRET_KEY in .env", {".env": "SECRET_KEY=\n"}),
    Row(32, "required secret missing", {"apps.notes.required_env": ["SECRET_KEY"]}, "slipway.apps.notes.required_env", "a value for SECRET_KEY", "no SECRET_KEY", "set SECRET_KEY in env or in a .env file that env_file names"),
    Row(32, "build variable missing", {"apps.notes.env_file": ".env", "apps.notes.build_env": ["UV_INDEX_X_PASSWORD"]}, "slipway.apps.notes.build_env", "names of variables in env or env_file", "no UV_INDEX_X_PASSWORD there", "set UV_INDEX_X_PASSWORD in .env", {".env": "A=hidden\n"}),
    Row(33, ".env that others can read", ENV, "slipway.apps.notes.env_file", "a .env file that only you can read", "mode 0644", "chmod 600 {dir}/.env", {".env": ("A=hidden\n", 0o644)}),
    Row(33, "no .env", ENV, "slipway.apps.notes.env_file", "a .env file", "no file {dir}/.env", "create it, or correct the name; it is relative to the inventory"),
    Row(33, "deploy key that others can read", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", "a private SSH key that only you can read", "mode 0640", "chmod 600 {dir}/key", {"key": (KEY, 0o640)}),
    Row(34, "DATABASE_URL without scheme", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "not a URL (not shown)", "write it as postgresql://user:password@host:5432/database", {".env": 'DATABASE_URL=hidden\n'}),
    Row(34, "@ in the password", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "an unescaped @ before the host (not shown)", ENCODE, {".env": 'DATABASE_URL=postgresql://u:hid@den@db/x\n'}),
    Row(34, ": in the password", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "an unescaped : in the password (not shown)", ENCODE, {".env": 'DATABASE_URL=postgresql://u:hid:den@db/x\n'}),
    Row(34, "/ in the password", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "an unescaped /, ? or # before the host (not shown)", ENCODE, {".env": 'DATABASE_URL=postgresql://u:hid/den@db/x\n'}),
    Row(34, "per cent sign in the password", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "a % that isn't followed by two hexadecimal digits (not shown)", ENCODE, {".env": 'DATABASE_URL=postgresql://u:hid%zen@db/x\n'}),
    Row(34, "port of the database", ENV, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "a host or port that can't be read (not shown)", "write host:port with a port from 1 to 65535", {".env": 'DATABASE_URL=postgresql://u:hidden@db:54a2/x\n'}),
    Row(34, "server that isn't known", {"apps.notes.server": "waitress"}, "slipway.apps.notes.server", 'one of "gunicorn", "uvicorn", "granian", "hypercorn"', '"waitress"', 'write one of "gunicorn", "uvicorn", "granian", "hypercorn"'),
    Row(34, "server that would lose requests", {"apps.notes.server": "daphne"}, "slipway.apps.notes.server", 'one of "gunicorn", "uvicorn", "granian", "hypercorn"', '"daphne"', 'write one of "gunicorn", "uvicorn", "granian", "hypercorn": daphne ends requests that are under way when it is stopped, and takes no socket from systemd'),
    Row(34, "driver for another database", {"apps.notes.env_file": ".env", "apps.notes.database_driver": "asyncpg"}, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "a mysql URL (not shown)", "give a postgresql:// URL, or remove database_driver", {".env": "DATABASE_URL=mysql://u:hidden@db/x\n"}),
    Row(34, "parameter that asyncpg does not know", {"apps.notes.env_file": ".env", "apps.notes.database_driver": "asyncpg"}, "slipway.apps.notes.env_file: DATABASE_URL", DATABASE, "libpq's channel_binding (not shown)", "asyncpg doesn't know channel_binding: remove it, or set database_driver to psycopg", {".env": "DATABASE_URL=postgres://u:hidden@db/x?channel_binding=require\n"}),
    Row(34, "driver without DATABASE_URL", {"apps.notes.database_driver": "psycopg"}, "slipway.apps.notes.database_driver", "None without DATABASE_URL", '"psycopg"', "set DATABASE_URL in env or in a .env file that env_file names, or remove database_driver"),
    Row(35, "PATH", {"apps.notes.env": {"PATH": "/hidden"}}, "slipway.apps.notes.env.PATH", VARIABLE, '"PATH"', "remove it; the release's own environment comes first in PATH"),
    Row(35, "LD_PRELOAD", {"apps.notes.env": {"LD_PRELOAD": "hidden"}}, "slipway.apps.notes.env.LD_PRELOAD", VARIABLE, '"LD_PRELOAD"', "remove it; it would load code into every process of the service"),
    Row(35, "NOTIFY_SOCKET in the .env", ENV, "slipway.apps.notes.env_file: NOTIFY_SOCKET", VARIABLE, "NOTIFY_SOCKET, which is reserved", "remove it; systemd sets it for the service", {".env": 'NOTIFY_SOCKET=hidden\n'}),
    Row(35, "FORWARDED_ALLOW_IPS", {"apps.notes.env": {"FORWARDED_ALLOW_IPS": "*"}}, "slipway.apps.notes.env.FORWARDED_ALLOW_IPS", VARIABLE, '"FORWARDED_ALLOW_IPS"', "remove it; nginx alone reaches the app and says who the client is; for a CDN in front set trusted_proxies"),
    Row(35, "WEB_CONCURRENCY", {"apps.notes.env": {"WEB_CONCURRENCY": 4}}, "slipway.apps.notes.env.WEB_CONCURRENCY", VARIABLE, '"WEB_CONCURRENCY"', "remove it and set workers"),
    Row(35, "PORT", {"apps.notes.env": {"PORT": 8000}}, "slipway.apps.notes.env.PORT", VARIABLE, '"PORT"', "remove it and set port"),
    Row(36, "typo in a setting", {"apps.notes.worker": 2}, "slipway.apps.notes.worker", "a setting of slipway.apps.notes", '"worker", which is unknown', 'rename it to "workers"'),
    Row(36, "typo of the host", {"timezon": "Etc/UTC"}, "slipway.timezon", "a setting of slipway", '"timezon", which is unknown', 'rename it to "timezone"'),
    Row(36, "typo in a nested setting", {"acme": {"emial": "ops@example.com"}}, "slipway.acme.emial", "a setting of slipway.acme", '"emial", which is unknown', 'rename it to "email"'),
    Row(36, "setting of an app on the host", {"domains": ["notes.example.com"]}, "slipway.domains", "a setting of slipway", '"domains", which is unknown', "move it to slipway.apps.<app>.domains"),
    Row(36, "setting of the host in an app", {"apps.notes.packages": ["curl"]}, "slipway.apps.notes.packages", "a setting of slipway.apps.notes", '"packages", which is unknown', "move it to slipway.packages"),
    Row(36, "typo in the source", {"apps.notes.source": {"gti": "https://git.example.com/a.git"}}, "slipway.apps.notes.source", SOURCE, 'a mapping with "gti"', 'rename "gti" to "git"'),
    Row(36, "both sources", {"apps.notes.source": {"git": "https://git.example.com/a.git", "path": "project"}}, "slipway.apps.notes.source", SOURCE, 'a mapping with "git", "path"', "remove one of git and path"),
    Row(0, "time for slow readers", {"nginx.send_timeout": 0}, "slipway.nginx.send_timeout", SECONDS, "0", "write a number from 1 to 3600, without quotes"),
    Row(36, "setting that nothing resembles", {"nginx.quux": 1}, "slipway.nginx.quux", "a setting of slipway.nginx", '"quux", which is unknown', "remove it; known here are worker_connections, header_timeout, body_timeout, send_timeout, sandbox, brotli, extra"),
    Row(36, "switch in quotes", {"nginx.brotli": "on"}, "slipway.nginx.brotli", "True or False", '"on"', "write True or False, without quotes"),
    Row(37, "yes for True", {"acme.staging": "yes"}, "slipway.acme.staging", "True or False", '"yes"', "write True or False, without quotes"),
    Row(37, "True for a number", {"apps.notes.workers": True}, "slipway.apps.notes.workers", WORKERS, "True", "write a number from 1 to 256, without quotes"),
    Row(37, "number for a text", {"python.version": 3.13}, "slipway.python.version", 'a Python version from "3.10" to "3.14", with or without a patch number', "3.13", 'write a string such as "3.13" or "3.13.5"'),
    Row(37, "text for a list", {"apps.notes.domains": "notes.example.com"}, "slipway.apps.notes.domains", "a list of 1 to 100 host names", '"notes.example.com"', 'write a list, such as ["notes.example.com"]'),
    Row(37, "list for a mapping", {"apps.notes.env": ["A=hidden"]}, "slipway.apps.notes.env", "a mapping of variable names to text, numbers, True or False", "a list of 1", 'write a mapping, such as {"LOG_LEVEL": "info"}'),
    Row(37, "text for TLS", {"apps.notes.tls": "off"}, "slipway.apps.notes.tls", "a mapping of options of TLS", '"off"', 'write a mapping, such as {"mode": "acme"}'),
    Row(37, "text for an app", {"apps": {"notes": "notes.main:app"}}, "slipway.apps.notes", "a mapping of the app's settings", '"notes.main:app"', 'write {"domains": […], "source": {…}, "app": "notes.main:app"}'),
    Row(37, "no app", {"apps": {}}, "slipway.apps", "a mapping of names to apps, at least one", "an empty mapping", 'write a mapping, such as {"notes": {"domains": […], "source": {…}, "app": "notes.main:app"}}'),
    Row(37, "setting that is missing", {"apps.notes.domains": ...}, "slipway.apps.notes.domains", "a list of 1 to 100 host names", "nothing", 'add "domains": ["notes.example.com"]'),
    Row(38, "variable twice in the .env", ENV, "slipway.apps.notes.env_file: A", "each variable once", "A in lines 1, 3", "keep one of the lines", {".env": 'A=hidden\nB=1\nA=hidden\n'}),
    Row(38, "variable here and in the .env", {"apps.notes.env_file": ".env", "apps.notes.env": {"A": "hidden"}}, "slipway.apps.notes.env.A", "each variable once", "A also in .env", "remove it here or in .env", {".env": "A=hidden\n"}),
    Row(39, "e-mail without a domain", {"acme.email": "ops@"}, "slipway.acme.email", "an e-mail address, or None", '"ops@"', 'write it such as "ops@example.com"'),
    Row(39, "e-mail with a line break", {"acme.email": "ops@example.com\nx"}, "slipway.acme.email", "an e-mail address, or None", '"ops@example.com\\nx"', 'write it such as "ops@example.com"'),
    Row(40, "ACME directory without TLS", {"acme.directory": "http://acme.example.com/dir"}, "slipway.acme.directory", "the https:// URL of an ACME directory, or None", '"http://acme.example.com/dir"', "start it with https://"),
    Row(40, "ACME directory and staging", {"acme.directory": "https://acme.example.com/dir", "acme.staging": True}, "slipway.acme.staging", "False with a directory of your own", "True", "remove staging; it is Let's Encrypt's alone"),
    Row(40, "half an account binding", {"acme.eab_key_id": "kid-1"}, "slipway.acme.eab_hmac_key_name", "both eab_key_id and eab_hmac_key_name, or none", "None", "set eab_hmac_key_name too"),
    Row(40, "account binding without its key", {"acme.eab_key_id": "kid-1", "acme.eab_hmac_key_name": "hidden"}, "slipway.acme.eab_hmac_key_name", "the name of a variable in the host's env_file", "no such variable with a value (not shown)", "put the HMAC key into the .env file that slipway.env_file names, and its variable's name here"),
    Row(41, "no deploy key", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", KEY_FILE, "no file {dir}/key", "create it, or correct the name; it is relative to the inventory"),
    Row(41, "pasted deploy key", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": KEY.decode()}}, "slipway.apps.notes.source.deploy_key", "a path on this machine, relative to the inventory, or None", "key material (not shown)", "save it to a file beside the inventory (chmod 600), and write the file's name here"),
    Row(41, "public key as deploy key", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", KEY_FILE, "a public key in {dir}/key", "name the private key", {"key": "ssh-ed25519 AAAAhidden me@host\n"}),
    Row(41, "something else as deploy key", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", KEY_FILE, "something else in {dir}/key", "name the private key", {"key": "hidden\n"}),
    Row(41, "deploy key with a passphrase", {"apps.notes.source": {"git": "git@git.example.com:a/b.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", "a private SSH key without passphrase", "{dir}/key has one", "ssh-keygen -p -N '' -f {dir}/key", {"key": CLOSED_KEY}),
    Row(41, "deploy key for https", {"apps.notes.source": {"git": "https://git.example.com/a.git", "deploy_key": "key"}}, "slipway.apps.notes.source.deploy_key", "set with an SSH address alone", '"https://git.example.com/a.git"', "write git as an SSH address (git@host:path), or remove deploy_key", {"key": (KEY, 0o600)}),
    Row(43, "network with host bits", {"apps.notes.trusted_proxies": ["10.1.2.3/8"]}, "slipway.apps.notes.trusted_proxies[0]", NETWORK, '"10.1.2.3/8"', 'it has host bits: write "10.0.0.0/8"'),
    Row(43, "every IPv4 address trusted", {"apps.notes.trusted_proxies": ["0.0.0.0/0"]}, "slipway.apps.notes.trusted_proxies[0]", NETWORK, '"0.0.0.0/0"', "name the proxies' own networks: with /0 every client could forge its address"),
    Row(43, "every IPv6 address trusted", {"apps.notes.trusted_proxies": ["::/0"]}, "slipway.apps.notes.trusted_proxies[0]", NETWORK, '"::/0"', "name the proxies' own networks: with /0 every client could forge its address"),
    Row(43, "name for a network", {"apps.notes.trusted_proxies": ["cdn.example.com"]}, "slipway.apps.notes.trusted_proxies[0]", NETWORK, '"cdn.example.com"', "write the network's first address, a slash and the number of its bits"),
    Row(0, "time without minutes", {"updates.reboot": "4"}, "slipway.updates.reboot", 'a time of day from "00:00" to "23:59", or None', '"4"', 'write hours and minutes, such as "04:30"'),
    Row(0, "time after midnight's", {"updates.reboot": "24:00"}, "slipway.updates.reboot", 'a time of day from "00:00" to "23:59", or None', '"24:00"', 'write hours and minutes, such as "04:30"'),
    Row(0, "address for an origin", {"updates.origins": ["https://apt.postgresql.org"]}, "slipway.updates.origins[0]", ORIGIN, '"https://apt.postgresql.org"', ORIGIN_DO),
    Row(0, "origin that leaves its quotes", {"updates.origins": ['site=x"; }; DPkg::Pre-Invoke { "id']}, "slipway.updates.origins[0]", ORIGIN, '"site=x\\"; }; DPkg::Pre-Invoke { \\"id"', ORIGIN_DO),
    Row(0, "kernel setting as a path", {"system.sysctl": {"/proc/sys/vm/swappiness": 1}}, 'slipway.system.sysctl["/proc/sys/vm/swappiness"]', SYSCTL, '"/proc/sys/vm/swappiness"', 'write it as "vm.swappiness"'),
    Row(0, "kernel setting with a line break", {"system.sysctl": {"vm.swappiness": "1\nkernel.core_pattern=|/x"}}, 'slipway.system.sysctl["vm.swappiness"]', "a kernel setting's value: a number, a text of one line, or None", '"1\\nkernel.core_pattern=|/x"', 'write it as `sysctl` shows it, such as 1 or "4096 87380 6291456"'),
    Row(0, "switch for a kernel setting", {"system.sysctl": {"vm.swappiness": True}}, 'slipway.system.sysctl["vm.swappiness"]', "a kernel setting's value: a number, a text of one line, or None", "True", 'write it as `sysctl` shows it, such as 1 or "4096 87380 6291456"'),
    Row(0, "module with its options", {"system.denied_modules": ["dccp /bin/true"]}, "slipway.system.denied_modules[0]", "the name of a kernel module", '"dccp /bin/true"', "write the name as lsmod shows it: letters, digits, _ and -"),
    Row(0, "banner of two lines", {"system.banner": "Keep\nout"}, "slipway.system.banner", "a text of one line, of at most 500 characters, or None", '"Keep\\nout"', "write it without a line break and without a backslash, which getty would interpret"),
    Row(0, "umask of logins as a number", {"system.umask": 0o027}, "slipway.system.umask", f"{UMASK}, or None", "23", "write \"0027\" (group reads, others nothing) or \"0077\" (nobody else); the owner's bits stay 0, or the app couldn't read its own files"),
    Row(0, "swap with a unit", {"system.swap_mb": "1G"}, "slipway.system.swap_mb", "a whole number of MB from 0 to 65536, or None", '"1G"', "write a number from 0 to 65536, without quotes"),
    Row(0, "text for updates", {"updates": "security"}, "slipway.updates", "a mapping of options of updates", '"security"', 'write a mapping, such as {"reboot": "04:30"}'),
    Row(36, "typo in the system", {"system.swap": 512}, "slipway.system.swap", "a setting of slipway.system", '"swap", which is unknown', 'rename it to "swap_mb"'),
    Row(0, "migration with a shell's operator", {"apps.notes.migrate": "alembic upgrade head && echo"}, "slipway.apps.notes.migrate", '"auto", or one command with its arguments, or None', '"alembic upgrade head && echo"', "it has &&, but runs without a shell: write one command, or sh -c '…'"),
    Row(0, "migration with an open quote", {"apps.notes.migrate": "alembic 'upgrade"}, "slipway.apps.notes.migrate", '"auto", or one command with its arguments, or None', "\"alembic 'upgrade\"", "close the quote"),
    Row(0, "configuration of migrations that is absolute", {"apps.notes.migrate_config": "/srv/notes/current/alembic.ini"}, "slipway.apps.notes.migrate_config", "a file inside the app's folder: letters, digits and . _ + - /, or None", '"/srv/notes/current/alembic.ini"', "write it relative to the source, without / or ~ at the start"),
    Row(0, "configuration of migrations above the app", {"apps.notes.migrate_config": "../alembic.ini"}, "slipway.apps.notes.migrate_config", "a file inside the app's folder: letters, digits and . _ + - /, or None", '"../alembic.ini"', "write it without .. ; for what lies above, point the source there"),
    Row(0, "configuration of migrations that aren't run", {"apps.notes.migrate": None, "apps.notes.migrate_config": "db/alembic.ini"}, "slipway.apps.notes.migrate_config", 'None unless migrate is "auto"', '"db/alembic.ini"', 'remove it, or write "auto" for migrate'),
    Row(0, "configuration of another server", {"apps.notes.server": "uvicorn", "apps.notes.server_config": "gunicorn.conf.py"}, "slipway.apps.notes.server_config", 'left out with server "uvicorn"', '"gunicorn.conf.py"', "it is for Gunicorn alone: leave it out"),
    Row(0, "jitter without max_requests", {"apps.notes.max_requests_jitter": 50}, "slipway.apps.notes.max_requests_jitter", "0 without max_requests", "50", "set max_requests too, such as 10000, or remove max_requests_jitter"),
    Row(0, "lock timeout of 0", {"apps.notes.migrate_lock_timeout": 0}, "slipway.apps.notes.migrate_lock_timeout", "a whole number of seconds from 1 to 600", "0", "write a number from 1 to 600, without quotes"),
    Row(0, "lock timeout over ten minutes", {"apps.notes.migrate_lock_timeout": 601}, "slipway.apps.notes.migrate_lock_timeout", "a whole number of seconds from 1 to 600", "601", "write a number from 1 to 600, without quotes"),
    Row(0, "lock timeout with a unit", {"apps.notes.migrate_lock_timeout": "5s"}, "slipway.apps.notes.migrate_lock_timeout", "a whole number of seconds from 1 to 600", '"5s"', "write a number from 1 to 600, without quotes"),
    Row(0, "no lock timeout", {"apps.notes.migrate_lock_timeout": None}, "slipway.apps.notes.migrate_lock_timeout", "a whole number of seconds from 1 to 600", "None", "write a number from 1 to 600, without quotes"),
    Row(0, "statement timeout of 0", {"apps.notes.migrate_statement_timeout": 0}, "slipway.apps.notes.migrate_statement_timeout", "a whole number of seconds from 1 to 86400, or None", "0", "write a number from 1 to 86400, without quotes"),
    Row(0, "statement timeout over a day", {"apps.notes.migrate_statement_timeout": 86_401}, "slipway.apps.notes.migrate_statement_timeout", "a whole number of seconds from 1 to 86400, or None", "86401", "write a number from 1 to 86400, without quotes"),
    Row(0, "statement timeout with a fraction", {"apps.notes.migrate_statement_timeout": 7.5}, "slipway.apps.notes.migrate_statement_timeout", "a whole number of seconds from 1 to 86400, or None", "7.5", "write a number from 1 to 86400, without quotes"),
    Row(0, "statement timeout within the lock's", {"apps.notes.migrate_statement_timeout": 5}, "slipway.apps.notes.migrate_statement_timeout", "more than migrate_lock_timeout (5), because waiting for a lock counts", "5", "write a larger number, or lower migrate_lock_timeout too"),
    Row(0, "statement timeout over the migration's", {"apps.notes.migrate_statement_timeout": 601}, "slipway.apps.notes.migrate_statement_timeout", "at most migrate_timeout (600)", "601", "write a smaller number, or raise migrate_timeout too"),
    Row(0, "retries below zero", {"apps.notes.migrate_retries": -1}, "slipway.apps.notes.migrate_retries", "a whole number of retries from 0 to 100", "-1", "write a number from 0 to 100, without quotes"),
    Row(0, "101 retries", {"apps.notes.migrate_retries": 101}, "slipway.apps.notes.migrate_retries", "a whole number of retries from 0 to 100", "101", "write a number from 0 to 100, without quotes"),
    Row(0, "watch below zero", {"apps.notes.watch": -1}, "slipway.apps.notes.watch", "a whole number of seconds from 0 to 600", "-1", "write a number from 0 to 600, without quotes"),
    Row(0, "watch over ten minutes", {"apps.notes.watch": 601}, "slipway.apps.notes.watch", "a whole number of seconds from 0 to 600", "601", "write a number from 0 to 600, without quotes"),
    Row(0, "switch for the watch", {"apps.notes.watch": False}, "slipway.apps.notes.watch", "a whole number of seconds from 0 to 600", "False", "write a number from 0 to 600, without quotes"),
    Row(0, "drain below zero", {"apps.notes.drain_timeout": -1}, "slipway.apps.notes.drain_timeout", "a whole number of seconds from 0 to 3600", "-1", "write a number from 0 to 3600, without quotes"),
    Row(0, "drain over an hour", {"apps.notes.drain_timeout": 3601}, "slipway.apps.notes.drain_timeout", "a whole number of seconds from 0 to 3600", "3601", "write a number from 0 to 3600, without quotes"),
    Row(0, "warm for less than no time", {"apps.notes.keep_warm": -1}, "slipway.apps.notes.keep_warm", "a whole number of seconds from 0 to 86400", "-1", "write a number from 0 to 86400, without quotes"),
    Row(0, "warm over a day", {"apps.notes.keep_warm": 86_401}, "slipway.apps.notes.keep_warm", "a whole number of seconds from 0 to 86400", "86401", "write a number from 0 to 86400, without quotes"),
    Row(0, "wait for the lock below zero", {"apps.notes.lock_wait": -1}, "slipway.apps.notes.lock_wait", "a whole number of seconds from 0 to 3600", "-1", "write a number from 0 to 3600, without quotes"),
    Row(0, "wait for the lock over an hour", {"apps.notes.lock_wait": 3601}, "slipway.apps.notes.lock_wait", "a whole number of seconds from 0 to 3600", "3601", "write a number from 0 to 3600, without quotes"),
    Row(0, "typo in a time of the release", {"apps.notes.keep_wrm": 0}, "slipway.apps.notes.keep_wrm", "a setting of slipway.apps.notes", '"keep_wrm", which is unknown', 'rename it to "keep_warm"'),
    Row(0, "text for the hooks", {"apps.notes.hooks": "bin/hook"}, "slipway.apps.notes.hooks", "a mapping of hooks", '"bin/hook"', 'write a mapping, such as {"after_switch": "bin/after-switch"}'),
    Row(0, "typo in a hook", {"apps.notes.hooks": {"after_swich": "true"}}, "slipway.apps.notes.hooks.after_swich", "a setting of slipway.apps.notes.hooks", '"after_swich", which is unknown', 'rename it to "after_switch"'),
    Row(0, "hook beside the hooks", {"apps.notes.on_failure": "true"}, "slipway.apps.notes.on_failure", "a setting of slipway.apps.notes", '"on_failure", which is unknown', "move it to slipway.apps.<app>.hooks.on_failure"),
    Row(0, "hook that is a list", {"apps.notes.hooks": {"on_failure": ["bin/tell", "me"]}}, "slipway.apps.notes.hooks.on_failure", HOOK, "a list of 2", HOOK_DO),
    Row(0, "hook without a word", {"apps.notes.hooks": {"on_failure": " "}}, "slipway.apps.notes.hooks.on_failure", HOOK, '" "', HOOK_DO),
    Row(0, "hook with a line break", {"apps.notes.hooks": {"on_failure": "true\nfalse"}}, "slipway.apps.notes.hooks.on_failure", HOOK, '"true\\nfalse"', HOOK_DO),
    Row(0, "hook named auto", {"apps.notes.hooks": {"before_migrate": "auto"}}, "slipway.apps.notes.hooks.before_migrate", HOOK, '"auto"', 'write the command, or None; "auto" is for migrate alone'),
    Row(0, "hook with a shell's operator", {"apps.notes.hooks": {"after_migrate": "a | b"}}, "slipway.apps.notes.hooks.after_migrate", HOOK, '"a | b"', "it has |, but runs without a shell: write one command, or sh -c '…'"),
    Row(0, "hook with an open quote", {"apps.notes.hooks": {"after_switch": "echo 'done"}}, "slipway.apps.notes.hooks.after_switch", HOOK, '"echo \'done"', "close the quote"),
    Row(0, "hook without time", {"apps.notes.hooks": {"timeout": 0}}, "slipway.apps.notes.hooks.timeout", SECONDS, "0", "write a number from 1 to 3600, without quotes"),
    Row(0, "text for the processes", {"apps.notes.processes": "celery"}, "slipway.apps.notes.processes", "a mapping of names to processes", '"celery"', 'write a mapping, such as {"worker": {"command": "celery -A notes worker"}}'),
    Row(0, "process called web", {"apps.notes.processes": {"web": {"command": "true"}}}, "slipway.apps.notes.processes.web", "a name of 1 to 30 lower-case letters, digits and hyphens that starts with a letter", '"web"', "choose another name: web is the process that answers requests"),
    Row(0, "process with a dot", {"apps.notes.processes": {"a.b": {"command": "true"}}}, "slipway.apps.notes.processes[\"a.b\"]", "a name of 1 to 30 lower-case letters, digits and hyphens that starts with a letter", '"a.b"', "choose a name such as worker; its units are called after it"),
    Row(0, "process without a command", {"apps.notes.processes": {"worker": {}}}, "slipway.apps.notes.processes.worker.command", "one command with its arguments", "nothing", 'add "command": "celery -A notes worker"'),
    Row(0, "no process of a process", {"apps.notes.processes": {"worker": {"command": "true", "count": 0}}}, "slipway.apps.notes.processes.worker.count", "a whole number of processes from 1 to 64", "0", "write a number from 1 to 64, without quotes"),
    Row(0, "signal that can't be caught", {"apps.notes.processes": {"worker": {"command": "true", "stop_signal": "SIGKILL"}}}, "slipway.apps.notes.processes.worker.stop_signal", 'one of "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"', '"SIGKILL"', 'write one of "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"'),
    Row(0, "two schedulers that are alone", {"apps.notes.processes": {"beat": {"command": "true", "alone": True, "count": 2}}}, "slipway.apps.notes.processes.beat.count", "1 with alone", "2", "remove it, or remove alone"),
    Row(0, "program of a process that isn't there", {"apps.notes.processes": {"worker": {"command": "bin/work"}}}, "slipway.apps.notes.processes.worker.command", PROGRAM, 'no file "bin/work" there', "correct the path: it starts in the app's folder"),
    Row(0, "text for the jobs", {"apps.notes.jobs": "daily"}, "slipway.apps.notes.jobs", "a mapping of names to jobs", '"daily"', 'write a mapping, such as {"cleanup": {"command": "python -m notes.cleanup", "schedule": "daily"}}'),
    Row(0, "job without a time", {"apps.notes.jobs": {"cleanup": {"command": "true"}}}, "slipway.apps.notes.jobs.cleanup.schedule", SCHEDULE, "nothing", 'add "schedule": "30 3 * * *"'),
    Row(0, "job at no time", {"apps.notes.jobs": {"cleanup": {"command": "true", "schedule": "soon"}}}, "slipway.apps.notes.jobs.cleanup.schedule", SCHEDULE, '"soon"', SCHEDULE_DO),
    Row(0, "job in the sixtieth minute", {"apps.notes.jobs": {"cleanup": {"command": "true", "schedule": "60 * * * *"}}}, "slipway.apps.notes.jobs.cleanup.schedule", SCHEDULE, '"60 * * * *"', "write numbers from 0 to 59 as the minute"),
    Row(0, "job with a pipe", {"apps.notes.jobs": {"cleanup": {"command": "a | b", "schedule": "daily"}}}, "slipway.apps.notes.jobs.cleanup.command", "one command with its arguments", '"a | b"', "it has |, but runs without a shell: write one command, or sh -c '…'"),
    Row(0, "workers beside a scheduler", {"apps.notes.scheduler_in_web": True, "apps.notes.workers": 2}, "slipway.apps.notes.workers", "1 with scheduler_in_web", "2", "remove it, or move the scheduler to a process that is alone, and remove scheduler_in_web"),
    Row(0, "warm beside a scheduler", {"apps.notes.scheduler_in_web": True, "apps.notes.keep_warm": 60}, "slipway.apps.notes.keep_warm", "0 with scheduler_in_web", "60", "remove it, or move the scheduler to a process that is alone, and remove scheduler_in_web"),
    Row(0, "hook over an hour", {"apps.notes.hooks": {"timeout": 3601}}, "slipway.apps.notes.hooks.timeout", SECONDS, "3601", "write a number from 1 to 3600, without quotes"),
    Row(0, "program of a hook with a typo", {"apps.notes.hooks": {"after_switch": "./wram --quick"}}, "slipway.apps.notes.hooks.after_switch", PROGRAM, 'no file "./wram" there', 'write "warm"', {"project/warm": ("#!/bin/sh\n", 0o755)}),
    Row(0, "program of a hook that is nowhere", {"apps.notes.hooks": {"after_switch": "quux/xyzzy"}}, "slipway.apps.notes.hooks.after_switch", PROGRAM, 'no file "quux/xyzzy" there', "correct the path: it starts in the app's folder"),
    Row(0, "program of a hook that is a folder", {"apps.notes.hooks": {"after_switch": "./"}}, "slipway.apps.notes.hooks.after_switch", PROGRAM, 'no file "./" there', "correct the path: it starts in the app's folder"),
    Row(0, "program of a hook with a name too long", {"apps.notes.hooks": {"after_switch": "./" + "x" * 300}}, "slipway.apps.notes.hooks.after_switch", PROGRAM, f'no file "./{"x" * 117}…" (302 characters) there', "correct the path: it starts in the app's folder"),
    Row(0, "program of a hook that is not executable", {"apps.notes.hooks": {"on_failure": "./warm"}}, "slipway.apps.notes.hooks.on_failure", "a command whose program is executable", 'mode 0644 of "./warm"', "chmod +x {dir}/project/warm", {"project/warm": ("#!/bin/sh\n", 0o644)}),
    Row(0, "program of a hook outside the source", {"apps.notes.hooks": {"before_migrate": "../warm"}}, "slipway.apps.notes.hooks.before_migrate", PROGRAM, '"../warm", which stays at home: no release has it', AT_HOME, {"warm": ("#!/bin/sh\n", 0o755)}),
    Row(0, "program of a hook that is left out", {"apps.notes.hooks": {"before_migrate": "./.env"}}, "slipway.apps.notes.hooks.before_migrate", PROGRAM, '"./.env", which stays at home: no release has it', AT_HOME, {"project/.env": ("A=hidden\n", 0o700)}),
    Row(0, "list for the probe", {"apps.notes.probe": ["/healthz"]}, "slipway.apps.notes.probe", "a mapping of options of the probe", "a list of 1", 'write a mapping, such as {"short": ["/healthz"]}'),
    Row(0, "typo in the probe", {"apps.notes.probe": {"web_socket": "/ws"}}, "slipway.apps.notes.probe.web_socket", "a setting of slipway.apps.notes.probe", '"web_socket", which is unknown', 'rename it to "websocket"'),
    Row(0, "text for a list of paths", {"apps.notes.probe": {"short": "/healthz"}}, "slipway.apps.notes.probe.short", "a list of paths, each with or without a query", '"/healthz"', 'write a list in square brackets, such as ["a", "b"]'),
    Row(0, "probe's path without a slash", {"apps.notes.probe": {"short": ["/healthz", "api"]}}, "slipway.apps.notes.probe.short[1]", TARGET, '"api"', "start it with /"),
    Row(0, "probe's path as URL", {"apps.notes.probe": {"websocket": "wss://notes.example.com/ws"}}, "slipway.apps.notes.probe.websocket", f"{TARGET}, or None", '"wss://notes.example.com/ws"', "write the path alone, without scheme and host"),
    Row(0, "probe's path upwards", {"apps.notes.probe": {"stream": "/a/../b"}}, "slipway.apps.notes.probe.stream", f"{TARGET}, or None", '"/a/../b"', "write it without .."),
    Row(0, "probe's path with a fragment", {"apps.notes.probe": {"stream": "/a#b"}}, "slipway.apps.notes.probe.stream", f"{TARGET}, or None", '"/a#b"', "write the path, and the query after one ?, without spaces or quotes"),
    Row(0, "probe's query with a space", {"apps.notes.probe": {"slow": "/slow?for=1 s"}}, "slipway.apps.notes.probe.slow", f"{TARGET}, or None", '"/slow?for=1 s"', QUERY),
    Row(0, "probe's query with a line break", {"apps.notes.probe": {"slow": "/slow?a=1\r\nHost: x"}}, "slipway.apps.notes.probe.slow", f"{TARGET}, or None", '"/slow?a=1\\r\\nHost: x"', QUERY),
    Row(0, "probe's query that is empty", {"apps.notes.probe": {"slow": "/slow?"}}, "slipway.apps.notes.probe.slow", f"{TARGET}, or None", '"/slow?"', QUERY),
    Row(0, "probe's query with a per cent sign", {"apps.notes.probe": {"upload": "/upload?part=5%"}}, "slipway.apps.notes.probe.upload", f"{TARGET}, or None", '"/upload?part=5%"', "write two hexadecimal digits after %; a per cent sign itself is %25"),
    Row(0, "one connection of the probe", {"apps.notes.probe": {"connections": 1}}, "slipway.apps.notes.probe.connections", "a whole number of connections from 2 to 500", "1", "write a number from 2 to 500, without quotes"),
    Row(0, "501 connections of the probe", {"apps.notes.probe": {"connections": 501}}, "slipway.apps.notes.probe.connections", "a whole number of connections from 2 to 500", "501", "write a number from 2 to 500, without quotes"),
    Row(0, "no rate of the probe", {"apps.notes.probe": {"rate": 0}}, "slipway.apps.notes.probe.rate", "a whole number of requests a second from 1 to 1000", "0", "write a number from 1 to 1000, without quotes"),
    Row(0, "1001 requests a second", {"apps.notes.probe": {"rate": 1001}}, "slipway.apps.notes.probe.rate", "a whole number of requests a second from 1 to 1000", "1001", "write a number from 1 to 1000, without quotes"),
    Row(0, "static files over everything", {"apps.notes.static": {"path": "static", "url": "/"}}, "slipway.apps.notes.static.url", "a path that starts and ends with /, such as /static/", '"/"', "choose a prefix such as /static/: with / nothing would reach the app"),
    Row(0, "static folder outside the app", {"apps.notes.static": {"path": "../static"}}, "slipway.apps.notes.static.path", "a folder inside the app's folder: letters, digits and . _ + - /", '"../static"', "write it without .. ; for what lies above, point the source there"),
    Row(0, "static files over the health path", {"apps.notes.static": {"path": "static"}, "apps.notes.liveness_path": "/static/up"}, "slipway.apps.notes.static.url", "a prefix that no health path starts with", '"/static/"', "choose another url: the app couldn't answer its liveness or readiness path"),
    Row(0, "number for static files", {"apps.notes.static": 3}, "slipway.apps.notes.static", f"{STATIC}, or None", "3", 'write a mapping, such as {"path": "static"}'),
    Row(0, "one of several static folders without a path", {"apps.notes.static": [{"path": "a"}, {"url": "/b/"}]}, "slipway.apps.notes.static[1].path", INNER, "nothing", 'add "path": "static"'),
    Row(0, "typo in one of several static folders", {"apps.notes.static": [{"path": "a", "max_ag": 3}]}, "slipway.apps.notes.static[0].max_ag", "a setting of slipway.apps.notes.static[0]", '"max_ag", which is unknown', 'rename it to "max_age"'),
    Row(0, "two static folders at one address", {"apps.notes.static": [{"path": "a"}, {"path": "b"}]}, "slipway.apps.notes.static[1].url", "a prefix of its own for each folder", '"/static/"', "choose another url"),
    Row(0, "unknown word for what never changes", {"apps.notes.static": {"path": "a", "immutable": "yes"}}, "slipway.apps.notes.static.immutable", 'one of "hashed", "all", "none"', '"yes"', 'write one of "hashed", "all", "none"'),
    Row(0, "text for build commands", {"apps.notes.build": "npm ci"}, "slipway.apps.notes.build", "a list of commands", '"npm ci"', 'write a list in square brackets, such as ["a", "b"]'),
    Row(0, "build command that needs a shell", {"apps.notes.build": ["npm ci && npm run build"]}, "slipway.apps.notes.build[0]", "one command with its arguments", '"npm ci && npm run build"', "it has &&, but runs without a shell: write one command, or sh -c '…'"),
    Row(0, "build command of variables alone", {"apps.notes.build": ["A=b"]}, "slipway.apps.notes.build[0]", "one command with its arguments", '"A=b"', "write a command behind the variables"),
    Row(0, "number for node", {"apps.notes.node": 18}, "slipway.apps.notes.node", "True or False", "18", "write True or False, without quotes"),
    Row(0, "shared folder outside the app", {"apps.notes.shared": ["/data"]}, "slipway.apps.notes.shared[0]", INNER, '"/data"', "write it relative to the source, without / or ~ at the start"),
    Row(0, "shared folder in another", {"apps.notes.shared": ["media", "media/cats"]}, "slipway.apps.notes.shared[1]", APART, '"media/cats"', 'remove it, or "media": one has the other'),
    Row(0, "shared environment", {"apps.notes.shared": [".venv/x"]}, "slipway.apps.notes.shared[0]", "a path that a release has no use for", '".venv/x"', "choose another path: that one is the release's own"),
    Row(0, "shared file in a shared folder", {"apps.notes.shared": ["data"], "apps.notes.shared_files": {"data/db.sqlite3": {"writable": True}}}, 'slipway.apps.notes.shared_files["data/db.sqlite3"]', APART, '"data/db.sqlite3"', 'remove it, or "data": one has the other'),
    Row(0, "shared file that is not there", {"apps.notes.shared_files": {".env": "app.env"}}, 'slipway.apps.notes.shared_files[".env"]', "a file of yours", "no file {dir}/app.env", "create it, or correct the name; it is relative to the inventory"),
    Row(0, "shared file that others can read", {"apps.notes.shared_files": {"a": "app.env"}}, "slipway.apps.notes.shared_files.a", "a file of yours that only you can read", "mode 0644", "chmod 600 {dir}/app.env", {"app.env": ("A=hidden\n", 0o644)}),
    Row(0, "shared file that is not writable", {"apps.notes.shared_files": {"a": {"writable": False}}}, "slipway.apps.notes.shared_files.a", 'a file on this machine, relative to the inventory, or {"writable": True}', "a mapping of 1", 'write the file\'s name, or {"writable": True} for a file that the app writes'),
    Row(0, "shared file upwards", {"apps.notes.shared_files": {"../a": {"writable": True}}}, 'slipway.apps.notes.shared_files["../a"]', "a file inside the app's folder: letters, digits and . _ + - /", '"../a"', "write it without .. ; for what lies above, point the source there"),
    Row(0, "secret among static files", {"apps.notes.static": {"path": "web"}, "apps.notes.shared_files": {"web/a": "app.env"}}, 'slipway.apps.notes.shared_files["web/a"]', "a path outside of static folders", '"web/a"', "choose another path: nginx would serve it", {"app.env": ("A=hidden\n", 0o600)}),
    Row(0, "included file that is not there", {"apps.notes.source": {"path": "project", "include": ["dist"]}}, "slipway.apps.notes.source.include[0]", "a file or a folder in {dir}/project", '"dist", which is not there', "build it first, or correct the name"),
    Row(0, "nginx file that is not there", {"nginx.extra": "extra.conf"}, "slipway.nginx.extra", "a file with nginx directives", "no file {dir}/extra.conf", "create it, or correct the name; it is relative to the inventory"),
    Row(0, "another uv without its hash", {"python.uv.version": "0.14.0"}, "slipway.python.uv.sha256", "a SHA-256 for another uv than 0.13.8", "uv 0.14.0 without its SHA-256", "copy the SHA-256 of the manylinux wheels from https://pypi.org/project/uv/#files"),
    Row(0, "hash that is none", {"python.uv.sha256": {"x86_64": "abc"}}, "slipway.python.uv.sha256.x86_64", "64 lower-case hexadecimal digits", '"abc"', "copy the SHA-256 that PyPI shows for the wheel"),
    Row(0, "unknown architecture", {"python.uv.sha256": {"riscv64": "0" * 64}}, "slipway.python.uv.sha256.riscv64", 'an architecture, "x86_64" or "aarch64"', '"riscv64"', "write what uname -m prints on the host"),
    Row(0, "unknown time zone", {"timezone": "Europe/Berlim"}, "slipway.timezone", "a time zone's name", '"Europe/Berlim"', 'did you mean "Europe/Berlin"?'),
    Row(0, "package with an option", {"packages": ["--allow-downgrades"]}, "slipway.packages[0]", "the name of a Debian package", '"--allow-downgrades"', "write the name as apt-cache search shows it: lower-case letters, digits, + . and -"),
    Row(0, "size of the journal", {"journal_max_size": "1 GB"}, "slipway.journal_max_size", "a size as journald writes it: digits with K, M, G or T", '"1 GB"', 'write it such as "500M" or "1G"'),
    Row(0, "port that is none", {"ssh.port": 70000}, "slipway.ssh.port", "a whole number from 1 to 65535, or None", "70000", "write a number from 1 to 65535, without quotes"),
    Row(0, "forwarding of a kind", {"ssh.forwarding": True}, "slipway.ssh.forwarding", 'one of "no", "local", "remote", "yes"', "True", 'write one of "no", "local", "remote", "yes"'),
    Row(0, "sshd's file that is not there", {"ssh.extra": "sshd.conf"}, "slipway.ssh.extra", "a file with directives of sshd_config", "no file {dir}/sshd.conf", "create it, or correct the name; it is relative to the inventory"),
    Row(0, "rules that are not there", {"firewall.extra": "more.nft"}, "slipway.firewall.extra", "a file with nftables rules", "no file {dir}/more.nft", "create it, or correct the name; it is relative to the inventory"),
    Row(0, "one port instead of a list", {"firewall.tcp_ports": 8443}, "slipway.firewall.tcp_ports", "a list of ports", "8443", "write a list of numbers, such as [8443]"),
    Row(0, "port as text", {"firewall.tcp_ports": ["https"]}, "slipway.firewall.tcp_ports[0]", "a whole number from 1 to 65535", '"https"', "write a number from 1 to 65535, without quotes"),
    Row(0, "operator who is root", {"operator": {"user": "root", "authorized_keys": [PUBLIC_KEY]}}, "slipway.operator.user", "a user's name: at most 32 lower-case letters, digits, _ and -, not starting with a digit, or None", '"root"', "choose another name: this is a user or a group of the system"),
    Row(0, "operator without a key", {"operator": {"user": "alice"}}, "slipway.operator.authorized_keys", "at least one public key for the user", "none", 'add "authorized_keys": ["ssh-ed25519 AAAA… me@laptop"]'),
    Row(0, "keys of nobody", {"operator": {"authorized_keys": [PUBLIC_KEY]}}, "slipway.operator.user", "the user whose keys these are", "None", 'add "user": "deploy"'),
    Row(0, "operator called as an app", {"operator": {"user": "notes", "authorized_keys": [PUBLIC_KEY]}}, "slipway.operator.user", "a name that no app has", '"notes"', "choose another"),
    Row(0, "private key for a public one", {"operator": {"user": "alice", "authorized_keys": [KEY.decode()]}}, "slipway.operator.authorized_keys[0]", 'a public SSH key, as in a .pub file: "ssh-ed25519 AAAA… me@laptop"', "a value of type str (not shown)", "that is a private key, which belongs on your machine alone: write the line of its .pub file"),
    Row(0, "half a public key", {"operator": {"user": "alice", "authorized_keys": [PUBLIC_KEY[:60]]}}, "slipway.operator.authorized_keys[0]", 'a public SSH key, as in a .pub file: "ssh-ed25519 AAAA… me@laptop"', "a value of type str (not shown)", "the key isn't whole: copy the line again"),
    Row(0, "short public RSA key", {"operator": {"user": "alice", "authorized_keys": [SHORT_RSA]}}, "slipway.operator.authorized_keys[0]", 'a public SSH key, as in a .pub file: "ssh-ed25519 AAAA… me@laptop"', "a value of type str (not shown)", "sshd takes RSA of at least 3072 bits: make a new key with ssh-keygen -t ed25519"),
    Row(0, "key of an old kind", {"operator": {"user": "alice", "authorized_keys": ["ssh-dss AAAA me"]}}, "slipway.operator.authorized_keys[0]", 'a public SSH key, as in a .pub file: "ssh-ed25519 AAAA… me@laptop"', "a value of type str (not shown)", "write a key of type ssh-ed25519, ecdsa-sha2-… or ssh-rsa; sshd takes no other"),
    Row(0, "index with a password", {"python.index_url": "https://user:hidden@pypi.example.com/simple"}, "slipway.python.index_url", "an https:// or http:// URL without user and password, or None", '"https://…@pypi.example.com/simple"', "remove user and password from the URL: it ends in files that others read"),
    Row(0, "certificate without mode", {"apps.notes.tls": {"certificate": "chain.pem"}}, "slipway.apps.notes.tls.certificate", 'set with mode "files" alone', 'mode "acme"', 'set mode to "files", or remove certificate'),
]
# fmt: on


SECRETS = ["hidden", "hid", "TOKEN", "BEGIN OPENSSH"]
"""Stand in the rows for what no message may repeat."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for an inventory, with a project to release, as the current one."""
    write_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_files(folder: Path, files: dict[str, Any]) -> None:
    """Put `files` into `folder`: content, or content and mode; None removes."""
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            write_private(folder / name, *(content if isinstance(content, tuple) else (content,)))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind:02}-{row.label}" for row in ROWS])
def test_refused_with_this_message(row: Row, folder: Path) -> None:
    """The whole message, word for word; and no secret in it."""
    write_files(folder, row.files or {})
    with pytest.raises(SettingsError) as refused:
        load(changed(row.changes), inventory=folder / "inventories.py", host="203.0.113.5")
    message = str(refused.value)
    block = f"{row.path}\n  expected: {row.expected}\n  found:    {row.found}\n  do:       {row.do}"
    assert message == (
        "inventories.py: 203.0.113.5: 1 setting is wrong; the host was not touched\n\n"
        + block.replace("{dir}", str(folder))
    )
    assert not [secret for secret in SECRETS if secret in message]
    assert refused.value.__cause__ is None and refused.value.__context__ is None


def test_rows_cover_every_kind() -> None:
    """42 of the 44 kinds are in the table; 42 (the connection) is below, 44 (the host's state) is preflight's."""
    assert {row.kind for row in ROWS} - {0} == set(range(1, 44)) - {42}


# --- The connection, and the inventory file itself -------------------------------------------------------------------

# fmt: off
CONNECTIONS: list[tuple[str, dict[str, Any], str, str, str, str]] = [
    ("port in words", {"ssh_port": "22a"}, "ssh_port", "a port from 1 to 65535", '"22a"', "write the number sshd listens on, without quotes"),
    ("port 0", {"ssh_port": 0}, "ssh_port", "a port from 1 to 65535", "0", "write the number sshd listens on, without quotes"),
    ("user with a space", {"ssh_user": "me -oProxyCommand=x"}, "ssh_user", "the name of a user on the host", '"me -oProxyCommand=x"', "write root or a user who may use sudo"),
    ("no key file", {"ssh_key": "~/.ssh/nothing"}, "ssh_key", "a private SSH key", "no file {dir}/.ssh/nothing", "create it, or correct the name; it is relative to the folder that you are in"),
    ("pasted key", {"ssh_key": KEY.decode()}, "ssh_key", "the name of a private key's file", "key material (not shown)", "save the key to a file (chmod 600), and write the file's name here"),
    ("public key", {"ssh_key": "id.pub"}, "ssh_key", "a private SSH key", "a public key in {dir}/id.pub", "name the private key: id"),
    ("key that others can read", {"ssh_key": "open"}, "ssh_key", "a private SSH key that only you can read", "mode 0644", "chmod 600 {dir}/open"),
    ("short RSA key", {"ssh_key": "rsa"}, "ssh_key", "an Ed25519 key, or RSA of at least 3072 bits", "RSA of 2048 bits", "make a new key with ssh-keygen -t ed25519 and put its .pub on the host first"),
    ("end of root's login by root", {"ssh_user": "root", "slipway": changed({"ssh": {"root_login": False}})}, "slipway.ssh.root_login", "True as long as the inventory logs in as root", '"ssh_user": "root"', 'set ssh_user to another user who may sudo, with "_sudo": True, or root_login to True'),
    ("setting beside slipway", {"domains": ["notes.example.com"]}, "domains", "nothing of this name beside slipway", "a setting", "move it to slipway.apps.<app>.domains"),
    ("app beside slipway", {"app": "notes"}, "app", "nothing of this name beside slipway", "a setting", "move it to slipway.apps.<app>.app"),
    ("option of a run", {"contract": True}, "contract", "nothing of this name beside slipway", "an option of a run", "take it out, and give it to the run that it is for: --data contract=…"),
    ("apps beside slipway", {"apps": {}}, "apps", "nothing of this name beside slipway", "a setting", "move it to slipway.apps"),
]
# fmt: on


def write_inventory(folder: Path, data: dict[str, Any], name: str = "203.0.113.5") -> Path:
    """An inventory file with one host."""
    path = folder / "production.py"
    path.write_text(f"hosts = [({name!r}, {data!r})]\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("row", CONNECTIONS, ids=[row[0] for row in CONNECTIONS])
def test_connection_is_refused(row: tuple[str, dict[str, Any], str, str, str, str], folder: Path) -> None:
    """What pyinfra would be told to connect with, checked like the settings."""
    _, data, setting, expected, found, do = row
    write_private(folder / "id.pub", "ssh-ed25519 AAAAhidden me@host\n")
    write_private(folder / "open", KEY, 0o644)
    if data.get("ssh_key") == "rsa":
        write_private(folder / "rsa", pem_key(rsa.generate_private_key(65537, 2048)))
    path = write_inventory(folder, {"slipway": MINIMAL} | data)
    block = f"{setting}\n  expected: {expected}\n  found:    {found}\n  do:       {do}".replace("{dir}", str(folder))
    with pytest.raises(SettingsError) as refused:
        load_inventory(path)
    first = "production.py: 203.0.113.5: 1 setting is wrong; the host was not touched"
    assert str(refused.value) == f"{first}\n\n{block}"


def pyinfra_host(data: dict[str, Any], name: str = "203.0.113.5") -> Any:
    """What `load_for` reads of pyinfra's host."""
    return SimpleNamespace(name=name, groups=["hosts", "production"], data=SimpleNamespace(dict=lambda: data))


def refused_by_load_for(host: Any) -> str:
    """The message `load_for` refuses `host` with."""
    with pytest.raises(SettingsError) as refused:
        load_for(host)
    return str(refused.value)


def test_load_for_finds_the_inventory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument whose stem is a group of the host; relative names start at its folder."""
    (folder / "inventories").mkdir()
    path = write_inventory(folder / "inventories", {})
    monkeypatch.setattr(sys, "argv", ["pyinfra", "-y", "inventories/production.py", "deploy.py"])
    settings = load_for(pyinfra_host({"slipway": changed({"apps.notes.source.path": "../project"})}))
    assert settings.apps["notes"].source_dir == folder / "project"
    assert settings.host == "203.0.113.5"
    assert path.exists()


def test_local_machine_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """@local is the operator's own machine."""
    write_inventory(folder, {"slipway": MINIMAL}, "@local")
    monkeypatch.setattr(sys, "argv", ["pyinfra", "production.py", "deploy.py"])
    message = refused_by_load_for(pyinfra_host({"slipway": MINIMAL}, "@local"))
    assert message == (
        "production.py: @local: 1 setting is wrong; the host was not touched\n\n"
        "host\n  expected: a host reached over SSH\n  found:    this machine (@local)\n"
        "  do:       put the host's address and ssh_user into an inventory file"
    )


def test_no_inventory_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host named on the command line has no settings."""
    monkeypatch.setattr(sys, "argv", ["pyinfra", "203.0.113.5", "deploy.py"])
    message = refused_by_load_for(pyinfra_host({}))
    assert message.endswith(
        "inventory\n  expected: an inventory file\n  found:    none\n"
        "  do:       name an inventory file, such as conf/production.py"
    )


def test_inventory_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyinfra would take the misspelt name for a host's, and end well without having done anything."""
    write_inventory(folder, {"slipway": MINIMAL})
    monkeypatch.setattr(sys, "argv", ["pyinfra", "--data", "app=a.py", "prodution.py", "deploy.py"])
    with pytest.raises(SettingsError) as refused:
        check_command_line()
    assert str(refused.value).endswith("found:    none of this name\n  do:       write production.py")


@pytest.mark.parametrize(
    ("data", "found", "do"),
    [
        ({}, "no slipway", 'add "slipway": {"apps": {…}} to the data of this host'),
        ({"slip_way": MINIMAL}, 'no slipway, but "slip_way"', "rename slip_way to slipway"),
    ],
)
def test_no_slipway(data: dict[str, Any], found: str, do: str, folder: Path) -> None:
    """A host without settings, or with a typo in the one key."""
    with pytest.raises(SettingsError) as refused:
        load_inventory(write_inventory(folder, data))
    expected = "a mapping of this host's settings"
    assert str(refused.value).endswith(f"slipway\n  expected: {expected}\n  found:    {found}\n  do:       {do}")


def test_key_twice_in_the_inventory(folder: Path) -> None:
    """Kind 38: Python keeps the last of two equal keys and says nothing."""
    path = folder / "production.py"
    path.write_text(
        f'data = {MINIMAL!r}\nhosts = [("h", {{\n"slipway": data,\n"slipway": data,\n}})]\n', encoding="utf-8"
    )
    with pytest.raises(SettingsError) as refused:
        load_inventory(path)
    assert str(refused.value).endswith(
        'line 4\n  expected: each key once in a mapping\n  found:    "slipway" in lines 3, 4\n'
        "  do:       keep one of them"
    )


@pytest.mark.parametrize(
    ("content", "path", "found"),
    [
        ("hosts = [\n", "file", "'[' was never closed in line 1"),
        ("x = 1\n", "hosts", "none"),
        (None, "file", "No such file or directory"),
    ],
)
def test_unreadable_inventory(content: str | None, path: str, found: str, folder: Path) -> None:
    """A file that isn't an inventory is refused in the same form."""
    if content is not None:
        (folder / "production.py").write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_inventory(folder / "production.py")
    message = str(refused.value)
    assert message.startswith(
        "production.py: all hosts: 1 setting is wrong; the host was not touched\n\n" + path + "\n"
    )
    assert f"  found:    {found}\n" in message


def test_command_line_is_checked_before_connecting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.py's check sees a pasted key before pyinfra does, and lets pyinfra's other uses pass."""
    write_inventory(folder, {"ssh_key": KEY.decode(), "slipway": MINIMAL})
    monkeypatch.setattr(sys, "argv", ["pyinfra", "--dry", "production.py", "deploy.py"])
    with pytest.raises(SettingsError, match="key material"):
        check_command_line()
    monkeypatch.setattr(sys, "argv", ["pyinfra", "@docker/debian", "exec", "--", "id"])
    check_command_line()


# --- More than one mistake -------------------------------------------------------------------------------------------


def test_all_problems_of_all_hosts_at_once(folder: Path) -> None:
    """Wrong values, contradictions and missing files of every host in one message, each once."""
    first = changed({"apps.notes.workers": 0, "apps.notes.env_file": "none.env", "apps.Bad Name": NOTES | {"port": 1}})
    second = changed({"apps.notes.domains": ["a.example.com", "b_.example.com", "a.example.com"], "timezon": "UTC"})
    (folder / "production.py").write_text(
        f"hosts = [('web1', {{'slipway': {first!r}}}), ('web2', {{'slipway': {second!r}}})]\n", encoding="utf-8"
    )
    with pytest.raises(SettingsError) as refused:
        load_inventory(folder / "production.py")
    assert [problem.path for problem in refused.value.problems] == [
        "slipway.apps.notes.workers",
        'slipway.apps["Bad Name"]',
        'slipway.apps["Bad Name"].port',
        "slipway.apps.notes.env_file",
        'slipway.apps["Bad Name"].domains',
        "slipway.apps.notes.domains[1]",
        "slipway.timezon",
        "slipway.apps.notes.domains",
    ]
    message = str(refused.value)
    assert message.startswith("production.py: web1: 5 settings are wrong; the host was not touched\n\n")
    assert "\n\nproduction.py: web2: 3 settings are wrong; the host was not touched\n\n" in message


# --- Certificates of one's own ---------------------------------------------------------------------------------------

FILES = {"apps.notes.tls": {"mode": "files", "certificate": "chain.pem", "key": "key.pem"}}
OWN, OTHER = new_key(), new_key()
GOOD_CHAIN = certificate(OWN, ["notes.example.com"])
CERTIFICATES: list[tuple[str, bytes | None, bytes | None, int, str, str, str]] = [
    ("no chain", None, pem_key(OWN), 0o600, "certificate", "no file {dir}/chain.pem", "create it"),
    ("no key", GOOD_CHAIN, None, 0o600, "key", "no file {dir}/key.pem", "create it"),
    ("not a chain", b"hidden", pem_key(OWN), 0o600, "certificate", "no certificate in it", "convert it"),
    ("key of another", GOOD_CHAIN, pem_key(OTHER), 0o600, "key", "another key", "name the key"),
    (
        "CA first",
        certificate(OTHER, []) + GOOD_CHAIN,
        pem_key(OWN),
        0o600,
        "certificate",
        "another one first",
        "put the",
    ),
    ("open key", GOOD_CHAIN, pem_key(OWN), 0o640, "key", "mode 0640", "chmod 600 {dir}/key.pem"),
    (
        "expired",
        certificate(OWN, ["notes.example.com"], -1),
        pem_key(OWN),
        0o600,
        "certificate",
        "one that",
        "renew it",
    ),
    ("other name", certificate(OWN, ["b.example.com"]), pem_key(OWN), 0o600, "certificate", "one for b.e", "have it"),
    ("chain as key", GOOD_CHAIN, GOOD_CHAIN, 0o600, "key", "a certificate", "name the key's file"),
]


@pytest.mark.parametrize("case", CERTIFICATES, ids=[case[0] for case in CERTIFICATES])
def test_unfit_certificate(case: tuple[str, bytes | None, bytes | None, int, str, str, str], folder: Path) -> None:
    """A certificate that nginx or a browser would refuse is refused here."""
    _, chain, key, mode, option, found, do = case
    write_files(
        folder, {name: (content, mode) for name, content in (("chain.pem", chain), ("key.pem", key)) if content}
    )
    with pytest.raises(SettingsError) as refused:
        load(changed(FILES), inventory=folder / "inventory.py", host="h")
    (problem,) = refused.value.problems
    assert problem.path == f"slipway.apps.notes.tls.{option}"
    assert problem.found.startswith(found.replace("{dir}", str(folder)))
    assert problem.do.startswith(do.replace("{dir}", str(folder)))


def test_mode_files_needs_both_files(folder: Path) -> None:
    """Each missing file is named."""
    with pytest.raises(SettingsError) as refused:
        load(changed({"apps.notes.tls": {"mode": "files"}}), inventory=folder / "inventory.py", host="h")
    paths = [problem.path for problem in refused.value.problems]
    assert paths == ["slipway.apps.notes.tls.certificate", "slipway.apps.notes.tls.key"]


def test_wildcard_certificate_of_ones_own(folder: Path) -> None:
    """It covers one label, and is what HTTP-01 can't give."""
    write_files(folder, {"chain.pem": certificate(OWN, ["*.example.com"]), "key.pem": pem_key(OWN)})
    data = changed(FILES | {"apps.notes.domains": ["notes.example.com", "*.example.com"]})
    assert load(data, inventory=folder / "inventory.py", host="h").apps["notes"].key_local == folder / "key.pem"
