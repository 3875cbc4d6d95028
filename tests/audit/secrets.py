"""detect-secrets and the inventory's own secrets: what a deploy prints, and what every user of the host may read."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Mapping

from tests.audit.finding import Finding, judged, looked
from tests.audit.subject import Subject

READER = "nobody"
"""Whoever has no rights on the host beyond everybody's."""
DEPLOY_BYTES = 2000
"""What a deploy at -vvv prints at least."""

ENTROPY = ("Base64HighEntropyString", "HexHighEntropyString")
"""detect-secrets' detectors of random text, which hashes, ids and fingerprints are, too."""

NOT_SECRET = re.compile(r"etc/nsswitch\.conf|srv/[^/]+/releases/.*")
"""Files that only the known secrets are looked for in: a list of databases, one of which is called "passwd", and the
source of apps, which is scanned where it is written."""

# Files that every user of the host may read and that neither a package nor an environment's build brought: an
# administrator's and the apps'. Read by a user without rights, so that a closed folder closes what is in it.
_AS_READER = f"setpriv --reuid={READER} --regid=nogroup --clear-groups"
_FILES = rf"""packaged=$(mktemp) && trap 'rm -f "$packaged"' EXIT
cat /var/lib/dpkg/info/*.list | sort -u >"$packaged"
{_AS_READER} find /etc /opt /srv /home /root /run /tmp /usr/local /var -xdev \( -path '*/site-packages' \
    -o -path /opt/slipway/python -o -path /opt/slipway/uv -o -path '/var/cache/*/uv' -o -path '/var/cache/*/python' \
    -o -path /var/cache/apt -o -path /var/cache/debconf -o -path /var/lib/dpkg -o -path /var/lib/apt \
    -o -path /etc/ssl/certs -o -name __pycache__ \) -prune \
    -o -type f -size -1024k -readable -print 2>/dev/null | sort -u | comm -23 - "$packaged" |
    {_AS_READER} tar --create --gzip --ignore-failed-read --files-from=- 2>/dev/null | base64 --wrap=0"""


def deploy_output(subject: Subject) -> Finding:
    """Whether what a deploy prints, as verbose as can be, shows a secret."""
    return _scanned(subject, {"output": subject.deployed.encode()}, subject.deployed, DEPLOY_BYTES, "of output")


def readable_files(subject: Subject) -> Finding:
    """Whether a file that every user of the host may read holds a secret."""
    packed = subject.run(_FILES)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
        files = {}
        for entry in archive:
            content = archive.extractfile(entry)
            if content is not None:
                files[entry.name] = content.read()
    looked("etc/passwd" in files, "/etc/passwd, which every user of a host may read, was not read")
    whole = "\n".join(each.decode(errors="replace") for each in files.values())
    return _scanned(subject, files, whole, 1000, f"in {len(files)} files")


def process_list(subject: Subject) -> Finding:
    """Whether a command line or a process' title holds a secret."""
    listed = subject.run(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo; ps -eo pid,user,args 2>/dev/null", check=False
    )
    looked("systemd" in listed and "nginx" in listed, "the process list shows neither systemd nor nginx")
    return _scanned(subject, {"processes": listed.encode()}, listed, 200, "of command lines")


def _scanned(subject: Subject, files: Mapping[str, bytes], whole: str, at_least: int, what: str) -> Finding:
    looked(subject.secrets, "no secret of this host is known, so there is nothing to look for")
    looked(len(whole) >= at_least, f"only {len(whole)} bytes {what}")
    off = [word for name in ENTROPY for word in ("--disable-plugin", name)]
    # A planted one shows that the tool looks at what it is given.
    canary = b"aws_key = 'AKIA" + b"IOSFODNN7EXAMPLA'\n"  # in two parts, for those who scan this file
    placed = {f"scanned/{name}": content for name, content in files.items() if not NOT_SECRET.fullmatch(name)}
    placed["scanned/canary.txt"] = canary
    done = subject.auditor.run(
        ["detect-secrets", "scan", "--all-files", "--no-verify", *off, "scanned"], placed, timeout=600
    )
    leaks = [f"{name} is in {path}" for name, value in subject.secrets.items()
             for path, content in files.items() if value.encode() in content]  # fmt: skip
    return secrets_finding(
        done.output, leaks, f"{len(whole) / 1000:.0f} kB {what}, {len(subject.secrets)} known secrets"
    )


def secrets_finding(result: str, leaks: list[str], seen: str) -> Finding:
    """What detect-secrets' JSON says, with the known secrets that were found."""
    try:
        found: dict[str, list[dict[str, object]]] = json.loads(result)["results"]
    except (ValueError, KeyError):
        looked(False, "detect-secrets printed no result")
    looked(found.pop("scanned/canary.txt", None), "detect-secrets did not find the secret that was planted for it")
    suspects = [
        f"{each['type']} in {re.sub('^scanned/', '', path)}:{each['line_number']}"
        for path, each_list in found.items() for each in each_list
    ]  # fmt: skip
    return judged(
        not leaks and not suspects, f"{len(leaks)} known, {len(suspects)} suspected; {seen}", leaks + suspects
    )
