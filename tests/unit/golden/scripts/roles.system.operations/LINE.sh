
set -eu
file=$1; shift
new=$file.slipway
rm -f "$new"; cp -p "$file" "$new"
while [ $# -gt 0 ]; do
    awk -v key="$1" -v value="$2" '
        $1 == key { if (!done) print key "\t" value; done = 1; next }
        { print }
        END { if (!done) print key "\t" value }' "$new" >"$new.next"
    cat "$new.next" >"$new"; rm "$new.next"
    shift 2
done
mv -f "$new" "$file"
