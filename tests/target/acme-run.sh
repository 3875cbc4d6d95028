# Main process of the ACME container: ends, and with it the container, as soon as one of the three does.
trap 'exit 0' TERM INT

# TARGET_IP, DNS, DNS_MANAGEMENT and MIRROR: acme.Addresses says what they are.
# Every name leads to the target, by IPv4 only: a test network has no IPv6.
pebble-challtestsrv -defaultIPv4 "$TARGET_IP" -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 '' \
    -dns01 "$DNS" -management "$DNS_MANAGEMENT" &
busybox httpd -f -p "$MIRROR" -h /srv/mirror &
# Pebble sleeps up to 15 s before each validation and refuses 5 % of the good nonces unless told not to: certbot tries
# once more, so an order in forty would be made twice.
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config /etc/pebble/pebble.json -dnsserver "127.0.0.1:${DNS##*:}" &

wait -n
echo "a process of the ACME container ended with $?" >&2
exit 1
