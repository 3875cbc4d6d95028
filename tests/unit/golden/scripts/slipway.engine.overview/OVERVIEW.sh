
. /etc/os-release
systemd=0 container=0 multihomed=0
[ ! -d /run/systemd/system ] || systemd=1
# What systemd was told, what other managers leave behind, and OpenVZ: see systemd-detect-virt(1).
for sign in /run/systemd/container /run/host/container-manager /.dockerenv /run/.containerenv; do
    [ ! -e $sign ] || container=1
done
[ ! -d /proc/vz ] || [ -d /proc/bc ] || container=1
routes=$(awk '$2 == "00000000" && $8 == "00000000" && !seen[$1]++ {number++} END {print 0 + number}' \
    /proc/net/route 2>/dev/null)
rules=$(ip -4 rule 2>/dev/null | wc -l)  # three are there on every host
[ "${routes:-0}" -le 1 ] && [ "$rules" -le 3 ] || multihomed=1
cat <<END
distribution=$ID
release=$VERSION_ID
architecture=$(uname -m)
systemd=$systemd
root=$([ "$(id -u)" = 0 ] && echo 1 || echo 0)
cores=$(nproc)
memory_mb=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
disk_free_mb=$(df -Pm /srv | awk 'NR == 2 {print $4}')
clock=$(date +%s)
container=$container
multihomed=$multihomed
kept=$(cat "$format" 2>/dev/null)
END
# Who listens: the sockets of both ports in state 0A (LISTEN), then the first process that has each of them open. Only
# processes of the users whose sockets they are: who else holds what, and how much, may be meant to take long.
sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '
    $4 == "0A" && $2 ~ /:0050$/ {print "80", "socket:[" $10 "]", $8}
    $4 == "0A" && $2 ~ /:01BB$/ {print "443", "socket:[" $10 "]", $8}')
users=$(echo "$sockets" | awk 'NF {print $3}' | sort -u | paste -s -d '|')
[ -z "$users" ] || {
    echo "$sockets"
    grep -lsE "^Uid:[[:space:]]+($users)[[:space:]]" /proc/[0-9]*/status | sed 's:status$:fd:' |
        xargs -r sh -c 'find "$@" -maxdepth 1 -lname "socket:*" -printf "%p %l\\n" 2>/dev/null' find
} | awk '
    $1 ~ /^[0-9]/ {port[$2] = $1}
    $1 ~ /^\// && $2 in port {split($1, part, "/"); print port[$2], part[3]; delete port[$2]}' |
while read -r port pid; do
    program=; { read -r program </proc/$pid/comm; } 2>/dev/null; echo "listener=$port $program (process $pid)"
done
! grep -qsx 'ENABLED=yes' /etc/ufw/ufw.conf || echo "firewall=ufw"
[ ! -e /usr/sbin/firewalld ] || ! systemctl is-active --quiet firewalld 2>/dev/null || echo "firewall=firewalld"
while IFS=: read -r user _ _ _ _ home _; do echo "user=$user $home"; done </etc/passwd
while IFS=: read -r group _; do echo "name=group $group"; done </etc/group
for folder in /etc /run /srv /var/lib /var/lib/slipway; do for path in "$folder"/*; do echo "name=$path"; done; done
for folder in /etc/systemd/system /usr/lib/systemd/system /run/systemd/system; do
    for path in "$folder"/*; do echo "name=$path"; done
done
