
[ "$(sha256sum 2>/dev/null <"$1/requirements.txt")" = "$2  -" ] && "$1/bin/python" -c 'import certbot' 2>/dev/null \
    && [ -x "$1/bin/certbot" ] && echo installed || true
