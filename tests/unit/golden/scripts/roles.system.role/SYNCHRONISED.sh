
for unit in systemd-timesyncd chrony ntpsec ntp openntpd; do
    ! systemctl is-active --quiet $unit && continue; echo $unit; exit
done
