# The load generator of the benches: wrk, at the version of Debian's release.
ARG BASE
FROM ${BASE}
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y install --no-install-recommends wrk >/dev/null; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*
