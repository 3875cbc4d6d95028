"""What is told of a build, or an app, that fails for want of something on the host."""

from __future__ import annotations

import pytest
from slipway_host.release import lacking


@pytest.mark.parametrize(
    ("text", "lacked", "packages"),
    [
        ("error: command 'gcc' failed: No such file or directory", "compiler", '"build-essential"'),
        (
            "error: command '/usr/bin/x86_64-linux-gnu-gcc' failed: No such file or directory",
            "compiler",
            '"build-essential"',
        ),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "compiler", '"build-essential"'),
        ("error: linker `cc` not found", "compiler", '"build-essential"'),
        ("/bin/sh: 1: gcc: not found", "compiler", '"build-essential"'),
        ("Exception: you need a C compiler to build uWSGI", "compiler", '"build-essential"'),
        ("Error: pg_config executable not found.", "pg_config", '"build-essential", "libpq-dev"'),
        (
            "/bin/sh: 1: pkg-config: not found\nException: Can not find valid pkg-config name.",
            "MySQL's client library",
            '"build-essential", "default-libmysqlclient-dev", "pkg-config"',
        ),
        (
            "Could not run curl-config: [Errno 2] No such file or directory: 'curl-config'",
            "curl-config",
            '"build-essential", "libcurl4-openssl-dev", "libssl-dev"',
        ),
        ("Cargo, the Rust package manager, is not installed or is not on PATH", "Rust", '"build-essential", "cargo"'),
        (
            "Modules/common.h:15:10: fatal error: lber.h: No such file or directory",
            "lber.h",
            '"build-essential", "libldap-dev", "libsasl2-dev"',
        ),
        ("x.c:1:10: fatal error: stdio.h: No such file or directory", "stdio.h", '"build-essential"'),
        (
            "ImportError: libpq.so.5: cannot open shared object file: No such file or directory",
            "libpq.so.5",
            '"libpq5"',
        ),
        ("ImportError: no pq wrapper available.\nAttempts made:", "libpq", '"libpq5"'),
        ("Git operation failed\nGit executable not found.", "git", '"git"'),
    ],
)
def test_what_the_host_lacks_is_named_with_its_packages(text: str, lacked: str, packages: str) -> None:
    told = lacking.advice(f"before\n{text}\nafter")
    assert told == f"\nThe host has no {lacked}: add {packages} to the host's setting packages."


@pytest.mark.parametrize(
    ("text", "lacked"),
    [
        ("fatal error: strange/own.h: No such file or directory", "strange/own.h"),
        ("ImportError: libstrange.so.2: cannot open shared object file", "libstrange.so.2"),
    ],
)
def test_what_has_no_known_package_is_named_all_the_same(text: str, lacked: str) -> None:
    expected = f"\nThe host has no {lacked}: add the Debian package that has it to the host's setting packages."
    assert lacking.advice(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        (
            "src/greenlet.c:1258: error: '_PyErr_StackItem' has no member named 'exc_traceback'\n"
            "error: Command '['gcc', '-c', 'x.c']' returned non-zero exit status 1."
        ),
        "error: command '/usr/bin/gcc' failed with exit code 1",
        "FileNotFoundError: [Errno 2] No such file or directory: 'data/app.db'",
    ],
)
def test_other_failures_lack_nothing(text: str) -> None:
    assert lacking.advice(text) == ""
