"""inventories/vagrant.py beside a Vagrant that answers from here, and the Vagrantfile where there is a real one."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyinfra.api.exceptions import InventoryError

ROOT = Path(__file__).resolve().parents[2]

# What Vagrant 2.3.4 answers: of libvirt's machine, and of one of VirtualBox.
SSH_CONFIG = """\
Host bookworm
  HostName {address}
  User vagrant
  Port {port}
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile {key}
  IdentityFile /home/me/.vagrant.d/insecure_private_key
  IdentitiesOnly yes
  LogLevel FATAL

"""
LIBVIRT = SSH_CONFIG.format(address="192.168.121.66", port=22, key="/srv/slipway/.vagrant/id_ed25519")
VIRTUALBOX = SSH_CONFIG.format(address="127.0.0.1", port=2200, key='"/srv/my slipway/.vagrant/id_ed25519"')
SSH_PORT = """\
1764435600,bookworm,metadata,provider,virtualbox
1764435600,,ui,info,The forwarded ports for the machine are listed below. Please note that\\nthese values may differ
1764435600,,ui,info,    22 (guest) => 2200 (host)
1764435600,bookworm,forwarded_port,22,2200
"""
PORTS = f"""{SSH_PORT}\
1764435600,,ui,info,    80 (guest) => 2201 (host)
1764435600,bookworm,forwarded_port,80,2201
1764435600,,ui,info,   443 (guest) => 8443 (host)
1764435600,bookworm,forwarded_port,443,8443
"""

# Fails where it has no answer, as Vagrant does: of a machine that isn't up, of ports where the provider forwards none.
VAGRANT = """\
#!/bin/sh
echo "$*" >> {folder}/asked
cat {folder}/"$1" || {{ echo "The provider is reporting that it is not yet ready" >&2; exit 1; }}
"""


def inventory(folder: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> dict[str, Any]:
    """The host's data, where Vagrant has these answers to its subcommands."""
    (folder / "vagrant").write_text(VAGRANT.format(folder=folder))
    (folder / "vagrant").chmod(0o755)
    for subcommand, answer in answers.items():
        (folder / subcommand.replace("_", "-")).write_text(answer)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    [(name, data)] = runpy.run_path(str(ROOT / "inventories/vagrant.py"))["hosts"]
    assert name == f"@slipway/slipway-{os.environ.get('SLIPWAY_VAGRANT') or 'bookworm'}"
    assert isinstance(data, dict)
    return data


def test_a_machine_of_libvirt_is_reached_at_its_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_VAGRANT", raising=False)
    data = inventory(tmp_path, monkeypatch, ssh_config=LIBVIRT)
    assert (data["ssh_hostname"], data["ssh_port"], data["ssh_user"]) == ("192.168.121.66", 22, "vagrant")
    assert data["ssh_key"] == "/srv/slipway/.vagrant/id_ed25519"
    assert data["verify"] == {"address": "192.168.121.66", "http_port": 80, "https_port": 443}
    assert (tmp_path / "asked").read_text() == "ssh-config bookworm\n"


def test_a_machine_of_virtualbox_is_reached_by_the_ports_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_VAGRANT", "trixie")
    data = inventory(tmp_path, monkeypatch, ssh_config=VIRTUALBOX, port=PORTS)
    assert (data["ssh_hostname"], data["ssh_port"]) == ("127.0.0.1", 2200)
    assert data["ssh_key"] == "/srv/my slipway/.vagrant/id_ed25519"
    assert data["verify"] == {"address": "127.0.0.1", "http_port": 2201, "https_port": 8443}
    assert (tmp_path / "asked").read_text() == "ssh-config trixie\nport trixie --machine-readable\n"


@pytest.mark.parametrize(
    ("machine", "answers", "message"),
    [
        ("", {}, "machine bookworm is not up; run `vagrant up bookworm`"),
        ("trixie", {"ssh_config": "\n"}, "machine trixie is not up; run `vagrant up trixie`"),
        ("woody", {"ssh_config": LIBVIRT}, "SLIPWAY_VAGRANT: there is no woody; it takes bookworm and trixie"),
        *(
            (
                "",
                {"ssh_config": VIRTUALBOX, **ports},
                "no ports of 127.0.0.1 lead to 80 and 443 of machine bookworm; run `vagrant reload bookworm`",
            )
            for ports in ({}, {"port": SSH_PORT})
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_type(
    machine: str, answers: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_VAGRANT", machine)
    with pytest.raises(InventoryError) as error:
        inventory(tmp_path, monkeypatch, **answers)
    assert str(error.value) == message


def test_vagrant_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_VAGRANT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InventoryError) as error:
        runpy.run_path(str(ROOT / "inventories/vagrant.py"))
    assert str(error.value) == "Vagrant is not installed; install it, then run `vagrant up`"


@pytest.mark.skipif(not shutil.which("vagrant"), reason="there is no Vagrant")
def test_the_vagrantfile_is_valid_and_makes_its_key_once(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Vagrantfile", tmp_path)
    environment = os.environ | {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    made = []
    for _ in range(2):
        command = ["vagrant", "validate", "--ignore-provider"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        made.append((tmp_path / ".vagrant/id_ed25519").read_bytes())
    assert made[0] == made[1]
    assert isinstance(serialization.load_ssh_private_key(made[0], password=None), ed25519.Ed25519PrivateKey)
    assert (tmp_path / ".vagrant/id_ed25519").stat().st_mode & 0o777 == 0o600
