#!/bin/sh
# Managed by Slipway (roles/updates). What Debian's packages may do to services when they are installed and updated.
# nginx-common restarts nginx, which refuses connections for a moment, though nginx's own package then hands over to the
# new program without that: so only the former is denied (101: don't; 0: as usual).
case "$1 $2" in
"nginx restart" | "nginx.service restart") exit 101 ;;
esac
exit 0
