
set -eu
grep -qwF "$1" /etc/hosts || echo "127.0.1.1 $1" >>/etc/hosts
hostnamectl set-hostname "$1"
