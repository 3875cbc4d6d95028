
set -eu
test -e "/usr/share/zoneinfo/$1"
umask 022
ln -sfn "/usr/share/zoneinfo/$1" /etc/localtime
echo "$1" >/etc/timezone
