
folder=/etc/ssh/sshd_config.d main=/etc/ssh/sshd_config own=00-slipway.conf alone=/etc/ssh/slipway.conf
[ -x /usr/sbin/sshd ] || exit 0
/usr/sbin/sshd -T 2>/dev/null | sed 's/^/effective=/'
ssh -Q kex 2>/dev/null | sed 's/^/kex=/'
for kind in ed25519 rsa; do
    [ ! -e "/etc/ssh/ssh_host_${kind}_key" ] ||
        echo "bits=$kind $(ssh-keygen -lf "/etc/ssh/ssh_host_${kind}_key.pub" 2>/dev/null)"
done
echo "main=$(base64 -w 0 <$main)"
echo "main_mode=$(stat -c %a $main)"
first=$(grep -v -e '^[[:space:]]*\(#\|$\)' -e "^Include $alone\$" $main | head -n 1)
before=$(ls $folder 2>/dev/null | LC_ALL=C awk -v own=$own '/\.conf$/ && $0 < own')
if [ "$first" = "Include $folder/*.conf" ] && [ -z "$before" ]; then echo first=1; fi
ports() { sed -n 's/^[[:space:]]*[Pp][Oo][Rr][Tt][[:space:]=]\{1,\}\([0-9]\{1,\}\).*/\1/p' "$1" 2>/dev/null; }
{ ports $folder/$own; ports $alone; } | sed 's/^/own_port=/'
for file in $main $folder/*.conf; do
    [ "$file" = "$folder/$own" ] || ports "$file" | sed 's/^/other_port=/'
done
pid=$$
while [ "${pid:-0}" -gt 1 ]; do
    connection=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
    [ -z "$connection" ] || { echo "used=${connection##* }"; break; }
    pid=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null)
done
[ ! -e /var/lib/slipway/access/pending.json ] || echo pending=1
true
