# The test VPS: Debian with systemd, sshd and a sudo user, and nothing else prepared.
ARG BASE
FROM ${BASE}
ARG SUITE
COPY ca/ /usr/local/share/ca-certificates/
# A VPS has none of what container images add: here packages start their services and keep their documentation.
RUN set -eu; \
    rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-* /etc/dpkg/dpkg.cfg.d/docker* /etc/apt/sources.list; \
    printf 'Types: deb\nURIs: http://deb.debian.org/debian\nSuites: %s %s-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://security.debian.org/debian-security\nSuites: %s-security\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
        "$SUITE" "$SUITE" "$SUITE" > /etc/apt/sources.list.d/debian.sources; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y upgrade; \
    apt-get -qq -y install --no-install-recommends \
        systemd systemd-sysv dbus libpam-systemd openssh-server sudo ca-certificates iproute2 mount e2fsprogs \
        $(apt-cache show linux-sysctl-defaults >/dev/null 2>&1 && echo linux-sysctl-defaults) >/dev/null; \
    update-ca-certificates; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d
# The kernel's modules are the machine's business, and every target makes its own identity at its first start.
RUN set -eu; \
    systemctl mask systemd-modules-load.service; \
    useradd --create-home --shell /bin/bash deploy; \
    printf 'deploy ALL=(ALL) NOPASSWD: ALL\n' > /etc/sudoers.d/deploy; \
    chmod 0440 /etc/sudoers.d/deploy; \
    rm -f /etc/ssh/ssh_host_*; \
    : > /etc/machine-id
