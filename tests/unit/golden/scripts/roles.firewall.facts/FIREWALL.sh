
command -v nft >/dev/null || exit 0
list="nft --stateless --terse list table inet slipway"
if loaded=$($list 2>/dev/null); then
    echo loaded=1
    [ "$loaded" != "$(unshare --net sh -c 'nft -f "$1" && shift && "$@"' ask "$1" $list 2>/dev/null)" ] || echo live=1
fi
nft list chains 2>/dev/null | awk '
    $1 == "table" {table = $2 " " $3}
    /hook input/ && /policy drop/ && table != "inet slipway" {print "other=" table}'
true
