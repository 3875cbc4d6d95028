"""sshd: keys alone, ssh-audit's algorithms, and limits; changed only by what a fresh connection proves."""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from roles.ssh.facts import Sshd
from slipway.engine.place import File
from slipway.engine.templates import render
from slipway.settings import SMALLEST_RSA, Settings

DROP_IN = str(LAYOUT.sshd_drop_in)
MAIN = str(LAYOUT.sshd_config)
ALONE = str(LAYOUT.sshd_included)
"""Where it lies instead, included by the first line of sshd_config, where something would be read before the drop-in.
Not always, since dpkg asks what to do about an sshd_config that was edited, and unattended upgrades then do nothing."""
FIRST = f"Include {ALONE}"
MODULI = str(LAYOUT.long_moduli)
"""The package's moduli for Diffie-Hellman's group exchange, without those of less than 3072 bits. A file of its own:
that of the package is one that dpkg asks about, and an unattended upgrade of sshd would wait for the answer."""
UNIT = str(LAYOUT.sshd_restart)
"""The drop-in that restarts sshd after any end."""
PATHS = (DROP_IN, ALONE, MAIN, MODULI, UNIT)
"""All files of sshd's configuration that may be written."""
HOST_KEYS = {"ed25519": 256, "rsa": 4096}
"""Kind of host key → its bits, as ssh-audit's policies expect them. Debian makes RSA keys of 3072."""

# ssh-audit 3.9, "Debian 12 Server (version 3)", in its order. Its guide for Debian 13 has post-quantum exchanges alone,
# which paramiko before 5 doesn't have, and pyinfra's connection with it: there, Curve25519 stays beside them.
_NEWEST = "mlkem768x25519-sha256"
_KEX = (
    _NEWEST,
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
)
_OLDER_KEX = (
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha256",
)
_CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-gcm@openssh.com",
    "aes128-ctr",
)
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "umac-128-etm@openssh.com")
_HOST_KEYS = (
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "ssh-ed25519-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-ed25519",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# People's keys may be ECDSA beside that: a Mac's Secure Enclave and older security keys make nothing else.
_PEOPLES_KEYS = (
    *_HOST_KEYS,
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)


def options(settings: Settings, sshd: Sshd) -> dict[str, str]:
    """Keyword → value of what sshd is told, but for ports and host keys.

    The values are ssh-audit's, and those of dev-sec's ssh-baseline (2024-08) that suit a host that is deployed to.
    """
    forwarding = settings.ssh.forwarding
    exchanges = _KEX if _NEWEST in sshd.kex else (*_KEX, *_OLDER_KEX)
    return {
        "PermitRootLogin": "prohibit-password" if settings.ssh.root_login else "no",
        "PubkeyAuthentication": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitEmptyPasswords": "no",
        "HostbasedAuthentication": "no",
        "PermitUserEnvironment": "no",
        "StrictModes": "yes",
        "KexAlgorithms": ",".join(each for each in exchanges if each in sshd.kex),
        "ModuliFile": MODULI,
        "Ciphers": ",".join(_CIPHERS),
        "MACs": ",".join(_MACS),
        "HostKeyAlgorithms": ",".join(_HOST_KEYS),
        "CASignatureAlgorithms": ",".join(each for each in _HOST_KEYS if "cert" not in each),
        "PubkeyAcceptedAlgorithms": ",".join(_PEOPLES_KEYS),
        "RequiredRSASize": str(SMALLEST_RSA),
        "MaxAuthTries": str(settings.ssh.max_auth_tries),
        "MaxSessions": "10",
        "MaxStartups": "10:30:60",
        # Of these, one source may have so many, whichever of its addresses (RFC 6177: a site has a /64 at least).
        "PerSourceMaxStartups": "5",
        "PerSourceNetBlockSize": "32:64",
        "LoginGraceTime": "30",
        # A client that is gone is noticed within 10 minutes, by messages that nobody can forge.
        "ClientAliveInterval": "300",
        "ClientAliveCountMax": "2",
        # zlib's holes aren't sshd's as well; clients don't ask for it, unless they are told to.
        "Compression": "no",
        "TCPKeepAlive": "no",
        "AllowTcpForwarding": forwarding,
        "AllowStreamLocalForwarding": forwarding,
        "AllowAgentForwarding": "no",
        "GatewayPorts": "no",
        "PermitTunnel": "no",
        "X11Forwarding": "no",
        "LogLevel": "VERBOSE",
    }


def expected(settings: Settings, sshd: Sshd) -> list[tuple[str, str]]:
    """What `sshd -T` must print of all this: keyword, value."""
    as_told = {"prohibit-password": "without-password"}
    told = [(key.lower(), as_told.get(value, value)) for key, value in options(settings, sshd).items()]
    ports = [("port", str(port)) for port in own_ports(settings, sshd)]
    return [*told, *ports, *(("hostkey", str(LAYOUT.host_key(kind))) for kind in HOST_KEYS)]


def own_ports(settings: Settings, sshd: Sshd) -> list[int]:
    """Ports that the drop-in names: the wanted one, and the one that the inventory still connects through.

    Of ports, unlike of other keywords, sshd takes all that stand anywhere.
    """
    if settings.ssh.port is None:
        return sorted(sshd.own_ports)
    return sorted({settings.ssh.port, *sshd.used} - sshd.other_ports)


def ports(settings: Settings, sshd: Sshd) -> list[int]:
    """Ports that the firewall opens for sshd."""
    if settings.ssh.enabled and settings.ssh.port is not None:
        return sorted({settings.ssh.port, *sshd.used})
    return sorted({int(port) for port in sshd.effective.get("port", ())} | sshd.used) or [22]


def files(settings: Settings, sshd: Sshd) -> dict[str, File | None]:
    """Path → what is to be there; None for nothing."""
    plain = sshd.main.replace(f"{FIRST}\n", "", 1)
    made: dict[str, File | None] = {DROP_IN: None, ALONE: None}
    if not settings.ssh.enabled:
        made |= {MODULI: None, UNIT: None}
    else:
        extra = settings.ssh_extra_local.read_text(encoding="utf-8").rstrip() if settings.ssh_extra_local else ""
        values = {"ports": own_ports(settings, sshd), "options": options(settings, sshd), "extra": extra}
        values |= {"host_keys": HOST_KEYS}
        made[path(sshd)] = File(render("ssh/sshd.conf.j2", **values), "600")
        made[UNIT] = File(render("ssh/ssh.service.j2"))
    main = f"{FIRST}\n{plain}" if made[ALONE] else plain
    return made if main == sshd.main else made | {MAIN: _main(sshd, main)}


def path(sshd: Sshd) -> str:
    """Where our file lies."""
    return DROP_IN if sshd.first else ALONE


def _main(sshd: Sshd, text: str) -> File:
    return File(text, sshd.main_mode)
