"""uv, pinned by version and hash, and the Pythons that the apps ask for, where services can read them."""

from __future__ import annotations

import shlex

from pyinfra.operations import files, server

from roles import _operations as operations
from roles._role import role
from roles._facts import HostOverview
from roles.settings import Settings

FOLDER = "/opt/slipway/python"
BUILDER = "slipway-build"
"""User that builds releases: the code of an app's dependencies runs then, and must not run as root."""

# pip takes a hash from a requirements file only. Into a folder aside, then renamed: uv is there whole or not at all.
_INSTALL_UV = """
set -eu
folder=$1 requirement=$2; shift 2
rm -rf "$folder" "$folder.partial"; mkdir -p "$(dirname "$folder")"
file=$(mktemp); trap 'rm -rf "$file" "$folder.partial"' EXIT; echo "$requirement" >"$file"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir \\
    --no-deps --only-binary=:all: --require-hashes --target "$folder.partial" "$@" -r "$file"
mv -T "$folder.partial" "$folder"
"""


def uv_environment(settings: Settings) -> dict[str, str]:
    """Variables by which uv on this host finds Pythons and packages (docs.astral.sh/uv/reference/environment)."""
    python = settings.python
    chosen = {
        "UV_PYTHON_INSTALL_DIR": FOLDER,
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_MANAGED_PYTHON": "1",
        "UV_NO_CONFIG": "1",
        "UV_SYSTEM_CERTS": "1" if python.system_certs else None,
        "UV_PYTHON_INSTALL_MIRROR": python.install_mirror,
        "UV_PYTHON_DOWNLOADS_JSON_URL": python.downloads_json_url,
    }
    return {key: value for key, value in chosen.items() if value is not None}


@role("Python")
def python(settings: Settings, overview: HostOverview) -> None:
    """uv by pip with its hash checked, then each Python by `uv python install`."""
    uv = settings.python.uv
    digest = uv.sha256[overview.architecture]
    folder = f"/opt/slipway/uv/{uv.version}"
    index = ["--index-url", settings.python.index_url] if settings.python.index_url else []
    operations.command_unless(
        name=f"Install uv {uv.version}",
        satisfied=f"[ ! -x {folder}/bin/uv ] || echo installed",
        commands=[operations.shell(_INSTALL_UV, folder, f"uv=={uv.version} --hash=sha256:{digest}", *index)],
        why=f"uv {uv.version} is installed",
    )
    files.link(name="Link uv", path="/opt/slipway/bin/uv", target=f"{folder}/bin/uv", user="root", group="root")
    environment = " ".join(f"{key}={shlex.quote(value)}" for key, value in uv_environment(settings).items())
    for version in sorted({app.python_version for app in settings.apps.values()}):
        operations.command_unless(
            name=f"Install Python {version}",
            satisfied=f"[ ! -x /opt/slipway/bin/uv ] || env {environment} UV_PYTHON_DOWNLOADS=never /opt/slipway/bin/uv python find {version} 2>/dev/null || true",
            commands=[f"env {environment} UV_CACHE_DIR=/var/cache/slipway/python /opt/slipway/bin/uv python install --quiet {version}"],
            why=f"Python {version} is installed",
        )
    server.user(name=f"Create the user {BUILDER}", user=BUILDER, system=True, home="/var/cache/slipway/build", create_home=False, shell="/usr/sbin/nologin")
    for path in ("/var/cache/slipway/uv", "/var/cache/slipway/build"):
        files.directory(name=f"Create {path}", path=path, user=BUILDER, group=BUILDER, mode="700")
