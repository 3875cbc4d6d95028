"""What the unit tests share: inventories on disk, a host that exists only as facts, and plans of roles."""

from __future__ import annotations

import copy
import json
import logging
import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host, HostData
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import ctx_host, ctx_state

from roles.base.facts import PackageFacts, Packages
from roles.firewall.facts import Firewall, FirewallState
from roles.nginx.facts import NginxVersion
from roles.release.facts import GitCommit, ReleasePlan
from roles.ssh.facts import Sshd, SshdState
from roles.system.facts import KernelSetting, KernelSettings, SwapFacts
from slipway.engine.facts import Answer, Changed, Existing, Places, Stale, Texts, Unit
from slipway.engine.host import HostFacts
from slipway.engine.overview import HostOverview, Overview
from slipway.settings import Settings, load
from tests.unit.inventories import certificate, changed, new_key, pem_key, ssh_key, write_private, write_project
from tests.unit.plans import (
    Facts,
    NginxStatus,
    Operation,
    Plan,
    Planner,
    ReleaseStatus,
    RollbackTarget,
    after,
    command_of,
    host_facts,
)

ROOT = Path(__file__).resolve().parents[2]
MARK = "s3cr3t"
"""Part of every secret value of the inventories here, so that one search finds any of them."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""What a git source's branch points to."""
KEX = frozenset({"sntrup761x25519-sha512@openssh.com", "curve25519-sha256", "diffie-hellman-group14-sha1"})
"""Key exchanges that a host's sshd knows."""

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f alice@laptop"
"""A key that may log in."""

# ── inventories ──────────────────────────────────────────────────────────────────────────────────────────────────────

_MAXIMAL: dict[str, Any] = {
    "env_file": "host.env",
    "timezone": "Europe/Berlin",
    "hostname": "box",
    "packages": ["libpq5"],
    "journal_max_size": "2G",
    "python": {
        "version": "3.12",
        "index_url": "https://index.example.com/simple/",
        "install_mirror": "https://mirror.example.com/python/",
        "downloads_json_url": "file:///etc/pythons.json",
        "system_certs": True,
    },
    "acme": {
        "email": "ops@example.com",
        "directory": "https://ca.example.com/dir",
        "ca_file": "chain.pem",
        "eab_key_id": "kid-1",
        "eab_hmac_key_name": "EAB_HMAC",
    },
    "nginx": {
        "worker_connections": 1000,
        "header_timeout": 11,
        "body_timeout": 12,
        "sandbox": True,
        "extra": "http.conf",
    },
    "ssh": {
        "port": 2222,
        "root_login": False,
        "max_auth_tries": 3,
        "forwarding": "local",
        "extra": "sshd.conf",
    },
    "firewall": {
        "tcp_ports": [8443],
        "udp_ports": [51820],
        "ssh_rate": 30,
        "connections": 100,
        "extra": "extra.nft",
    },
    "operator": {"user": "alice", "authorized_keys": [PUBLIC_KEY]},
    "updates": {"origins": ["site=apt.example.com"], "reboot": "04:30"},
    "system": {
        "sysctl": {"vm.swappiness": 10, "kernel.dmesg_restrict": None},
        "denied_modules": ["dccp"],
        "banner": "Keep out",
        "umask": "0077",
        "swap_mb": 512,
    },
    "apps": {
        "notes": {
            "domains": ["notes.example.com", "www.notes.example.com"],
            "source": {"path": "mono", "subdir": "apps/notes"},
            "app": "notes.main:create.app",
            "env": {"LOG_LEVEL": "info", "DEBUG": False},
            "env_file": "notes.env",
            "required_env": ["TOKEN"],
            "build_env": ["UV_INDEX_INTERNAL_PASSWORD"],
            "database_driver": "asyncpg",
            "port": 8001,
            "workers": 3,
            "timeout": 41,
            "graceful_timeout": 42,
            "keep_alive": 83,
            "max_requests": 1000,
            "max_requests_jitter": 100,
            "limit_nofile": 4096,
            "umask": "0077",
            "sandbox": {
                "network": "internet",
                "memory_deny_write_execute": False,
                "hide_system": False,
                "filter_system_calls": False,
            },
            "migrate": "python -m notes.migrate --all",
            "migrate_timeout": 44,
            "migrate_lock_timeout": 4,
            "migrate_statement_timeout": 43,
            "migrate_retries": 6,
            "readiness_path": "/ready",
            "readiness_timeout": 45,
            "keep_releases": 3,
            "watch": 7,
            "drain_timeout": 20,
            "keep_warm": 90,
            "lock_wait": 8,
            "hooks": {
                "before_migrate": "bin/before --now",
                "after_migrate": "python -m notes.after",
                "after_switch": "bin/warm 'two words'",
                "on_failure": "bin/page",
                "timeout": 9,
            },
            "static": {"path": "static", "url": "/assets/", "max_age": 60},
            "max_body_size": "25m",
            "proxy_timeout": 46,
            "trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"],
            "real_ip_header": "CF-Connecting-IP",
            "headers": {
                "strict_transport_security": "max-age=31536000; includeSubDomains; preload",
                "content_security_policy": "default-src 'self'",
                "content_security_policy_report_only": "default-src 'none'; report-uri /csp",
                "x_frame_options": "SAMEORIGIN",
                "x_content_type_options": "nosniff",
                "referrer_policy": "no-referrer",
                "x_permitted_cross_domain_policies": None,
                "permissions_policy": "camera=(), geolocation=()",
                "cross_origin_opener_policy": "same-origin",
                "cross_origin_resource_policy": "same-site",
            },
            "rate_limits": {"/login": {"rate": "10r/m", "burst": 5}, "/api/v1.0/": {"rate": "20r/s", "burst": 40}},
            "connections_per_client": 50,
            "maintenance": True,
            "compress": True,
            "nginx_extra": "notes.conf",
        },
        "wiki-next": {
            "domains": ["wiki.example.com"],
            "source": {
                "git": "git@git.example.com:team/wiki.git",
                "ref": "main",
                "deploy_key": "deploy_key",
                "known_hosts": "known_hosts",
            },
            "app": "wiki:app",
            "python": "3.13",
            "migrate": None,
            "tls": {"mode": "files", "certificate": "chain.pem", "key": "key.pem"},
        },
        "lab": {
            "domains": ["lab.example.com", "a.lab.example.com"],
            "source": {"git": "https://git.example.com/team/lab.git", "ref": "v1"},
            "app": "lab:app",
            "tls": {"mode": "self-signed"},
        },
        "plain": {
            "domains": ["plain.example.com"],
            "source": {"path": "plain"},
            "app": "plain:app",
            "port": 8002,
            "static": {"path": "public"},
            "tls": {"mode": "off"},
        },
    },
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the inventories here name: sources, secrets, keys, certificates."""
    made = tmp_path_factory.mktemp("inventories")
    for project in ("project", "plain", "mono/apps/notes"):
        write_project(made / project)
    hooks = made / "mono/apps/notes/bin"
    hooks.mkdir()
    for name in ("before", "warm", "page"):
        (hooks / name).touch(0o755)
    key = new_key()
    write_private(made / "key.pem", pem_key(key))
    write_private(made / "deploy_key", ssh_key(key))
    (made / "chain.pem").write_bytes(certificate(key, ["wiki.example.com"]))
    (made / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n")
    (made / "notes.conf").write_text("add_header X-Extra notes;\n")
    (made / "sshd.conf").write_text("AllowUsers alice\n")
    (made / "extra.nft").write_text("ip saddr 192.0.2.0/24 tcp dport 5432 accept\n")
    (made / "http.conf").write_text("client_header_buffer_size 2k;\n")
    (made / "production.py").write_text("hosts = []\n")
    write_private(made / "host.env", f"EAB_HMAC={MARK}Eab\n")
    lines = (
        f"TOKEN='{MARK}Token \"$HOME\" %41 #'",
        f"DATABASE_URL=postgres://notes:{MARK}Db@db.example.com/notes?sslmode=require",
        f"UV_INDEX_INTERNAL_PASSWORD={MARK}Index",
    )
    write_private(made / "notes.env", "\n".join(lines) + "\n")
    return made


@pytest.fixture
def minimal_data() -> dict[str, Any]:
    """The smallest inventory there can be; a copy that a test may change."""
    return changed({})


@pytest.fixture
def maximal_data() -> dict[str, Any]:
    """An inventory with every option set, and an app of each TLS mode; a copy that a test may change."""
    return copy.deepcopy(_MAXIMAL)


@pytest.fixture
def make_settings(folder: Path) -> Callable[[Mapping[str, Any]], Settings]:
    """Settings of an inventory's ``slipway`` mapping."""
    return lambda data: load(data, inventory=folder / "production.py", host="203.0.113.5")


@pytest.fixture
def minimal(make_settings: Callable[[Mapping[str, Any]], Settings], minimal_data: dict[str, Any]) -> Settings:
    """One app, and a default for everything that has one."""
    return make_settings(minimal_data)


@pytest.fixture
def maximal(make_settings: Callable[[Mapping[str, Any]], Settings], maximal_data: dict[str, Any]) -> Settings:
    """Four apps, and nothing at its default."""
    return make_settings(maximal_data)


# ── a host of facts ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def overview() -> HostOverview:
    """A host that nothing speaks against."""
    return HostOverview(
        distribution="debian",
        release="12",
        architecture="x86_64",
        systemd=True,
        root=True,
        cores=4,
        memory_mb=4000,
        disk_free_mb=20000,
        clock=int(time.time()),
        listeners={},
        users={"root": "/root", "www-data": "/var/www"},
    )


@pytest.fixture
def bare(overview: HostOverview) -> Facts:
    """Facts of a host that has nothing but systemd, sshd and IPv6."""
    return {
        Overview: overview,
        Places: {},
        Texts: lambda paths: dict.fromkeys(paths, ""),
        Answer: "",
        # Only what comes with the kernel is there yet.
        Existing: lambda paths: frozenset({"/proc/net/if_inet6"} & {*paths}),
        Unit: {},
        Changed: {},
        Stale: False,
        KernelSettings: {"kernel/kptr_restrict": KernelSetting("0", writable=True)},
        SwapFacts: {"swaps": "0", "type": "ext2/ext3", "free": "20000"},
        Packages: PackageFacts(frozenset({"python3"}), interrupted=False),
        NginxVersion: None,
        NginxStatus: {},
        ReleaseStatus: {},
        ReleasePlan: {},
        RollbackTarget: {},
        GitCommit: COMMIT,
        SshdState: Sshd({"port": ("22",)}, KEX, {"ed25519": 256, "rsa": 3072}, used=frozenset({22})),
        FirewallState: Firewall(),
    }


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, bare: Facts) -> Planner:
    """`plan(role, *arguments, facts=…, failing=…, **named)`: what a role would do to a host of these facts.

    Runs on pyinfra's @fake host in API mode, and answers with a `Plan`. Without `facts` the host is `bare`; a fact that
    isn't declared fails the test. `failing` are operations that end with an error.
    """
    monkeypatch.setattr(logging.getLogger("pyinfra"), "propagate", True)
    reasons: list[str] = []
    monkeypatch.setattr(Host, "noop", lambda host, reason: reasons.append(reason))

    def make(
        role: Callable[..., Any],
        *arguments: Any,
        facts: Facts | None = None,
        failing: tuple[str, ...] = (),
        diff: bool = False,
        **named: Any,
    ) -> Plan:
        known = bare if facts is None else facts

        def get_fact(host: Host, fact: type, *arguments: Any, **named: Any) -> Any:
            if fact is HostFacts:
                return host_facts(known, *arguments, **named)
            assert fact in known, f"undeclared fact: {fact.__name__}{arguments}{named}"
            value = known[fact]
            return value(*arguments, **named) if callable(value) else value

        monkeypatch.setattr(Host, "get_fact", get_fact)
        inventory = Inventory((["@fake"], {}), production=(["@fake"], {}))  # type: ignore[no-untyped-call]
        state = State(inventory, Config(DIFF=diff))  # type: ignore[no-untyped-call]
        host = inventory.get_host("@fake")
        state.activate_host(host)
        state.set_stage(StateStage.Prepare)
        planned = Plan()
        with ctx_state.use(state), ctx_host.use(host):
            role(*arguments, **named)
            state.set_stage(StateStage.Execute)
            state.is_executing = True
            for key, operation in state.ops[host].items():
                (name,) = state.op_meta[key].names
                reasons.clear()
                sent = list(operation.command_generator())
                operation.operation_meta.set_complete(name not in failing, sent, CommandOutput([]))
                planned.append(Operation(name, [command_of(each) for each in sent], list(reasons)))
        return planned

    return make


@pytest.fixture(scope="session")
def bare_plans() -> dict[str, Plan]:
    """Plans of deploy.py for a bare host, by inventory: each is made once."""
    return {}


@pytest.fixture
def plan_deploy(plan: Planner, folder: Path, bare_plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch) -> Planner:
    """`plan_deploy(data, *arguments, entry=…, facts=…, failing=…)`: a whole run for a host of this ``slipway`` mapping.

    It is that of deploy.py or of an `entry` among tasks/, with these arguments of pyinfra's command line.
    """

    def make(data: Mapping[str, Any], *arguments: str, entry: str = "deploy.py", **options: Any) -> Plan:
        monkeypatch.setattr(sys, "argv", ["pyinfra", str(folder / "production.py"), entry, *arguments])
        given = {name: value for name, _, value in (word.partition("=") for word in arguments if "=" in word)}
        monkeypatch.setattr(HostData, "dict", lambda self: {"ssh_user": "deploy", "slipway": data} | given)
        if options or arguments or entry != "deploy.py":
            return plan(runpy.run_path, str(ROOT / entry), **options)
        key = json.dumps(data)
        if key not in bare_plans:
            bare_plans[key] = plan(runpy.run_path, str(ROOT / "deploy.py"))
        return bare_plans[key]

    return make


@pytest.fixture
def converge(
    plan_deploy: Planner, bare: Facts, make_settings: Callable[[Mapping[str, Any]], Settings]
) -> Callable[[Mapping[str, Any]], Facts]:
    """`converge(data)`: facts of a host that deploy.py has made what this ``slipway`` mapping asks for."""
    return lambda data: after(plan_deploy(data), bare, make_settings(data))
