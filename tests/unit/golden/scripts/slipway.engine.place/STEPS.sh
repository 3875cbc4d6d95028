
set -eu
umask 077
account() { # name, home
    if ! getent passwd "$1" >/dev/null; then
        uid=; gid=
        if [ -d "$2" ]; then
            uid=$(stat -c %u "$2"); ! getent passwd "$uid" >/dev/null || uid=
            gid=$(stat -c %g "$2"); ! getent group "$gid" >/dev/null || gid=
        fi
        getent group "$1" >/dev/null || groupadd --system ${gid:+--gid "$gid"} "$1"
        useradd --system --gid "$1" ${uid:+--uid "$uid"} --home-dir "$2" --no-create-home --shell /usr/sbin/nologin             --expiredate 1 "$1"
    fi
    [ "$(getent shadow "$1" | cut -d : -f 8)" = 1 ] || usermod --expiredate 1 "$1"
    [ "$(getent passwd "$1" | cut -d : -f 7)" = /usr/sbin/nologin ] || usermod --shell /usr/sbin/nologin "$1"
}
folder() { # path, owner, mode
    [ -d "$1" ] || mkdir "$1"
    chown "$2" "$1"
    chmod "$3" "$1"
}
sweep() { rm -f "$1"/.slipway-partial.*; }
beside() { partial=${1%/*}/.slipway-partial.${1##*/}; }
receive() { # path, length, digest, owner, mode
    beside "$1"
    head -c "$2" >"$partial"
    [ "$(sha256sum <"$partial")" = "$3  -" ] || { echo "$1 did not arrive whole" >&2; exit 1; }
    chown "$4" "$partial"
    chmod "$5" "$partial"
}
# Put in its place before it is on the disk, a file would be empty after a power cut.
written() { for path; do beside "$path"; set -- "$@" "$partial"; shift; done; sync "$@"; }
put() { beside "$1"; mv -fT "$partial" "$1"; }
link() { beside "$1"; ln -s "$2" "$partial"; put "$1"; } # path, target
