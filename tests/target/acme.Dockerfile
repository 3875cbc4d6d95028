# The ACME server beside a target: Let's Encrypt's Pebble, its DNS, and a web server for the mirror of Pythons.
ARG BASE
FROM ${BASE}
RUN set -eu; \
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; \
    printf 'deb http://deb.debian.org/debian bookworm main\n' > /etc/apt/sources.list; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y install --no-install-recommends pebble busybox >/dev/null; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*; \
    mkdir -p /srv/mirror /etc/pebble
COPY acme-run.sh /usr/local/bin/acme-run
CMD ["bash", "/usr/local/bin/acme-run"]
