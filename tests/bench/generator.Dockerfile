# The load generator of the benches: wrk, at the version of the Debian release, and the numbers of services for it.
ARG BASE
FROM ${BASE}
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y install --no-install-recommends wrk netbase >/dev/null; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*
