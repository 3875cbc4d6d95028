#!/bin/sh
# Managed by Slipway (roles/updates). What Debian's packages may do to services when they are installed and updated.
# nginx-common restarts nginx, which refuses connections for a moment. nginx's own package then hands over to the new
# program without that. So only the former is denied (101: denied; 0: allowed).
case "$1 $2" in
"nginx restart" | "nginx.service restart") exit 101 ;;
esac
exit 0
