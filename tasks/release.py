"""Release each app, and nothing else of the host: pyinfra INVENTORY tasks/release.py

For a host that deploy.py has provisioned. `--data app=NAME` releases one app only, `--data prove=true` sends traffic
meanwhile and fails if a request is lost, `--data contract=true` consents to migrations that the release which still
serves may not survive, `--data again=true` releases again what was rolled back from, `--data stop_first=true` ends all
processes of an app that was taken over before its new release is tried: requests are lost until that serves.
"""

from pyinfra import host

from roles.preflight import preflight, provisioned
from roles.program import program
from roles.release import release
from roles.verdict import verdict
from slipway.settings import load_for, options_for

settings = load_for(host)
options = options_for(host, "tasks/release.py")
overview = preflight(settings)
provisioned(settings, options, overview)

program()  # a host may be an older Slipway's
verdict(release(settings, overview, options))
