"""uv, pinned by version and hash, and the Pythons that the apps ask for, where services can read them."""

from __future__ import annotations

from slipway_host.layout import LAYOUT
from slipway_host.names import VENV, WRITTEN

from slipway.engine import operations
from slipway.engine.overview import HostOverview
from slipway.engine.place import place
from slipway.engine.program import Program, install
from slipway.engine.role import role
from slipway.settings import Settings

FOLDER = str(LAYOUT.pythons)
UV_SHA256 = {
    "x86_64": "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
    "aarch64": "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
}
"""SHA-256 of the wheels (manylinux_2_17) of uv's default release, as PyPI shows them."""
UV = str(LAYOUT.uv)
UV_CACHE = str(LAYOUT.python_cache)
"""uv's cache of what root installs: Pythons and certbot. Each app's builds have one of their own."""

# Logins may have another mask, but apps must be able to read what is installed.
# pip takes a hash from a requirements file only. Into a folder aside, then renamed: uv is there whole or not at all.
_INSTALL_UV = """
set -eu
umask 022
folder=$1 requirement=$2; shift 2
rm -rf "$folder" "$folder.partial"; mkdir -p "$(dirname "$folder")"
file=$(mktemp); trap 'rm -rf "$file" "$folder.partial"' EXIT; echo "$requirement" >"$file"
python3 "$(ls /usr/share/python-wheels/pip-*.whl)/pip" install \\
    --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir \\
    --no-deps --only-binary=:all: --require-hashes --target "$folder.partial" "$@" -r "$file"
sync --file-system "$folder.partial"
mv -T "$folder.partial" "$folder"
"""

# One that is there counts only if it is known to be on the disk: after a power cut half of it may be missing.
# $1 folder of the Pythons, $2 version
_PYTHON_INSTALLED = f"""
for python in "$1"/cpython-"$2"[-.]*/bin/python3.*; do
    [ -x "$python" ] || continue
    home=${{python%/bin/*}}
    [ ! -e "$home/{WRITTEN}" ] || {{ echo installed; exit; }}
    home=$(readlink -f "$home")
    for used in {LAYOUT.app("*").current}/{VENV}/bin/python; do # a release is on the disk with its Python
        case $(readlink -f "$used") in "$home"/*) echo used; exit ;; esac
    done
done
"""
# $1 folder of the Pythons, $2 version, $3 uv, then uv's environment
_INSTALL_PYTHON = f"""
umask 022
folder=$1 version=$2 uv=$3; shift 3
if env "$@" "$uv" python install --no-progress --reinstall "$version"; then
    sync --file-system "$folder" && for home in "$folder"/cpython-"$version"[-.]*; do : >"$home/{WRITTEN}"; done
    exit
fi
echo "Python comes from github.com; where a host can't reach it, set python.install_mirror or downloads_json_url" >&2
exit 1
"""


def with_own_lock(command: str, *folders: str) -> str:
    """A shell command that runs uv, with the locks of its folders made first: uv lets everybody open them, and so hold.

    + folders: those that it locks, besides its cache
    """
    made = [f"mkdir -p {each} && : >>{each}/.lock && chmod 600 {each}/.lock" for each in (UV_CACHE, *folders)]
    return f"{{ {' && '.join([*made, command])}; }}"


def uv_hashes(settings: Settings) -> dict[str, str]:
    """Architecture → SHA-256 of the uv that is to be installed."""
    own = {str(architecture): digest for architecture, digest in settings.python.uv.sha256.items()}
    return own or UV_SHA256


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


def uv_program(settings: Settings) -> str:
    """Path of uv's own file: the link to it comes later."""
    return str(LAYOUT.uv_program(settings.python.uv.version))


def uv(settings: Settings, overview: HostOverview) -> Program:
    """uv, by pip with its hash checked."""
    version, program = settings.python.uv.version, uv_program(settings)
    requirement = f"uv=={version} --hash=sha256:{uv_hashes(settings)[overview.architecture]}"
    index = ["--index-url", settings.python.index_url] if settings.python.index_url else []
    folder = str(LAYOUT.uv_program(version).parents[1])
    return Program(
        f"uv {version}",
        satisfied=f"[ ! -x {program} ] || echo installed",
        command=operations.shell_line(_INSTALL_UV, folder, requirement, *index),
    )


def pythons(settings: Settings) -> list[Program]:
    """Each Python that an app asks for, by `uv python install`."""
    environment = [f"{key}={value}" for key, value in uv_environment(settings).items()]
    environment += [f"UV_CACHE_DIR={UV_CACHE}"]
    environment += ["UV_COMPILE_BYTECODE=1"]  # only root may write it: each start of an app would compile it anew
    return [
        Program(
            f"Python {version}",
            # Not asked of uv, which writes to its cache even for a question.
            satisfied=operations.shell_line(_PYTHON_INSTALLED, FOLDER, version),
            command=with_own_lock(
                operations.shell_line(_INSTALL_PYTHON, FOLDER, version, uv_program(settings), *environment),
                FOLDER,
            ),
        )
        for version in sorted({app.python_version for app in settings.apps.values()})
    ]


@role("Python")
def python(settings: Settings, overview: HostOverview) -> None:
    """uv, a link to it, and the Pythons."""
    for program in [uv(settings, overview), *pythons(settings)]:
        install(f"Install {program.title}", program)
    place(name="Link uv", links={UV: uv_program(settings)})
