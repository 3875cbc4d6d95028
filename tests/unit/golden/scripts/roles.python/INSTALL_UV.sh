
set -eu
umask 022
folder=$1 requirement=$2; shift 2
rm -rf "$folder" "$folder.partial"; mkdir -p "$(dirname "$folder")"
file=$(mktemp); trap 'rm -rf "$file" "$folder.partial"' EXIT; echo "$requirement" >"$file"
python3 "$(ls /usr/share/python-wheels/pip-*.whl)/pip" install \
    --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir \
    --no-deps --only-binary=:all: --require-hashes --target "$folder.partial" "$@" -r "$file"
sync --file-system "$folder.partial"
mv -T "$folder.partial" "$folder"
