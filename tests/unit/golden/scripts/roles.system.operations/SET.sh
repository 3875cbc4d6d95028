
failed=0
while [ $# -gt 0 ]; do
    if ! { echo "$2" >"/proc/sys/$1"; } 2>/dev/null; then
        key=$(echo "$1" | tr / .)
        echo "The kernel refuses $key = $2; \"sysctl\": {\"$key\": None} in system leaves it as it is." >&2
        failed=1
    fi
    shift 2
done
exit $failed
