
set -f
while [ $# -gt 0 ]; do
    told=$(openssl x509 -in "$1" -noout -checkend 2592000 -ext subjectAltName -pubkey 2>/dev/null) || told=  # 30 days
    public=$(openssl pkey -in "$2" -pubout 2>/dev/null) || { shift 2; continue; }
    case $told in *"$public"*) echo "$1" $told ;; esac
    shift 2
done
