
set -eu
export DEBIAN_FRONTEND=noninteractive
pam-auth-update --remove $2
for each in $2; do rm -f "$3/$each"; done
rm -f "$1"
