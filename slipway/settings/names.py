"""Names that an app or a variable can't have, because the system already uses them."""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from slipway.servers import SERVERS

RESERVED_APP_PREFIXES = ("systemd-", "slipway-", "ssh-", "sshd-", "certbot-")
"""Beginnings of names that systemd, sshd, certbot or this project use for units and folders."""

# This project's own.
_OWN = """
slipway access acme app builds certbot install letsencrypt sources upstreams
"""
# Users and groups of Debian's base-passwd, and of services often installed beside an app.
_USERS = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup adm tty disk
dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users input sgx
kvm render crontab messagebus polkitd ntp ntpsec chrony syslog postfix postdrop uuidd tcpdump debian admin ubuntu
vagrant ec2-user deploy postgres postgresql mysql mariadb redis valkey memcache memcached rabbitmq mongodb mongod
elasticsearch nginx apache apache2 httpd caddy haproxy varnish traefik lighttpd docker containerd podman fail2ban
unbound bind named dnsmasq exim exim4 dovecot opendkim grafana prometheus node-exporter netdata
"""
# Files and folders of /etc, /run, /srv and /var/lib that belong to the system, and names of its units.
_FOLDERS = """
adduser alternatives app-info apparmor appstream apt apt-daily apt-daily-upgrade autovt basic binfmt blockdev
bluetooth boot-complete ca-certificates console-getty container container-getty credentials cron cryptdisks cryptsetup
ctrl-alt-del dbus dbus-1 dbus-org dconf debconf debug-shell debuginfod default deluser dhcp dpkg dpkg-db-backup
e2scrub emergency environment ethertypes exit factory-reset final first-boot-complete fonts fstab fstrim gai gdb getty
getty-pre getty-static git gitconfig groff group gshadow gss halt hibernate host hostname hosts hwclock hybrid-sleep
init initctl initrd initramfs initramfs-tools inputrc integritysetup iproute2 iptables issue kernel kexec kmem kmod
ldap ldconfig libaudit local-fs local-fs-pre locale localtime lock log logcheck login logrotate lsb lvm machine
machine-id machines magic man-db mdadm mime misc mke2fs modprobe modules modules-load motd mount mtab multi-user mdns
netconfig netns netplan network network-online network-pre networks nftables nsswitch nss-lookup opt os-release
packagekit pam passwd paths pcrlock perl pip polkit polkit-1 portables poweroff printer private profile protocols
python python3 quotaon rc-local reboot remote-fs rescue resolv resolvconf rmt rpc rpcbind rsyslog rsyncd runit screen
screenrc securetty security selinux sensors serial-getty services sftp-server sgml shells shm shutdown skel sleep
slices smartcard snmp sockets soft-reboot sound ssh sshd ssl ssl-cert storage-target-mode subgid subuid sudoers
sulogin suspend swap sysctl sysinit systemd system sysusers terminfo time-set time-sync timers timezone tmp tmpfiles
tmux tpm2 ucf udev udisks2 ufw umount unattended-upgrades update-motd upower user usb-gadget uv vconsole veritysetup
vim wgetrc wpa wtmpdb x11 xattr xdg xml
cloud cloud-init containers grub lxd samba snapd
"""

RESERVED_APP_NAMES = frozenset((_OWN + _USERS + _FOLDERS).split())
"""Names a Debian 12 or 13 host has, or may get from a package, as user, group, unit or folder beside the app's own."""

_PEOPLE = ["debian", "admin", "ubuntu", "vagrant", "ec2-user", "deploy"]
RESERVED_LOGINS = frozenset(_USERS.split()) - frozenset(_PEOPLE)
"""Names that no person's account can have: those of users and groups of the system."""

_HOME = f"remove it; the app's home and its place to write is {LAYOUT.app('<app>').home}, and STATE_DIRECTORY names it"
_SYSTEMD = "remove it; systemd sets it for the service"
_LOADER = "remove it; it would load code into every process of the service"

# What ld.so reads (ld.so(8)); other names with LD_ are free: LaunchDarkly's begin so, too.
_LD = """
ASSUME_KERNEL AUDIT BIND_NOT BIND_NOW DEBUG DEBUG_OUTPUT DYNAMIC_WEAK HWCAP_MASK LIBRARY_PATH ORIGIN_PATH POINTER_GUARD
PREFER_MAP_32BIT_EXEC PRELOAD PROFILE PROFILE_OUTPUT SHOW_AUXV TRACE_LOADED_OBJECTS TRACE_PRELINKING USE_LOAD_BIAS
VERBOSE WARN
"""

RESERVED_VARIABLES: dict[str, str] = {
    "PATH": "remove it; the release's own environment comes first in PATH",
    "HOME": _HOME,
    "STATE_DIRECTORY": _HOME,
    "RUNTIME_DIRECTORY": _SYSTEMD,
    "CACHE_DIRECTORY": _SYSTEMD,
    "LOGS_DIRECTORY": _SYSTEMD,
    "CONFIGURATION_DIRECTORY": _SYSTEMD,
    "CREDENTIALS_DIRECTORY": _SYSTEMD,
    "NOTIFY_SOCKET": _SYSTEMD,
    "LISTEN_FDS": _SYSTEMD,
    "LISTEN_PID": _SYSTEMD,
    "LISTEN_FDNAMES": _SYSTEMD,
    "MAINPID": _SYSTEMD,
    "INVOCATION_ID": _SYSTEMD,
    "JOURNAL_STREAM": _SYSTEMD,
    "WATCHDOG_PID": _SYSTEMD,
    "WATCHDOG_USEC": _SYSTEMD,
    "USER": _SYSTEMD,
    "LOGNAME": _SYSTEMD,
    "SHELL": _SYSTEMD,
    "PWD": _SYSTEMD,
    **{f"LD_{name}": _LOADER for name in _LD.split()},
    "IFS": _LOADER,
    "BASH_ENV": _LOADER,
    "PYTHONPATH": "remove it and set python_path; code comes from the release and its lock file",
    "PYTHONHOME": "remove it; the interpreter is the release's own",
    "PYTHONSTARTUP": _LOADER,
    "VIRTUAL_ENV": "remove it; the environment is the release's own",
    **{name: do for server in SERVERS.values() for name, do in server.reserved.items()},
    "WEB_CONCURRENCY": "remove it and set workers",
    "PORT": "remove it and set port",
    "RELEASE_ID": "remove it; every release gets its own",
    "SLIPWAY_APP": "remove it and set app",
    "SLIPWAY_INTERFACE": "remove it and set interface",
}
"""Variables an inventory can't set → what to do instead."""


def reserved_variable(name: str) -> str | None:
    """What to do instead of setting the variable `name`, or None where it may be set."""
    return RESERVED_VARIABLES.get(name)


def reserved_app(name: str) -> bool:
    """Whether an app called `name` would collide with a user, unit or folder of the system."""
    return name in RESERVED_APP_NAMES or name.startswith(RESERVED_APP_PREFIXES)
