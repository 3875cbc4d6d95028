
set -eu
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$5" -subj "/CN=$4" \
    -addext "subjectAltName=$3" -keyout "$2.partial" -out "$1.partial" 2>&1
sync "$1.partial" "$2.partial"
mv "$2.partial" "$2"
mv "$1.partial" "$1"
