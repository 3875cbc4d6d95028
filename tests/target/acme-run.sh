# Main process of the ACME container: ends, and with it the container, as soon as one of the three does.
trap 'exit 0' TERM INT

# Every name leads to the target, by IPv4 only: a test network has no IPv6.
pebble-challtestsrv -defaultIPv4 "$TARGET_IP" -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 '' \
    -dns01 :8053 -management :8055 &
busybox httpd -f -p 8080 -h /srv/mirror &
# Pebble sleeps up to 15 s before each validation and refuses 5 % of the good nonces unless told not to: certbot tries
# once more, so an order in forty would be made twice.
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config /etc/pebble/pebble.json -dnsserver 127.0.0.1:8053 &

wait -n
echo "a process of the ACME container ended with $?" >&2
exit 1
