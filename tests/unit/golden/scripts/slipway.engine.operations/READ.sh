
newer=$(find "$@" -newercm /run/systemd/systemd-units-load 2>/dev/null) && [ -z "$newer" ] && echo current || true
