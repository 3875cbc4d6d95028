
[ "$(readlink "$1/current")" = "$2" ] && cd "$1/current" 2>/dev/null || exit 0
told=$(find slipway_host -name '*.py' -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
[ "$told $({ sha256sum <"$4"; } 2>/dev/null)" = "$3  - $5  -" ] || exit 0
[ "$(stat -c '%F %a %u:%g' "$4")" = 'regular file 755 0:0' ] || exit 0
strange=$(find "$1" -name __pycache__ -prune -o \( -not -user 0 -o -not -group 0 -o -type d -not -perm 755     -o -type f -not -perm 644 \) -print -quit)
[ -z "$strange" ] || exit 0
shift 5; for former do [ -d "$former" ] || [ -L "$former" ] || exit 0; done
echo current
