
set -eu
systemctl unmask --quiet "$1"
systemctl daemon-reload
# As a package leaves it: `enable` takes half a second where there is an init script, too.
{ systemctl is-enabled --quiet "$1" && systemctl is-active --quiet "$1"; } || systemctl enable --now --quiet "$1"
