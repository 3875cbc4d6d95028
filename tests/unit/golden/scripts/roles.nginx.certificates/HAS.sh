
certificate=/etc/letsencrypt/live/$1/fullchain.pem
grep -qsxF "server = $2" "/etc/letsencrypt/renewal/$1.conf" || exit 0
told=$(openssl x509 -in "$certificate" -noout -ext subjectAltName -checkend 0 2>/dev/null) || exit 0
names=$(echo "$told" | grep DNS: | tr -d ' ' | tr , '\n' | LC_ALL=C sort | paste -sd ,)
[ "$names" != "$3" ] || echo "$names"
