
set -eu
umask 022
meanwhile=$1 first=$2; shift 2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# Unattended upgrades may hold apt's locks for minutes: wait for them, and say who it was when that doesn't end.
holder() {
    for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
        [ -e "$lock" ] || continue
        pid=$(awk -v inode=":$(stat -c %i "$lock")\$" '$6 ~ inode {print $5; exit}' /proc/locks)
        [ -z "$pid" ] || { echo "$lock is held by $(cat "/proc/$pid/comm" 2>/dev/null) (process $pid)"; return; }
    done
}
patient() {
    end=$(($(date +%s) + 600))
    until out=$("$@" 2>&1); do
        case "$out" in
        *"Could not get lock"* | *"Unable to lock"* | *"is another process using it"* | \
        *"locked by another process"* | *"lock was locked by"*)
            [ "$(date +%s)" -lt "$end" ] || { echo "$out"; echo "Gave up after 10 minutes: $(holder)"; return 1; }
            sleep 3 ;;
        *) echo "$out"; return 1 ;;
        esac
    done
}
apt() { patient apt-get -q -y -o Acquire::Retries=3 "$@"; }
install() {
    apt --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
}
# A dpkg that was interrupted refuses everything until it is repaired.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; then
    # One that was being unpacked can't be configured: it has to be unpacked anew, which apt doesn't do by itself.
    halves=$(dpkg-query -W -f '${db:Status-Eflag} ${binary:Package}\n' | sed -n 's/^reinstreq //p')
    patient dpkg --configure -a || [ -n "$halves" ]
    if [ -n "$halves" ]; then
        apt update
        apt --reinstall install $halves
    fi
    apt -f install
fi
[ $# -gt 0 ] || exit 0
find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 | grep -q . || apt update
# Lists that are out of step with the mirror name files that are gone: fetch them anew, once.
get() { install "$@" >/dev/null || { apt update; install "$@"; }; }
if [ -n "$meanwhile" ]; then
    [ -z "$first" ] || get $first
    sh -c "$meanwhile" >/dev/null 2>&1 &
fi
get "$@" || status=$?
wait
exit ${status:-0}
