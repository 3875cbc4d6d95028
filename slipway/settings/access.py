"""Settings of access to a host: sshd, the firewall, the operator's account."""

from __future__ import annotations

from typing import Annotated, Literal

from slipway.settings import types as t
from slipway.settings.base import Model

_PORTS = "write a list of numbers, such as [8443]"


class SshSettings(Model):
    """sshd: keys alone, and the algorithms of ssh-audit's hardening guides."""

    enabled: t.Switch = True
    """Harden sshd. False leaves it as the distribution has it, and removes what was written here before: passwords can
    be guessed again, where there are any."""
    port: t.TcpPort | None = None
    """Port that sshd listens on; None leaves it where it is. While ssh_port above is another one, sshd listens on both;
    the run after you changed that closes the old one."""
    root_login: t.Switch = True
    """root may log in, with a key. False ends that, and needs another user as ssh_user; a run only does so once that
    user has logged in anew and become root by sudo."""
    max_auth_tries: Annotated[int, t.whole(1, 100, "tries")] = 6
    """Keys that a client may offer before it is disconnected. An agent offers all it has, so a lower number shuts out
    who has many; a key can't be guessed with any number."""
    forwarding: Annotated[Literal["no", "local", "remote", "yes"], t.one_of("no", "local", "remote", "yes")] = "no"
    """Port forwarding. "local": tunnels from your machine to a port of the host (`ssh -L`), as for its database, and
    what Visual Studio Code's Remote-SSH needs; "remote": the other way round (`ssh -R`); "yes": both. Who may open a
    shell can always bring a forwarder of their own: "no" is for the accounts that can't."""
    extra: t.LocalPath | None = None
    """File beside the inventory with directives of sshd_config, such as AllowUsers or Match blocks."""


class FirewallSettings(Model):
    """The firewall: an nftables table of its own, which lets in what is said here and drops the rest."""

    enabled: t.Switch = True
    """Filter what comes in. False removes the table: every program that listens is open to the Internet."""
    tcp_ports: Annotated[list[t.TcpPort], t.Narrow("a list of ports", _PORTS, container=True)] = []
    """TCP ports to open besides sshd's, 80 and 443."""
    udp_ports: Annotated[list[t.TcpPort], t.Narrow("a list of ports", _PORTS, container=True)] = []
    """UDP ports to open."""
    ssh_rate: Annotated[int, t.whole(0, 100_000, "connections")] = 60
    """New connections to sshd that one source may open in a minute, and at once; an IPv6 source is a /64. Beyond it
    they are dropped, and a client tries again after a second. 60 is what ssh-audit's guides ask for against DHEat; 0 is
    no limit."""
    connections: Annotated[int, t.whole(0, 1_000_000, "connections")] = 200
    """Connections to 80 and 443 that one source may have open at a time; an IPv6 source is a /64. A browser has 6 to a
    site with HTTP/1.1 and one with HTTP/2; an office behind one address has many. trusted_proxies of an app are exempt.
    0 is no limit: one machine can then take all of nginx's worker_connections."""
    extra: t.LocalPath | None = None
    """File beside the inventory with nftables rules for the input chain, before the ports are opened: ip saddr
    192.0.2.0/24 tcp dport 5432 accept. Ports that Docker publishes don't come by here: they are forwarded."""


class OperatorSettings(Model):
    """An account for people, with sudo and without a password."""

    user: t.Login | None = None
    """Name of the account, made if it isn't there; None makes none. Once it is there, write it as ssh_user, with
    "_sudo": True. An account that was made stays when this changes: ending a way in is yours to do (deluser)."""
    authorized_keys: Annotated[
        list[t.PublicKey], t.Narrow("a list of public keys", 'write ["ssh-ed25519 AAAA… me@laptop"]', container=True)
    ] = []
    """Public keys that may log in as this user, and no others: lines of .pub files."""
