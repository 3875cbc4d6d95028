
openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null 2>&1 || exit 0  # 30 days
names=$(openssl x509 -in "$1" -noout -ext subjectAltName | tail -n 1 | tr -d ' ')
names=$(echo "$names" | tr , '\n' | LC_ALL=C sort | paste -sd ,)
[ "$names" = "$3" ] || exit 0
[ "$(openssl x509 -in "$1" -noout -pubkey)" = "$(openssl pkey -in "$2" -pubout 2>/dev/null)" ] && echo signed || true
