# Managed by Slipway (roles/system): system.umask and system.core_dumps of the inventory. /etc/login.defs and
# /etc/security say the same, but not every login reads those (Debian 12 has no pam_umask).
umask 0027
