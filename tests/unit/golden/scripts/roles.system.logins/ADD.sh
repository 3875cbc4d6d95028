
set -eu
export DEBIAN_FRONTEND=noninteractive
pam-auth-update --package
if ! su root -s /bin/sh -c true </dev/null; then
    pam-auth-update --remove $2
    for each in $2; do rm -f "$3/$each"; done
    echo "PAM refuses root with pam_faillock and pam_pwhistory, so they were taken out again: see journalctl" >&2
    exit 1
fi
if grep -q pam_faillock.so /etc/pam.d/common-auth; then
    rm -f "$1"
else
    cd /etc/pam.d
    cat common-auth common-account common-password | sha256sum >"$1"
    echo "/etc/pam.d/common-* were changed by hand and stay; \`pam-auth-update --force\` would replace them." >&2
fi
