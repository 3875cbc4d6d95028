
umask 022
folder=$1 version=$2 uv=$3; shift 3
if env "$@" "$uv" python install --no-progress --reinstall "$version"; then
    sync --file-system "$folder" && for home in "$folder"/cpython-"$version"[-.]*; do : >"$home/.slipway-written"; done
    exit
fi
echo "Python comes from github.com; where a host can't reach it, set python.install_mirror or downloads_json_url" >&2
exit 1
