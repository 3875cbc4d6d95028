
if [ -e /run/reboot-required ]; then
    echo "reboot=$(sort -u /run/reboot-required.pkgs 2>/dev/null | paste -sd , | sed 's/,/, /g')"
else
    running=$(uname -r) flavour=${running##*[0-9]-}
    there=$(ls /boot 2>/dev/null | sed -n "s/^vmlinuz-\(.*-$flavour\)$/\1/p")
    newest=$(printf '%s\n' "$running" $there | sort -V | tail -n 1)
    [ "$newest" = "$running" ] || echo "reboot=linux $newest"
fi
for user do
    for pid in $(pgrep -u "$user" 2>/dev/null); do
        grep -qs '\.so[^/]* (deleted)$' "/proc/$pid/maps" || continue
        echo "old=$user"; break
    done
done
