
for python in "$1"/cpython-"$2"[-.]*/bin/python3.*; do
    [ -x "$python" ] || continue
    home=${python%/bin/*}
    [ ! -e "$home/.slipway-written" ] || { echo installed; exit; }
    home=$(readlink -f "$home")
    for used in /srv/*/current/.venv/bin/python; do # a release is on the disk with its Python
        case $(readlink -f "$used") in "$home"/*) echo used; exit ;; esac
    done
done
