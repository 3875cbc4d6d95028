
if [ -e /run/reboot-required ]; then
    echo "reboot=$(sort -u /run/reboot-required.pkgs 2>/dev/null | paste -sd , | sed 's/,/, /g')"
else
    running=$(uname -r) flavour=${running##*[0-9]-}
    there=$(ls /boot 2>/dev/null | sed -n "s/^vmlinuz-\(.*-$flavour\)$/\1/p")
    newest=$(printf '%s\n' "$running" $there | sort -V | tail -n 1)
    [ "$newest" = "$running" ] || echo "reboot=linux $newest"
fi
[ $# -gt 0 ] || exit 0
users=$(getent passwd "$@" | cut -d : -f 3 | paste -s -d ,)  # one that isn't there yet would be pgrep's error
[ -n "$users" ] || exit 0
old=$(pgrep -u "$users" | sed 's:.*:/proc/&/maps:' | xargs -r grep -ls '\.so[^/]* (deleted)$' | cut -d / -f 3)
[ -z "$old" ] || ps -o user:32= -p "$(echo "$old" | paste -s -d ,)" | sort -u | sed 's/ *$//; s/^/old=/'
