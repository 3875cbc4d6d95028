
set -eu
umask 022
folder=$1 name=$2 digest=$3 program=$4 starter=$5
mkdir -p "$folder"
rm -rf "$folder"/.*.partial
partial=$folder/.$name.partial
mkdir "$partial"
base64 -d | gzip -dc | tar -x -m --no-same-owner --no-same-permissions -C "$partial"
cd "$partial"
told=$(find slipway_host -name '*.py' -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
[ "$told $(sha256sum <slipway)" = "$digest  - $starter  -" ] || { echo "$program did not arrive whole" >&2; exit 1; }
/usr/bin/python3 -ISm compileall -q -s "$partial" -p "$folder/$name" slipway_host
sync --file-system .
before=$(readlink "$folder/current" || true)
rm -rf "${folder:?}/$name"
mv -T "$partial" "$folder/$name"
ln -s "$name" "$folder/.current.partial"
mv -T "$folder/.current.partial" "$folder/current"
beside=${program%/*}/.slipway-partial.${program##*/}
cp "$folder/$name/slipway" "$beside"
chmod 755 "$beside"
sync "$beside" "$folder"
mv -fT "$beside" "$program"
for each in "$folder"/*; do
    case ${each##*/} in current | "$name" | "$before") ;; *) rm -rf "$each" ;; esac
done
