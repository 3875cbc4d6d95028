"""What a host lacks for a build, or for an app: told by the words of compilers, linkers and build tools.

The advice names the setting `packages`, and Debian's packages where they have one name in all its releases.
"""

from __future__ import annotations

import json
import re

MOST = 200_000
"""Characters of a failure's text that are looked at: its end."""
_COMPILER = r"(?:/[\w./-]+/)?(?:[\w-]+-linux-gnu-)?(?:gcc|g\+\+|cc|c\+\+|clang|make)"
WORDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"no pq wrapper available|libpq library not found", "libpq", ("libpq5",)),
    (r"pg_config executable not found|\bpg_config['\"]?: ", "pg_config", ("build-essential", "libpq-dev")),
    (
        r"\bmysql_config['\"]?: |valid pkg-config name|MYSQLCLIENT_CFLAGS",
        "MySQL's client library",
        ("build-essential", "default-libmysqlclient-dev", "pkg-config"),
    ),
    (
        r"No such file or directory: ['\"]curl-config|\bcurl-config: .*not found",
        "curl-config",
        ("build-essential", "libcurl4-openssl-dev", "libssl-dev"),
    ),
    (
        r"libxml2 and libxslt development packages|\bxml2-config: ",
        "libxml2's headers",
        ("build-essential", "libxml2-dev", "libxslt1-dev"),
    ),
    (r"Rust package manager|can't find Rust compiler|['\"]cargo['\"]", "Rust", ("build-essential", "cargo")),
    (r"\bpkg-config['\"]?(?:: (?:\d+: )?not found| (?:is )?(?:not|required))", "pkg-config", ("pkg-config",)),
    (r"(?i)cmake['\"]?(?:: not found| must be installed| executable)", "cmake", ("build-essential", "cmake")),
    (r"Git executable not found|\bgit: (?:\d+: )?not found|directory: ['\"]git['\"]", "git", ("git",)),
    (
        (
            rf"['\"`]{_COMPILER}['\"`](?: failed: No such|: No such| not found)|\b{_COMPILER}: (?:\d+: )?not found"
            rf"|No such file or directory: ['\"]{_COMPILER}['\"]"
            r"|need a C compiler|Unknown compiler|C_COMPILER|no acceptable C compiler"
        ),
        "compiler",
        ("build-essential",),
    ),
)
"""Pattern of what is printed, what the host has not, and Debian's packages for it; the particular ones first."""
HEADER = re.compile(r"error: ['\"]?([\w./+-]+\.h(?:pp)?)['\"]?(?:: No such file| file not found)")
HEADERS = {
    r"(lber|ldap)\.h": ("libldap-dev", "libsasl2-dev"),
    r"sasl/": ("libsasl2-dev",),
    r"libpq-fe\.h": ("libpq-dev",),
    r"mysql": ("default-libmysqlclient-dev",),
    r"ffi\.h": ("libffi-dev",),
    r"openssl/": ("libssl-dev",),
    r"curl/": ("libcurl4-openssl-dev",),
    r"xmlsec": ("libxmlsec1-dev",),
    r"libxml/": ("libxml2-dev", "libxslt1-dev"),
    r"libxslt/|libexslt/": ("libxslt1-dev",),
    r"jpeglib\.h": ("libjpeg-dev",),
    r"zlib\.h": ("zlib1g-dev",),
    r"magic\.h": ("libmagic-dev",),
    r"cairo": ("libcairo2-dev",),
    r"ft2build\.h": ("libfreetype-dev",),
    r"sql(ext|types)?\.h": ("unixodbc-dev",),
    r"sqlite3\.h": ("libsqlite3-dev",),
    r"pcre2\.h": ("libpcre2-dev",),
    r"geos_c\.h": ("libgeos-dev",),
    r"gdal": ("libgdal-dev",),
    r"gssapi|krb5": ("libkrb5-dev",),
    r"security/pam": ("libpam0g-dev",),
    r"yaml\.h": ("libyaml-dev",),
    r"gmp\.h": ("libgmp-dev",),
    r"std(io|lib)\.h|limits\.h": (),
}
"""Beginning of a header → Debian's packages that have it, besides the compiler's."""
LIBRARY = re.compile(r"(lib[\w+.-]+?\.so(?:\.\d+)*): cannot open shared object file")
LIBRARIES = {
    "libpq.so": "libpq5",
    "libmariadb.so": "libmariadb3",
    "libGL.so": "libgl1",
    "libglib-2.0.so": "libglib2.0-0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libpango-1.0.so": "libpango-1.0-0",
    "libcairo.so": "libcairo2",
    "libmagic.so": "libmagic1",
    "libxmlsec1-openssl.so": "libxmlsec1-openssl",
    "libxmlsec1.so": "libxmlsec1",
    "libodbc.so": "unixodbc",
    "libsqlite3.so": "libsqlite3-0",
    "libgomp.so": "libgomp1",
    "libxml2.so": "libxml2",
    "libxslt.so": "libxslt1.1",
    "libstdc++.so": "libstdc++6",
}
"""Beginning of a library → Debian's package that has it."""


def advice(text: str) -> str:
    """What to do about a failure, as a line that names the setting; empty if the host lacks nothing.

    + text: all that was printed
    """
    text = text[-MOST:]
    if found := LIBRARY.search(text):
        package = next((name for begin, name in LIBRARIES.items() if found[1].startswith(begin)), None)
        return _told(found[1], (package,) if package else None)
    if found := HEADER.search(text):
        packages = next((names for begin, names in HEADERS.items() if re.match(begin, found[1])), None)
        return _told(found[1], None if packages is None else ("build-essential", *packages))
    for pattern, name, needed in WORDS:
        if re.search(pattern, text):
            return _told(name, needed)
    return ""


def _told(lacked: str, packages: tuple[str, ...] | None) -> str:
    if packages is None:
        return f"\nThe host has no {lacked}: add the Debian package that has it to the host's setting packages."
    return f"\nThe host has no {lacked}: add {json.dumps(list(packages))[1:-1]} to the host's setting packages."
