"""Names of units, users, programs and files that Slipway uses on a host, where no app is part of them."""

from __future__ import annotations

from pathlib import Path

KINDS = ("socket", "service")
"""The units of the process that answers requests, in the order in which they start."""
HELPERS = ("build", "check", "schema", "hook", "migrate")
"""Helper units: the steps of a release run an app's code in them."""
NGINX = "nginx"
"""nginx's unit."""
INTERNAL = "slipway.internal"
"""Name of nginx's internal server. It tells ITSELF alone what nginx serves (templates/nginx/internal.conf.j2)."""
ITSELF = "127.83.76.87"
"""Address from which the host's own programs ask nginx. No other proxy on the host uses it."""
SSHD, SSHD_SOCKET = "ssh.service", "ssh.socket"
SSHD_PROGRAM = "/usr/sbin/sshd"
JOURNAL = "systemd-journald"
"""Name, without its kind, of the journal's unit. That of an app's own journal ends with ``@`` and the app's name."""
FIREWALL = "slipway-firewall.service"
TABLE = ("table", "inet", "slipway")
"""The firewall's table, as nft names it."""
REVERT = "slipway-access-revert"
"""Name, without its kind, of the units that revert an unconfirmed change of access."""
REVERT_AT_BOOT = "slipway-access-boot.service"
"""The unit that reverts it before sshd and the firewall start."""
SSHD_OUTSIDE = "slipway-access-sshd"
"""How the names of units begin that reload sshd for a program whose own sandbox forbids that."""
BUILDS = "builds.slice"
"""systemd's slice of all builds."""
RENEWAL, DEBSUMS = "certbot-renew", "debsums"
"""Names, without their kind, of a timer and of the service that it starts."""
TIMED = ("service", "timer")
CLAIMED = (".service", ".socket", ".timer", ".target", "@.service", "@.socket")
"""Behind an app's name: units that nothing else on a host may have."""
FORMER = ("release", "nginx", "access", "acme")
"""Programs of Slipway 0.1, a file each; the host's one program replaces them (release/former.py)."""
SHELL, NO_SHELL = "/bin/bash", "/usr/sbin/nologin"
"""Login shell of the operator, and of users who can't log in."""
PYTHON = "/usr/bin/python3"
"""The system's."""
PROC = Path("/proc")
"""The kernel's own files, the same in tests."""
UNIX_SOCKETS = PROC / "net/unix"
NGINX_USER = "www-data"
NGINX_KEEPS = 60
"""Seconds that nginx keeps an idle connection to an app."""
SHARED_MEMORY = "/dev/shm"
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs of the system are looked for."""

ENDS = ("drain", "retire")
"""What a release that no longer serves still needs: to wait for its last requests, and to be stopped."""
REQUEST, ABOUT, LOG, RECORD, RESULT, BUILD = "request.json", "about.json", "log", "record", "result.json", "build.env"
"""Files of a run's folder: the request, a summary of it, the log, the id of its record, the result (Slipway 0.1 only),
and the environment of a build."""
AUTHORIZED_KEYS = ".ssh/authorized_keys"
"""Below a person's home."""
VENV = ".venv"
CERTIFICATE, KEY = "fullchain.pem", "privkey.pem"
BESIDE = ".slipway-partial."
"""How the name of an incomplete file begins that will replace another one."""
WRITTEN = ".slipway-written"
"""Marks the folder of a Python as completely on the disk."""
OWN = "50-slipway.conf"
"""Name of our file in a folder of settings that other programs use, too."""
