# The auditor: tools that look at a host from outside, at versions that its lock files and Debian's release fix.
ARG BASE
FROM ${BASE} AS debian
COPY ca/ /usr/local/share/ca-certificates/
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y install --no-install-recommends ca-certificates nodejs >/dev/null; \
    update-ca-certificates

FROM debian AS node
COPY package.json package-lock.json /opt/observatory/
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq -y install --no-install-recommends npm >/dev/null; \
    cd /opt/observatory; \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt npm ci --omit=dev --ignore-scripts --no-audit --no-fund; \
    cd node_modules/@mdn/mdn-http-observatory; \
    mkdir -p conf; \
    printf '{}' > conf/hsts-preload.json; \
    printf '["test"]' > conf/tld-list.json

FROM debian AS rules
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq -y install --no-install-recommends xz-utils >/dev/null; \
    cd /tmp; \
    apt-get -qq download ssg-debian; \
    dpkg-deb -x ssg-debian_*.deb .; \
    xz -9 --stdout usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml >/ssg-debian12-ds.xml.xz

FROM debian
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq -y install --no-install-recommends \
        testssl.sh bsdextrautils dnsutils procps nmap slowhttptest wrk nghttp2-client \
        python3-venv python3-setuptools >/dev/null; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*
# sslyze comes as source only: Debian's setuptools builds it, so that nothing unpinned is fetched for that.
COPY requirements.txt /opt/tools/
RUN set -eu; \
    python3 -m venv --system-site-packages /opt/tools/venv; \
    /opt/tools/venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: \
        --no-binary sslyze --no-build-isolation --require-hashes --cert /etc/ssl/certs/ca-certificates.crt --requirement /opt/tools/requirements.txt
COPY --from=node /opt/observatory/node_modules /opt/observatory/node_modules
COPY --from=rules /ssg-debian12-ds.xml.xz /opt/ssg/
ENV PATH=/opt/tools/venv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
