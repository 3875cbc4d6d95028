"""Every option of an inventory, with its meaning, its type and its default.

Copy this file to conf/production.py in your app's repository, and keep the lines you change: what isn't there has the
default shown here.
Names of files are relative to the inventory's folder. Anything unknown or wrong is refused before a host is touched.

Written by `python -m slipway.settings` from the settings' own documentation: edit that, not this file.
"""

hosts = [
    (
        # Address or name of the host, as ssh takes it. "@slipway/" is the connector that needs few round trips; without
        # it pyinfra's own is used, which takes the same settings.
        "@slipway/203.0.113.5",
        {
            # User to log in as: root, or one who may use sudo.
            "ssh_user": "deploy",
            # Your private SSH key, which only you may read; relative to the folder that you are in.
            # Ed25519, or RSA of at least 3072 bits.
            "ssh_key": "~/.ssh/id_ed25519",
            # Port of sshd.
            "ssh_port": 22,
            # Become root by sudo on the host; not needed when ssh_user is root.
            "_sudo": True,
            # How `slipway verify` and `--prove` reach the sites: at the domains themselves, unless this says otherwise.
            # Before their DNS records are set: "address": "203.0.113.5". With a private CA: "ca_file": "ca.pem".
            "verify": {},
            # Everything below is this project's; the lines above are pyinfra's (but for verify).
            "slipway": {
                # .env file beside the inventory with secrets of the host (not of an app); chmod 600.
                # Type: a path on this machine, relative to the inventory, or None; default None.
                "env_file": None,
                # Time zone of the host's clock and logs.
                # Type: a time zone's name; default "Etc/UTC".
                "timezone": "Etc/UTC",
                # The host's own name; None leaves it as it is. Not a domain of an app.
                # Type: a host name in lower-case ASCII of at most 64 characters, or None; default None.
                "hostname": None,
                # Debian packages to install besides what this project needs, such as libraries of an app.
                # Type: a list of Debian packages; default [].
                "packages": [],
                # Disk space for the journal, where all logs go (SystemMaxUse of journald.conf). Its own default is a
                # tenth of the disk, at most 4G.
                # Type: a size as journald writes it: digits with K, M, G or T; default "1G".
                "journal_max_size": "1G",
                # sshd: keys alone, and the algorithms of ssh-audit's hardening guides. A change of it, of the
                # firewall or of the operator's account undoes itself unless a new connection proves it.
                "ssh": {
                    # Harden sshd. False leaves it as the distribution has it, and removes what was written here
                    # before: passwords can be guessed again, where there are any.
                    # Type: True or False; default True.
                    "enabled": True,
                    # Port that sshd listens on; None leaves it where it is. While ssh_port above is another one, sshd
                    # listens on both; the run after you changed that closes the old one.
                    # Type: a whole number from 1 to 65535, or None; default None.
                    "port": None,
                    # root may log in, with a key. False ends that, and needs another user as ssh_user; a run only
                    # does so once that user has logged in anew and become root by sudo.
                    # Type: True or False; default True.
                    "root_login": True,
                    # Keys that a client may offer before it is disconnected. An agent offers all it has, so a lower
                    # number shuts out who has many; a key can't be guessed with any number.
                    # Type: a whole number of tries from 1 to 100; default 6.
                    "max_auth_tries": 6,
                    # Port forwarding. "local": tunnels from your machine to a port of the host (`ssh -L`), as for its
                    # database, and what Visual Studio Code's Remote-SSH needs; "remote": the other way round (`ssh
                    # -R`); "yes": both. Who may open a shell can always bring a forwarder of their own: "no" is for
                    # the accounts that can't.
                    # Type: one of "no", "local", "remote", "yes"; default "no".
                    "forwarding": "no",
                    # File beside the inventory with directives of sshd_config, such as AllowUsers or Match blocks.
                    # Type: a path on this machine, relative to the inventory, or None; default None.
                    "extra": None,
                },
                # The firewall: an nftables table of its own, which lets in what is said here and drops the rest.
                "firewall": {
                    # Filter what comes in. False removes the table: every program that listens is open to the
                    # Internet.
                    # Type: True or False; default True.
                    "enabled": True,
                    # TCP ports to open besides sshd's, 80 and 443.
                    # Type: a list of ports; default [].
                    "tcp_ports": [],
                    # UDP ports to open.
                    # Type: a list of ports; default [].
                    "udp_ports": [],
                    # New connections to sshd that one source may open in a minute, and at once; an IPv6 source is a
                    # /64. Beyond it they are dropped, and a client tries again after a second. 60 is what ssh-audit's
                    # guides ask for against DHEat; 0 is no limit.
                    # Type: a whole number of connections from 0 to 100000; default 60.
                    "ssh_rate": 60,
                    # Connections to 80 and 443 that one source may have open at a time; an IPv6 source is a /64. A
                    # browser has 6 to a site with HTTP/1.1 and one with HTTP/2; an office behind one address has
                    # many. trusted_proxies of an app are exempt. 0 is no limit: one machine can then take all of
                    # nginx's worker_connections.
                    # Type: a whole number of connections from 0 to 1000000; default 200.
                    "connections": 200,
                    # File beside the inventory with nftables rules for the input chain, before the ports are opened:
                    # ip saddr 192.0.2.0/24 tcp dport 5432 accept. Ports that Docker publishes don't come by here:
                    # they are forwarded.
                    # Type: a path on this machine, relative to the inventory, or None; default None.
                    "extra": None,
                },
                # An account for people, with sudo and without a password.
                "operator": {
                    # Name of the account, made if it isn't there; None makes none. Once it is there, write it as
                    # ssh_user, with "_sudo": True. An account that was made stays when this changes: ending a way in
                    # is yours to do (deluser).
                    # Type: a user's name: at most 32 lower-case letters, digits, _ and -, not starting with a digit,
                    # or None; default None.
                    "user": None,
                    # Public keys that may log in as this user, and no others: lines of .pub files.
                    # Type: a list of public keys; default [].
                    "authorized_keys": [],
                },
                # Where Python, uv and packages come from.
                "python": {
                    # Python of the apps that name none. Without a patch number, the newest uv knows when it is first
                    # installed.
                    # Type: a Python version from "3.10" to "3.14", with or without a patch number; default "3.13".
                    "version": "3.13",
                    # The tool that installs Pythons and packages.
                    "uv": {
                        # Release of uv. Another one than the default needs its SHA-256 below.
                        # Type: a uv release as "major.minor.patch"; default "0.13.8".
                        "version": "0.13.8",
                        # Architecture (x86_64, aarch64) → SHA-256 of uv's wheel, as PyPI shows it. Empty: those of
                        # the default release, which this project knows.
                        # Type: a mapping of x86_64 and aarch64 to SHA-256; default {}.
                        "sha256": {},
                    },
                    # Package index for uv itself and certbot; None is PyPI. Where an app's packages come from is in
                    # its lock file.
                    # Type: an https:// or http:// URL without user and password, or None; default None.
                    "index_url": None,
                    # Where `uv python install` fetches from instead of its default (UV_PYTHON_INSTALL_MIRROR).
                    # Type: an https://, http:// or file:// URL without user and password, or None; default None.
                    "install_mirror": None,
                    # List of Python downloads (UV_PYTHON_DOWNLOADS_JSON_URL), https:// or file:// on the host.
                    # Type: an https://, http:// or file:// URL without user and password, or None; default None.
                    "downloads_json_url": None,
                    # Trust the host's CA store for downloads, as a company's proxy needs; False: the store built into
                    # uv.
                    # Type: True or False; default True.
                    "system_certs": True,
                },
                # The certificate authority of the apps with TLS mode "acme".
                "acme": {
                    # Address of the ACME account, for the CA's notices; None: an account without one.
                    # Type: an e-mail address, or None; default None.
                    "email": None,
                    # Let's Encrypt's staging server: for trying things out without its limits. Browsers don't trust
                    # the result.
                    # Type: True or False; default False.
                    "staging": False,
                    # ACME directory URL; None is Let's Encrypt. Not together with staging.
                    # Type: the https:// URL of an ACME directory, or None; default None.
                    "directory": None,
                    # PEM file beside the inventory: the CA of the ACME server's own HTTPS, where it isn't a public
                    # one.
                    # Type: a path on this machine, relative to the inventory, or None; default None.
                    "ca_file": None,
                    # Key identifier of an external account binding, for CAs that ask for one. Needs
                    # eab_hmac_key_name.
                    # Type: the key identifier your CA gave you, of letters, digits and . _ ~ + / = : -, or None;
                    # default None.
                    "eab_key_id": None,
                    # Name of the variable in the host's env_file that holds the external account binding's HMAC key.
                    # Type: the name of a variable in the host's env_file, or None; default None.
                    "eab_hmac_key_name": None,
                    # Fetch a challenge file through every domain before an order is placed, so that a wrong DNS
                    # record is told at once and costs none of the CA's limits. Switch off where the host can't reach
                    # its own public address.
                    # Type: True or False; default True.
                    "check": True,
                },
                # nginx as a whole.
                "nginx": {
                    # Connections a worker process handles at once; one to the app counts too. Debian's 768 is used up
                    # by a single slow client with many connections.
                    # Type: a whole number of connections from 64 to 65536; default 4096.
                    "worker_connections": 4096,
                    # Seconds a client has for the header of a request: slow ones would hold connections that others
                    # need.
                    # Type: a whole number of seconds from 1 to 3600; default 10.
                    "header_timeout": 10,
                    # Seconds a client may pause while it sends a body.
                    # Type: a whole number of seconds from 1 to 3600; default 30.
                    "body_timeout": 30,
                    # Seconds a client may pause while it reads an answer (60 is nginx's default).
                    # Type: a whole number of seconds from 1 to 3600; default 60.
                    "send_timeout": 60,
                    # systemd shuts nginx off from all that a proxy doesn't need: it can write to /var/log/nginx,
                    # /var/lib/nginx, /var/cache/nginx and /run alone, and sees neither home folders nor others' /tmp.
                    # False: it may do what root may; for sites of your own that need that, a drop-in of yours
                    # (systemctl edit nginx) opens less.
                    # Type: True or False; default True.
                    "sandbox": True,
                    # Static files with .br in their names are sent in place of those without it, as those with .gz
                    # are: with Debian's module for that (libnginx-mod-http-brotli-static). The build of the app makes
                    # them; nginx itself compresses with gzip alone. False leaves a module that is installed.
                    # Type: True or False; default False.
                    "brotli": False,
                    # File beside the inventory with nginx directives for the http block.
                    # Type: a path on this machine, relative to the inventory, or None; default None.
                    "extra": None,
                },
                # Security updates, and programs that still run the old code.
                "updates": {
                    # Install security updates by themselves, every day (unattended-upgrades). False: known holes stay
                    # open until somebody runs apt.
                    # Type: True or False; default True.
                    "automatic": True,
                    # Further package sources whose updates are installed by themselves, as unattended-upgrades names
                    # them, such as "site=apt.postgresql.org". Empty: the distribution's alone.
                    # Type: a list of origins; default [].
                    "origins": [],
                    # Time of day, in the host's time zone, when it reboots if an update needs that (a new kernel
                    # does): "04:30", say. Requests fail meanwhile. None: it never does by itself; until you do, the
                    # old kernel runs, and each run says so.
                    # Type: a time of day from "00:00" to "23:59", or None; default None.
                    "reboot": None,
                    # Let system services and nginx take on libraries that an update replaced, at once (needrestart).
                    # No request is lost: nginx hands over to a new process of itself. Apps and databases are left
                    # alone, since their restart could lose one; a run names the apps that wait for it. False: all run
                    # the old code until they are restarted.
                    # Type: True or False; default True.
                    "restart": True,
                },
                # Kernel, logins, time and swap.
                "system": {
                    # Set what the kernel tells and allows unprivileged users and strangers on the network (sysctl).
                    # Forwarding is left as it is, since containers need it. False: its defaults, or yours.
                    # Type: True or False; default True.
                    "hardened_kernel": True,
                    # Kernel settings of your own, such as {"vm.swappiness": 10}, also in place of Slipway's: None
                    # leaves one as it is.
                    # Type: a mapping of kernel settings to their values; default {}.
                    "sysctl": {},
                    # Kernel modules that are never loaded: protocols and file systems that servers don't use, whose
                    # holes every local user could reach. Leave out what you need (usb-storage: disks at a USB port);
                    # empty: all may be loaded.
                    # Type: a list of kernel modules; default as here.
                    "denied_modules": [
                        "appletalk",
                        "atm",
                        "ax25",
                        "can",
                        "dccp",
                        "n-hdlc",
                        "netrom",
                        "rds",
                        "rose",
                        "sctp",
                        "tipc",
                        "cramfs",
                        "freevxfs",
                        "hfs",
                        "hfsplus",
                        "jffs2",
                        "firewire-core",
                        "usb-storage",
                    ],
                    # Keep the memory of programs that crash. It holds passwords and users' data, so it isn't kept;
                    # True leaves it to the system, for who looks for the reason of a crash.
                    # Type: True or False; default False.
                    "core_dumps": False,
                    # Line shown before a login, at the console and in /etc/issue.net. None leaves both as they are;
                    # Debian's own tell the system's version.
                    # Type: a text of one line, of at most 500 characters, or None; default "This is a private system.
                    # Access is for authorized users only, and is logged.".
                    "banner": "This is a private system. Access is for authorized users only, and is logged.",
                    # Mask of the files that people make who log in: 0027 lets others of the host, such as the apps,
                    # read none of them. None leaves it as it is; Debian's own, 0022, lets everybody read everything.
                    # Type: four octal digits as a string, from "0000" to "0077", or None; default "0027".
                    "umask": "0027",
                    # Refuse a new password that could be guessed (passwdqc) or was used before, take none for 15
                    # minutes after three wrong ones, make hashes slow to try, and let the password of a new account
                    # change once a day. No login over SSH has a password, but the provider's console and sudo may.
                    # What an administrator has set in PAM stays. False: any will do.
                    # Type: True or False; default True.
                    "strong_passwords": True,
                    # Keep the clock right by NTP, with whatever program is there for it, else systemd-timesyncd; in a
                    # container the clock is the machine's. False: it drifts, until certificates and signatures look
                    # expired.
                    # Type: True or False; default True.
                    "time_sync": True,
                    # Size of a swap file, for a host without any swap. None: as large as the memory where that is
                    # less than 2 GB; there a release (two of them run at a time) could end by lack of memory
                    # otherwise. 0: none.
                    # Type: a whole number of MB from 0 to 65536, or None; default None.
                    "swap_mb": None,
                    # Let root alone read the folders of cron's jobs and sudo's rules, which may hold passwords; and
                    # let nobody read what a person's shell reads, nor a home in which there is nothing yet. False:
                    # everybody may, as in Debian.
                    # Type: True or False; default True.
                    "restrict_files": True,
                    # Compare every file of Debian's packages with its checksum, once a week, by a timer (debsums): a
                    # disk that fails, or somebody who replaced a program, shows as a failed unit. False: neither
                    # shows.
                    # Type: True or False; default True.
                    "verify_packages": True,
                },
                # The apps, by name: each with its own user, domains and settings. The name is the user's, the units'
                # and the folders' on the host, so changing it makes a new app.
                # Type: a mapping of names to apps, at least one; required.
                "apps": {
                    # An app from a git repository, with every option.
                    "notes": {
                        # --- Names and code -------------------------------------------------------------------------
                        # Names the app answers to; all must point to the host. The certificate covers them all; at
                        # most 100, which is Let's Encrypt's limit for one certificate.
                        # Type: a list of 1 to 100 host names; required.
                        "domains": ["notes.example.com", "www.notes.example.com"],
                        # The code: a git repository, or a folder on this machine, with a lock file (`dependencies`).
                        # Type: either {"git": address, "ref": …} or {"path": local folder}; required.
                        "source": {
                            # Repository to fetch: an https, ssh or file URL, or git@host:path. A file URL is on the
                            # host, in a repository that root owns.
                            # Type: the address of a git repository: https://…, ssh://…, git@host:path or file:///…;
                            # required.
                            "git": "https://git.example.com/team/notes.git",
                            # Branch, tag or commit to release. A branch releases what it points to at the time of the
                            # run.
                            # Type: a branch, tag or commit: letters, digits and . _ / @ + -; default "main".
                            "ref": "main",
                            # Folder of the app inside the repository (monorepo, or a member of a uv workspace); empty
                            # is the root.
                            # Type: a folder inside the source: letters, digits and . _ + - /, or empty for its root;
                            # default "".
                            "subdir": "",
                            # Private SSH key file, beside the inventory, that may read the repository. Needs an SSH
                            # address in git; no passphrase, and no one but you may read the file (chmod 600).
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "deploy_key": None,
                            # known_hosts file with the git server's key (ssh-keyscan, then compare); without it, the
                            # first key seen is trusted and kept.
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "known_hosts": None,
                        },
                        # Application as module:attribute, or the function that makes it; literal arguments may
                        # follow, as in 'notes:create_app("production")'. None: it is found, by [tool.fastapi]
                        # entrypoint in pyproject.toml, the variables LITESTAR_APP and FLASK_APP, Django's manage.py,
                        # and usual names: app, application or create_app in main.py, app.py, and such modules of the
                        # project's package or of a folder app. A release says what it found.
                        # Type: an application as module:attribute, or None; default None.
                        "app": None,
                        # What the application speaks. None: a release finds out, by importing it before anything
                        # changes.
                        # Type: one of "asgi", "wsgi", or None; default None.
                        "interface": None,
                        # Whether `app` is a function that makes the application. None: a release finds out by its
                        # signature, and calls it unless interface is set.
                        # Type: True or False, or None; default None.
                        "factory": None,
                        # Folders below the app's from which modules are imported too, such as ["src"] for a src
                        # layout without a build system. The server, the check, migrations, hooks and processes all
                        # get them.
                        # Type: a list of folders; default [].
                        "python_path": [],
                        # Python version of this app; None: the host's python.version.
                        # Type: a Python version from "3.10" to "3.14", with or without a patch number, or None;
                        # default None.
                        "python": None,
                        # --- Environment ----------------------------------------------------------------------------
                        # Environment variables that are no secrets. Values reach the app exactly as written ($, %,
                        # quotes and all); True becomes "true". A variable stands either here or in env_file, not in
                        # both.
                        # Type: a mapping of variable names to text, numbers, True or False; default {}.
                        "env": {},
                        # .env file beside the inventory with the app's secrets: NAME=value lines, UTF-8, chmod 600,
                        # kept out of git. $ is a dollar sign, nothing is interpolated; quote a value that has spaces
                        # or a #. A quoted value may have several lines, such as a key in PEM; in double quotes \n is
                        # a line's end, too.
                        # Type: a path on this machine, relative to the inventory, or None; default None.
                        "env_file": None,
                        # Variables without which the app can't run: a run refuses to start when one is missing or
                        # empty.
                        # Type: a list of variable names; default [].
                        "required_env": [],
                        # Names from env and env_file that `uv sync` and the commands of `build` get too: credentials
                        # of a private index (UV_INDEX_INTERNAL_PASSWORD), or what settings need to be imported
                        # (DJANGO_SETTINGS_MODULE). Others they don't see.
                        # Type: a list of variable names; default [].
                        "build_env": [],
                        # Commands that make what the repository doesn't have, such as ["npm ci", "npm run build"] or
                        # ["python manage.py collectstatic --noinput"]. They run in each release once its dependencies
                        # are installed, one after another, in the app's folder, as the app's builder: they may write
                        # there, use the Internet, and reach nothing of the host. The release's bin folder is first in
                        # PATH, HOME is kept for the next build, and of the variables they get those of build_env. No
                        # shell; NAME=value may stand before a command. A command that fails ends the release. What
                        # they leave is part of it: let the last one remove what no release needs ("rm -rf
                        # node_modules").
                        # Type: a list of commands; default [].
                        "build": [],
                        # The same before the app's own project is installed, and after its dependencies are: commands
                        # that make what the build of the project itself needs, such as a front end that is part of
                        # its package.
                        # Type: a list of commands; default [].
                        "build_first": [],
                        # True: the host gets Node.js and npm from the distribution's packages, for commands of
                        # `build` and `build_first`.
                        # Type: True or False; default False.
                        "node": False,
                        # The only packages of the lock file that may be built on the host from their sources, which
                        # runs their code and that of their build requirements; those come from the index by name, and
                        # no lock file pins them. []: none, so that all must come as wheels. None: any.
                        # Type: a list of packages' names, or None; default None.
                        "build_only": None,
                        # Which packages a release has.
                        "dependencies": {
                            # Lock file, from the app's folder on. None: it is found there: uv.lock; else pylock.toml,
                            # requirements.txt with hashes, poetry.lock, pdm.lock or Pipfile.lock; else the uv.lock of
                            # a workspace above it.
                            # Type: a lock file's path, from the app's folder on: letters, digits and . _ + - /, or
                            # None; default None.
                            "lock": None,
                            # Extras of the project that production needs, such as ["postgres"].
                            # Type: a list of extras' names; default [].
                            "extras": [],
                            # Groups of dependencies that production needs, such as ["prod"]. No others are installed,
                            # uv's default-groups and the group dev included.
                            # Type: a list of groups' names; default [].
                            "groups": [],
                            # Packages besides those of the lock file, such as ["pymysql", "setuptools<81"]: a
                            # database's driver that the project leaves to whom runs it, or what a package imports
                            # without saying so. Their versions fit what the lock file pins; the first build pins
                            # them, as it does what the server needs.
                            # Type: a list of packages; default [].
                            "more": [],
                            # Whether the app's own project is installed into the environment, editable, so that its
                            # modules, metadata and commands are found. None: as uv does it with a uv.lock; otherwise
                            # where it says how it is built (build-system in pyproject.toml, or setup.py).
                            # Type: True or False, or None; default None.
                            "project": None,
                            # False: a requirements.txt may lack hashes, and versions; without a lock file
                            # pyproject.toml, setup.py or setup.cfg says what the app needs. The first build pins all
                            # it installs, and later builds of the same file install just that. That first one trusts
                            # the index.
                            # Type: True or False; default True.
                            "hashes": True,
                            # Day, as "2022-12-31", for a project of that time whose requirements.txt lacks versions:
                            # what a build pins was on the index before it. Needs hashes set to False, and an index
                            # that tells when each file came, as PyPI does. None: the newest versions that fit.
                            # Type: a day as "2022-12-31", or None; default None.
                            "before": None,
                            # True: what builds have downloaded is kept on the host, however large, and a build asks
                            # an index only for what it lacks: so one with the same lock file works while no index can
                            # be reached. To go back never needs one.
                            # Type: True or False; default False.
                            "offline": False,
                            # Private SSH key file, beside the inventory, by which a build fetches dependencies from
                            # git over SSH; no passphrase, and no one but you may read it (chmod 600). All that is
                            # built with them can read it: let it do nothing but read those repositories. Needs
                            # known_hosts.
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "deploy_key": None,
                            # known_hosts file with the keys of those git servers (ssh-keyscan, then compare). Needs
                            # deploy_key.
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "known_hosts": None,
                        },
                        # For SQLAlchemy's async engine: the app gets DATABASE_URL as postgresql+asyncpg:// or
                        # postgresql+psycopg://, whether the .env says postgres:// or postgresql:// (and sslmode= as
                        # ssl= for asyncpg); the original, for synchronous tools, is DATABASE_URL_SYNC. None:
                        # DATABASE_URL stays as it is.
                        # Type: one of "asyncpg", "psycopg", or None; default None.
                        "database_driver": None,
                        # Folders in the app's folder that the app may write, and that outlive releases, such as
                        # ["media", "data"]. Each is /srv/<app>/shared/<folder>, to which every release has a link.
                        # What the source has there is copied once, when the folder is made. Nothing in it is ever
                        # deleted by Slipway, and a rollback doesn't change it.
                        # Type: a list of folders' names; default [].
                        "shared": [],
                        # Path in the app's folder → file beside the inventory that each release gets a copy of, as
                        # {".env": "notes.env"}: secrets that the app reads from a file. The app alone can read it,
                        # and can't change it. {"db.sqlite3": {"writable": True}}: a file that the app itself makes
                        # and writes there, and that outlives releases like a folder of `shared`; for an app that
                        # replaces it by another, share its folder.
                        # Type: a mapping of paths in the app's folder to files; default {}.
                        "shared_files": {},
                        # --- Process --------------------------------------------------------------------------------
                        # Port on 127.0.0.1 where nginx offers the app without TLS to the host itself; the app gets it
                        # as PORT. None: no such port; sockets and 443 are enough for most.
                        # Type: a port from 1024 to 65535, or None; default None.
                        "port": None,
                        # The server that runs the app. What the app's lock file lacks of its packages is installed
                        # besides. Whichever it is, it has the socket of systemd, believes nginx alone, and finishes
                        # its requests and closes WebSockets when it is stopped. What each serves, and is good for, is
                        # in docs/explanation.md.
                        # Type: one of "gunicorn", "uvicorn", "granian", "hypercorn"; default "gunicorn".
                        "server": "gunicorn",
                        # A configuration of the server's in the app's folder, for the default server alone. Its hooks
                        # count (on_starting, post_fork, worker_exit and the like; child_exit after Slipway's own),
                        # and what it says of logs: loglevel, logconfig, logconfig_dict, logconfig_json, logger_class,
                        # access_log_format and the statsd settings. Everything else in it doesn't, since these
                        # settings and Slipway say it; the journal names what was passed over. None: no such file is
                        # read, whatever the source has.
                        # Type: a file inside the app's folder: letters, digits and . _ + - /, or None; default None.
                        "server_config": None,
                        # Worker processes; the app gets the number as WEB_CONCURRENCY. None: from the host's cores,
                        # and its memory for each app. So a further app can change the number of others, which are
                        # released with it.
                        # Type: a whole number from 1 to 256, or None; default None.
                        "workers": None,
                        # Seconds without a sign of life after which the server kills a worker. An async worker gives
                        # signs while it waits, so this ends blocked event loops, not long requests (30 is the
                        # server's default).
                        # Type: a whole number of seconds from 1 to 3600; default 30.
                        "timeout": 30,
                        # Seconds a worker may take to finish its requests when a release or restart stops it (30 is
                        # the server's default); systemd waits longer than that.
                        # Type: a whole number of seconds from 1 to 3600; default 30.
                        "graceful_timeout": 30,
                        # Seconds the app keeps an idle connection from nginx open: more than the 60 that nginx does
                        # by default, so that nginx closes first and no request meets a closing connection.
                        # Type: a whole number of seconds from 1 to 3600; default 75.
                        "keep_alive": 75,
                        # Threads of a worker that serves WSGI: so many requests at once. ASGI has none.
                        # Type: a whole number of threads from 1 to 1000; default 8.
                        "threads": 8,
                        # Connections from nginx that may wait until a worker takes them; the kernel's
                        # net.core.somaxconn bounds it too.
                        # Type: a whole number of connections from 1 to 65535; default 4096.
                        "backlog": 4096,
                        # Connections that a worker may have at once, nginx's idle ones among them, against more work
                        # than it can do; each of nginx's workers (one a core) keeps up to 64 of these for a minute.
                        # Beyond it a server answers 503, or lets them wait (docs/explanation.md). None: no limit.
                        # Type: a whole number of connections from 1 to 1000000, or None; default None.
                        "concurrency": None,
                        # True: the server writes a line for each request to the journal, which may cost half of the
                        # throughput. nginx has an access log in any case.
                        # Type: True or False; default False.
                        "access_log": False,
                        # Requests after which a worker is replaced, against leaks of memory; 0: never (the server's
                        # default). Another one serves before it is told to stop, and only one is replaced at a time;
                        # what is a stream ends after graceful_timeout.
                        # Type: a whole number of requests from 0 to 1000000; default 0.
                        "max_requests": 0,
                        # Up to so many requests more for each worker, at random, so that they aren't replaced in a
                        # row. Needs max_requests.
                        # Type: a whole number of requests from 0 to 1000000; default 0.
                        "max_requests_jitter": 0,
                        # Files and sockets a process may have open; every client's connection takes one. systemd's
                        # own default of 1024 is soon used up by WebSockets; 1048576 is the kernel's limit
                        # (fs.nr_open).
                        # Type: a whole number of descriptors from 1024 to 1048576; default 65536.
                        "limit_nofile": 65536,
                        # Mask of the files the app makes: 0027 lets its group read them and others nothing.
                        # Type: four octal digits as a string, from "0000" to "0077"; default "0027".
                        "umask": "0027",
                        # What the app is shut off from. It always runs without privileges, can write to its home and
                        # /tmp alone, and sees neither devices nor other users' processes; `systemd-analyze security`
                        # tells the rest.
                        "sandbox": {
                            # What the app may talk to. internet: any address, and the kernel about the host's
                            # interfaces (netlink). unix: Unix sockets alone, such as PostgreSQL's and Redis's on this
                            # host (postgresql:///notes?host=/run/postgresql); neither the Internet nor 127.0.0.1, so
                            # nothing that gets hold of the app can call home.
                            # Type: one of "internet", "unix"; default "internet".
                            "network": "internet",
                            # No memory is both written and run as code. False for packages that make machine code as
                            # they run (numba, JAX, callbacks of cffi); what an attacker smuggles into memory can then
                            # be run.
                            # Type: True or False; default True.
                            "memory_deny_write_execute": True,
                            # /proc has the app's own processes and nothing else (ProcSubset=pid). False for packages
                            # that read the machine's load or memory there (psutil, monitoring agents); the app then
                            # sees the kernel's settings and statistics.
                            # Type: True or False; default True.
                            "hide_system": True,
                            # Only the system calls that a service needs (@system-service of systemd, without those
                            # that set priorities or need privileges, chown among them). False for packages that call
                            # others and get "Operation not permitted"; the whole kernel is then open to what gets
                            # hold of the app.
                            # Type: True or False; default True.
                            "filter_system_calls": True,
                        },
                        # What the app may take of the host, so that it can't starve another.
                        "limits": {
                            # MB of memory; beyond it a process of the app is ended, and none of another's. While a
                            # release takes over from another, both have to fit. None: 160 % of the host's, divided by
                            # one more than it has apps: of one app 80 %, of two 53 % each, of three 40 %.
                            # Type: a whole number of MB from 64 to 10000000, or None; default None.
                            "memory_mb": None,
                            # Processes and threads.
                            # Type: a whole number of processes and threads from 32 to 1000000; default 1024.
                            "tasks": 1024,
                            # Share of the processors where several apps want them, against the weights of the others;
                            # all apps together have as much as nginx, sshd and the other services. Otherwise any app
                            # may have all.
                            # Type: a whole number of parts from 1 to 10000; default 100.
                            "cpu_weight": 100,
                            # MB that each process of the app may put in /dev/shm, which nobody else sees (64 as
                            # Docker's default).
                            # Type: a whole number of MB from 1 to 1000000; default 64.
                            "shm_mb": 64,
                            # MB that a release may put in /tmp, and as much again in /var/tmp: in memory, and gone
                            # when it ends. Large uploads wait there: for more than fits, let the app set TMPDIR to a
                            # folder of its /var/lib/<app>. None: a quarter of the host's memory.
                            # Type: a whole number of MB from 1 to 1000000, or None; default None.
                            "tmp_mb": None,
                            # MB of the app's own journal (`journalctl --namespace=<app>`): the oldest entries make
                            # room, and nobody else's.
                            # Type: a whole number of MB from 8 to 1000000; default 100.
                            "log_mb": 100,
                        },
                        # Name → program that keeps running beside the app's server, such as a worker or a scheduler.
                        # How-to: "Workers and jobs".
                        # Type: a mapping of names to processes; default {}.
                        "processes": {},
                        # Name → program that starts at a time and ends, as from a crontab.
                        # Type: a mapping of names to jobs; default {}.
                        "jobs": {},
                        # True for an app whose own process has a scheduler (APScheduler, fastapi-utils'
                        # repeat_every), which would run twice in two processes: it has one worker (workers), and the
                        # old release is told to stop as soon as the new one serves (drain_timeout and keep_warm are
                        # 0). While a release is tried, some seconds, both run. Better is a job, or a process that is
                        # alone.
                        # Type: True or False; default False.
                        "scheduler_in_web": False,
                        # --- Release --------------------------------------------------------------------------------
                        # "auto": what the source has, of Alembic, Django, Flask-Migrate and advanced-alchemy; None:
                        # never; otherwise the command. It runs once a release, in the app's folder, as the app's
                        # user, with its environment and the release's bin folder first in PATH, before any traffic;
                        # if it fails, the old release keeps serving.
                        # Type: "auto", or one command with its arguments, or None; default "auto".
                        "migrate": "auto",
                        # What configures migrations, in the app's folder: an alembic.ini of any name, a
                        # pyproject.toml with [tool.alembic], or Django's manage.py. None: the one that ALEMBIC_CONFIG
                        # of env names; else the one nearest to the app's folder, in it or up to three folders below
                        # it.
                        # Type: a file inside the app's folder: letters, digits and . _ + - /, or None; default None.
                        "migrate_config": None,
                        # Seconds a migration may take (at most a day); after that it is stopped and the release
                        # fails.
                        # Type: a whole number of seconds from 1 to 86400; default 600.
                        "migrate_timeout": 600,
                        # Seconds a migration waits for a lock of the database (PostgreSQL's lock_timeout) before it
                        # gives up and is tried again: while it waits, every later query for the same table waits
                        # behind it, those of the serving release too.
                        # Type: a whole number of seconds from 1 to 600; default 5.
                        "migrate_lock_timeout": 5,
                        # Longest time in seconds that one statement of a migration may take (PostgreSQL's
                        # statement_timeout); more than migrate_lock_timeout, because waiting for a lock counts, and
                        # at most migrate_timeout. None: migrate_timeout.
                        # Type: a whole number of seconds from 1 to 86400, or None; default None.
                        "migrate_statement_timeout": None,
                        # How often a migration that met a lock is tried again before the release fails; 0: never.
                        # migrate_timeout is for all tries together.
                        # Type: a whole number of retries from 0 to 100; default 5.
                        "migrate_retries": 5,
                        # Path that answers 2xx as long as the process lives, without asking the database, such as
                        # "/healthz". None: readiness_path, or /.
                        # Type: a path such as /healthz: / first, then letters, digits and . _ ~ - /, or None; default
                        # None.
                        "liveness_path": None,
                        # Path that answers 2xx when the app can serve, such as "/readyz". A release goes live only
                        # after it did, over its own socket; 429 counts as well, and if it answers 404, the release
                        # fails at once. None: liveness_path. If neither is set, a release is ready when it answers /
                        # with any status below 500, such as a redirect or 404, and names the path that the app seems
                        # to have for it.
                        # Type: a path such as /healthz: / first, then letters, digits and . _ ~ - /, or None; default
                        # None.
                        "readiness_path": None,
                        # Seconds between two questions to the readiness path, so that limits of the app's own aren't
                        # reached. The first few come sooner, and what doesn't answer well is asked again at once.
                        # Type: a whole number of seconds from 1 to 3600; default 1.
                        "readiness_interval": 1,
                        # Seconds a new release has until its readiness path answers; then the run fails and the old
                        # one keeps serving.
                        # Type: a whole number of seconds from 1 to 3600; default 60.
                        "readiness_timeout": 60,
                        # Seconds a release is watched after the switch: if its readiness path stops answering well
                        # meanwhile, the release before it serves again and the run fails; 429 is an answer. 0: not at
                        # all; nor is the first, which has none before it.
                        # Type: a whole number of seconds from 0 to 600; default 3.
                        "watch": 3,
                        # Seconds that requests, WebSockets and streams of the old release get to end by themselves
                        # after a switch; then it is told to stop (WebSockets get a clean close), and graceful_timeout
                        # counts. 0: it is told at once.
                        # Type: a whole number of seconds from 0 to 3600; default 30.
                        "drain_timeout": 30,
                        # Seconds the old release's processes stay after a switch, so that going back takes a second;
                        # they need the memory of both releases. 0: they stop as soon as they are drained. Less than
                        # drain_timeout never cuts that short.
                        # Type: a whole number of seconds from 0 to 86400; default 300.
                        "keep_warm": 300,
                        # Releases kept on the host, the serving one included: a rollback can use them. At least 2;
                        # each is a folder with an environment of its own, some 100 MB.
                        # Type: a whole number of releases from 2 to 100; default 5.
                        "keep_releases": 5,
                        # Seconds a release waits for another release of the same app to end, such as one from a
                        # colleague's machine; then the run fails. 0: it fails at once.
                        # Type: a whole number of seconds from 0 to 3600; default 60.
                        "lock_wait": 60,
                        # Commands of the app's own during a release. They run on the host as the app's user, in the
                        # app's folder, with the release's environment and its bin folder first in PATH, without a
                        # shell.
                        "hooks": {
                            # Command before the migration, as soon as the new release is built and checked. If it
                            # fails, the release fails and the old one keeps serving. None: nothing.
                            # Type: one command with its arguments, or None; default None.
                            "before_migrate": None,
                            # Command after the migration (also when there was none to run), before the new release is
                            # started. If it fails, the release fails and the old one keeps serving; what the
                            # migration did stays.
                            # Type: one command with its arguments, or None; default None.
                            "after_migrate": None,
                            # Command once the new release serves. If it fails, that release keeps serving, and the
                            # run fails.
                            # Type: one command with its arguments, or None; default None.
                            "after_switch": None,
                            # Command when a release failed; it gets the name of the step that did as SLIPWAY_STEP.
                            # Its own failure is shown and changes nothing.
                            # Type: one command with its arguments, or None; default None.
                            "on_failure": None,
                            # Command when one of `jobs` failed; it gets the job's name as SLIPWAY_JOB, and as
                            # SERVICE_RESULT, EXIT_CODE and EXIT_STATUS how it ended (systemd.exec(5)). It runs as the
                            # app, in the job's own unit.
                            # Type: one command with its arguments, or None; default None.
                            "on_job_failure": None,
                            # Seconds each of these commands may take; then it is stopped, and counts as failed.
                            # Type: a whole number of seconds from 1 to 3600; default 60.
                            "timeout": 60,
                        },
                        # What `--prove` sends to the app while a release goes out; the run fails if one request is
                        # lost.
                        "probe": {
                            # Paths of quick GET requests, in turn. Empty: the liveness_path alone; without one /,
                            # where any answer below 500 is good.
                            # Type: a list of paths, each with or without a query; default [].
                            "short": [],
                            # Path of a GET request that takes a while, longer than a switch does but less than
                            # drain_timeout; None: none is sent.
                            # Type: a path with or without a query, such as /search?q=1, or None; default None.
                            "slow": None,
                            # Path that takes a POST request with a body, which is sent slowly; it must answer 2xx and
                            # keep nothing. None: no upload.
                            # Type: a path with or without a query, such as /search?q=1, or None; default None.
                            "upload": None,
                            # Path of a WebSocket that answers every text message with one; None: none is opened.
                            # Type: a path with or without a query, such as /search?q=1, or None; default None.
                            "websocket": None,
                            # Path of an endless answer, such as server-sent events; None: none is read.
                            # Type: a path with or without a query, such as /search?q=1, or None; default None.
                            "stream": None,
                            # Connections that quick requests go over at the same time.
                            # Type: a whole number of connections from 2 to 500; default 10.
                            "connections": 10,
                            # Quick requests a second, all connections together.
                            # Type: a whole number of requests a second from 1 to 1000; default 50.
                            "rate": 50,
                        },
                        # --- nginx and TLS --------------------------------------------------------------------------
                        # Folder of static files that nginx serves without asking the app, or a list of several; None:
                        # there is none.
                        # Type: a mapping of options of static files, or a list of such mappings, or None; default
                        # None.
                        "static": None,
                        # Largest request body, such as an upload; beyond it nginx answers 413. 0: no limit (nginx's
                        # own default is 1m).
                        # Type: a size as nginx writes it: digits with k, m or g, or 0 for no limit; default "10m".
                        "max_body_size": "10m",
                        # Seconds nginx waits for the next bytes from the app (60 is nginx's default). Streams and
                        # WebSockets need a sign of life within that time.
                        # Type: a whole number of seconds from 1 to 3600; default 60.
                        "proxy_timeout": 60,
                        # CIDRs of proxies in front (a CDN) that are believed: the client's address in real_ip_header,
                        # the scheme in X-Forwarded-Proto, the port in X-Forwarded-Port, and X-Request-ID. What came
                        # to them by https isn't redirected, and what came by http is, except with tls mode "off".
                        # Empty: the client is whoever connects.
                        # Type: a list of networks; default [].
                        "trusted_proxies": [],
                        # Header in which trusted_proxies give the client's address.
                        # Type: the name of an HTTP header: letters, digits and hyphens; default "X-Forwarded-For".
                        "real_ip_header": "X-Forwarded-For",
                        # Headers that nginx adds to every answer. A location of your own with an add_header
                        # (nginx_extra) has none of them, unless it includes /etc/nginx/slipway/headers/<app>.conf.
                        "headers": {
                            # How long (in seconds: two years, as Mozilla and OWASP advise) browsers come by HTTPS
                            # alone. Append "; includeSubDomains" when every name below these domains has HTTPS, and
                            # "; preload" to be put on browsers' own lists (hstspreload.org), which is hard to undo.
                            # "max-age=0" makes browsers forget it; with None they remember what they were told. Never
                            # sent without TLS (unless a trusted proxy says https), or with a self-signed certificate.
                            # Type: max-age=seconds, with or without ; includeSubDomains and ; preload, or None;
                            # default "max-age=63072000".
                            "strict_transport_security": "max-age=63072000",
                            # What a page may load, and who may frame it. The default stops frames and plug-ins, and
                            # no script: which of these a page needs only its app knows, so the policy that stops
                            # injected ones is best sent by the app (see examples/notes), or set here. Left out, too,
                            # where the app sends X-Frame-Options, which it would overrule.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # "base-uri 'self'; frame-ancestors 'none'; object-src 'none'".
                            "content_security_policy": "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
                            # A policy to try out: browsers report (by its report-uri, and in their console) what it
                            # would stop, and stop nothing.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # None.
                            "content_security_policy_report_only": None,
                            # Who may frame a page, for browsers that don't know frame-ancestors: "DENY" or
                            # "SAMEORIGIN".
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # "DENY".
                            "x_frame_options": "DENY",
                            # Browsers take a file for what its Content-Type says.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # "nosniff".
                            "x_content_type_options": "nosniff",
                            # What other sites learn of the page that a visitor comes from: its origin, and nothing
                            # without TLS. "no-referrer" tells less, and makes the Origin of a form "null", which
                            # protections against CSRF refuse.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # "strict-origin-when-cross-origin".
                            "referrer_policy": "strict-origin-when-cross-origin",
                            # No policy files for documents of Adobe's programs.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # "none".
                            "x_permitted_cross_domain_policies": "none",
                            # Features of the browser that pages may use, such as "camera=(), geolocation=(),
                            # microphone=()".
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # None.
                            "permissions_policy": None,
                            # "same-origin" cuts a page off from windows of other origins, and so breaks logins in a
                            # pop-up.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # None.
                            "cross_origin_opener_policy": None,
                            # "same-origin" keeps other sites from showing this one's images and files.
                            # Type: the value of a header: one line of ASCII without ", \ and $, or None; default
                            # None.
                            "cross_origin_resource_policy": None,
                        },
                        # Beginning of a path → how often one address may ask for what is below it, such as {"/login":
                        # {"rate": "10r/m", "burst": 5}, "/api/": {"rate": "20r/s", "burst": 40}}; of several that
                        # fit, each counts. Empty: no limit, because what is too much only the app knows, and an
                        # office shares one address.
                        # Type: a mapping of paths to limits; default {}.
                        "rate_limits": {},
                        # Requests under way that one address, or the /64 network of one of IPv6, may have, each
                        # stream of HTTP/2 and each WebSocket counting; beyond it nginx answers 429. 500 is an office
                        # behind one address, most of it with a WebSocket open; it comes to 64 MB of nginx's memory,
                        # since of static files that are compressed one may have 96. None: no limit but that. Behind a
                        # proxy set trusted_proxies, or all of its visitors count as one.
                        # Type: a whole number of connections from 1 to 65535, or None; default 500.
                        "connections_per_client": 500,
                        # Large uploads under way that one address or /64 may have on this host: bodies of 5 MB or
                        # more, or of no announced length. Beyond it nginx answers 429. nginx keeps a body in a file
                        # until it is whole, so what one client can fill is max_body_size times that. Of bodies of 1
                        # MB or more it may have 6 under way, of 10 kB or more 16, unless this is more. None: what
                        # makes 40 MB, and 2 at least: 4 with a max_body_size of 10m, and with the smaller ones 62 MB.
                        # Type: a whole number of uploads from 1 to 65535, or None; default None.
                        "uploads_per_client": None,
                        # True: nginx answers 503 with a page (or JSON, for those who ask for JSON) instead of the
                        # app, which runs on and can be released. By port, the host and tunnels to it reach the app.
                        # Type: True or False; default False.
                        "maintenance": False,
                        # True: nginx compresses what the app answers; static files it compresses in any case. From
                        # the size of a page that shows both a secret and a part of the request, others could guess
                        # the secret (BREACH, CVE-2013-3587): for an API whose answers are long and hold no such
                        # pages. Each that is read slowly holds 300 kB of memory.
                        # Type: True or False; default False.
                        "compress": False,
                        # Where the app's certificate comes from.
                        "tls": {
                            # Where the certificate comes from. acme: from the CA in acme below, by HTTP-01, renewed
                            # by a timer. self-signed: made on the host, for tests. files: your own, from certificate
                            # and key. off: plain HTTP on port 80. Nothing falls back to another mode.
                            # Type: one of "acme", "self-signed", "files", "off"; default "acme".
                            "mode": "acme",
                            # PEM file with the full chain, the app's certificate first, relative to the inventory
                            # (mode "files").
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "certificate": None,
                            # PEM file with the private key, relative to the inventory (mode "files"); without
                            # passphrase, chmod 600.
                            # Type: a path on this machine, relative to the inventory, or None; default None.
                            "key": None,
                        },
                        # File beside the inventory with nginx directives for this app's server block. nginx checks it
                        # with everything else before it is used; it can undo anything this project sets.
                        # Type: a path on this machine, relative to the inventory, or None; default None.
                        "nginx_extra": None,
                    },
                    # An app from a folder on this machine, with static files, a limit, a worker and a job.
                    "shop": {
                        "domains": ["shop.example.com"],
                        "app": "shop.main:app",
                        "source": {
                            # Local folder to release, relative to the inventory: the project, or the root of a
                            # monorepo or workspace.
                            # Type: a path on this machine, relative to the inventory; required.
                            "path": "../examples/notes",
                            # Folder of the app inside it (monorepo, or a member of a uv workspace); empty is the
                            # root.
                            # Type: a folder inside the source: letters, digits and . _ + - /, or empty for its root;
                            # default "".
                            "subdir": "",
                            # Files and folders inside it that are sent although git ignores them, such as
                            # ["frontend/dist"]: what was built on this machine. What looks like a secret stays here
                            # all the same.
                            # Type: a list of paths in the folder; default [].
                            "include": [],
                        },
                        "static": {
                            # Folder with the static files, inside the app's folder; a command of `build` may make it.
                            # nginx follows no link on the way or in it, and gives away no file or folder whose name
                            # begins with a dot, but for .well-known. A folder of `shared` has what visitors sent:
                            # nginx names no type for it that a browser runs as code, and adds a policy that stops
                            # scripts.
                            # Type: a folder inside the app's folder: letters, digits and . _ + - /; required.
                            "path": "static",
                            # URL prefix nginx answers from that folder.
                            # Type: a path that starts and ends with /, such as /static/; default "/static/".
                            "url": "/static/",
                            # Seconds a browser may keep a file without asking again (Cache-Control: max-age).
                            # Type: a whole number of seconds from 0 to 31536000; default 3600.
                            "max_age": 3600,
                            # Files that a browser may keep for a year, since their content never changes. hashed:
                            # those whose names have a hash of it, as Django's ManifestStaticFilesStorage, Vite,
                            # webpack and esbuild write them (app.5e0040571e1a.css, index-BfQ9xYz1.js). all; none:
                            # max_age is for every file. Never files of `shared`.
                            # Type: one of "hashed", "all", "none"; default "hashed".
                            "immutable": "hashed",
                        },
                        "rate_limits": {
                            "/login": {
                                # Requests a second (r/s) or a minute (r/m) of one address, or of the /64 network of
                                # one of IPv6.
                                # Type: a rate as nginx writes it: a number, then r/s or r/m; required.
                                "rate": "10r/m",
                                # Requests that may come at once beyond that; what exceeds them gets 429.
                                # Type: a whole number of requests from 0 to 10000; default 10.
                                "burst": 10,
                            },
                        },
                        "processes": {
                            "worker": {
                                # Command that runs it, in the app's folder, with the release's bin folder first in
                                # PATH, without a shell. It must stay in the foreground.
                                # Type: one command with its arguments; required.
                                "command": "celery -A notes worker",
                                # How many of them run.
                                # Type: a whole number of processes from 1 to 64; default 1.
                                "count": 1,
                                # Signal that tells it to take no more work, to finish what it has, and to end. It
                                # goes to the main process alone.
                                # Type: one of "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"; default
                                # "SIGTERM".
                                "stop_signal": "SIGTERM",
                                # Seconds it has for that; then it is killed. Make it longer than the longest job. No
                                # release and no rollback waits for it, except a rollback's own workers, which start
                                # when they have ended.
                                # Type: a whole number of seconds from 1 to 86400; default 60.
                                "stop_timeout": 60,
                                # Seconds it must have run without ending before the release counts as working. One
                                # that connects to a broker first and then fails needs more.
                                # Type: a whole number of seconds from 0 to 600; default 3.
                                "alive": 3,
                                # True for a scheduler: the old release's is ended before the new one starts, so that
                                # never two run. Between the two none runs for a moment.
                                # Type: True or False; default False.
                                "alone": False,
                                # MB of memory that each of them may take, within the app's limits. None: those alone.
                                # Type: a whole number of MB from 16 to 10000000, or None; default None.
                                "memory_mb": None,
                            },
                        },
                        "jobs": {
                            "cleanup": {
                                # Command that runs it, in the app's folder, with the release's bin folder first in
                                # PATH, without a shell.
                                # Type: one command with its arguments; required.
                                "command": "python -m notes.cleanup",
                                # When it starts, by the host's clock and time zone: cron's five fields ("*/15 * * *
                                # *"; "@daily" and the like), or a calendar expression of systemd ("Mon..Fri 03:30",
                                # "hourly", "*-*-01 04:00 UTC").
                                # Type: a time: cron's five fields, or a calendar expression of systemd; required.
                                "schedule": "30 3 * * *",
                                # Seconds it may take (at most a week); then it is told to stop, and counts as failed.
                                # Type: a whole number of seconds from 1 to 604800; default 3600.
                                "timeout": 3600,
                                # Seconds it has to end when it is told to stop; then it is killed.
                                # Type: a whole number of seconds from 1 to 86400; default 30.
                                "stop_timeout": 30,
                                # Up to so many seconds later, at random, so that not all jobs of all hosts start at
                                # once.
                                # Type: a whole number of seconds from 0 to 86400; default 0.
                                "jitter": 0,
                                # True: if the host was off when it should have started, it starts as soon as the host
                                # is up. False: it waits for the next time.
                                # Type: True or False; default True.
                                "catch_up": True,
                            },
                        },
                    },
                },
            },
        },
    ),
]
