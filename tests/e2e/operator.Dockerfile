# An operator's own machine: Python, uv, git and an SSH client, and nothing of this project.
ARG BASE
FROM ${BASE}
COPY ca/ /usr/local/share/ca-certificates/
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update; \
    apt-get -qq -y install --no-install-recommends ca-certificates git openssh-client python3-venv >/dev/null; \
    update-ca-certificates; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*
COPY uv.txt /opt/uv.txt
RUN set -eu; \
    python3 -m venv /opt/uv; \
    /opt/uv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: --require-hashes \
        --cert /etc/ssl/certs/ca-certificates.crt --requirement /opt/uv.txt; \
    ln -s /opt/uv/bin/uv /usr/local/bin/uv; \
    useradd --create-home --shell /bin/bash dev
ENV UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never PATH=/home/dev/.local/bin:/usr/local/bin:/usr/bin:/bin
USER dev
WORKDIR /home/dev
