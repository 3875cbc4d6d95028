"""Which packages a release has: the lock file, and what of it counts."""

from __future__ import annotations

from typing import Annotated

from slipway.settings import types as t
from slipway.settings.base import LIST_DO, Model


class DependenciesSettings(Model):
    """Which packages a release has. What the app's server needs and the lock file lacks is installed besides: its
    versions fit those that the lock file pins, which stay as they are."""

    lock: t.LockPath | None = None
    """Lock file, from the app's folder on. None: it is found there: uv.lock; else pylock.toml, requirements.txt with
    hashes, poetry.lock, pdm.lock or Pipfile.lock; else the uv.lock of a workspace above it."""
    extras: Annotated[list[t.PackageName], t.Narrow("a list of extras' names", LIST_DO, container=True)] = []
    """Extras of the project that production needs, such as ["postgres"]."""
    groups: Annotated[list[t.PackageName], t.Narrow("a list of groups' names", LIST_DO, container=True)] = []
    """Groups of dependencies that production needs, such as ["prod"]. No others are installed, uv's default-groups and
    the group dev included."""
    more: Annotated[list[t.Requirement], t.Narrow("a list of packages", LIST_DO, container=True)] = []
    """Packages besides those of the lock file, such as ["pymysql", "setuptools<81"]: a database's driver that the
    project leaves to whom runs it, or what a package imports without saying so. Their versions fit what the lock file
    pins; the first build pins them, as it does what the server needs."""
    project: t.Switch | None = None
    """Whether the app's own project is installed into the environment, editable, so that its modules, metadata and
    commands are found. None: as uv does it with a uv.lock; otherwise where it says how it is built (build-system in
    pyproject.toml, or setup.py)."""
    hashes: t.Switch = True
    """False: a requirements.txt may lack hashes, and versions; without a lock file pyproject.toml, setup.py or
    setup.cfg says what the app needs. The first build pins all it installs, and later builds of the same file install
    just that. That first one trusts the index."""
    before: t.Day | None = None
    """Day, as "2022-12-31", for a project of that time whose requirements.txt lacks versions: what a build pins was on
    the index before it. Needs hashes set to False, and an index that tells when each file came, as PyPI does. None:
    the newest versions that fit."""
    offline: t.Switch = False
    """True: what builds have downloaded is kept on the host, however large, and a build asks an index only for what it
    lacks: so one with the same lock file works while no index can be reached. To go back never needs one."""
    deploy_key: t.LocalPath | None = None
    """Private SSH key file, beside the inventory, by which a build fetches dependencies from git over SSH; no
    passphrase, and no one but you may read it (chmod 600). All that is built with them can read it: let it do nothing
    but read those repositories. Needs known_hosts."""
    known_hosts: t.LocalPath | None = None
    """known_hosts file with the keys of those git servers (ssh-keyscan, then compare). Needs deploy_key."""
