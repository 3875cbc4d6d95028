"""Let the release from before serve again, without fetching or building: pyinfra INVENTORY tasks/rollback.py

It takes about a second while that release is warm. `--data app=NAME` names one app, `--data to=RELEASE` another release
than the good one from before; tasks/releases.py lists them. Where the database is ahead of that release, it says by
which revisions, and goes on only when told: `--data schema=code-only`, or `--data schema=downgrade`.
`--data prove=true` sends traffic meanwhile and fails if a request is lost, `--data stop_first=true` first ends all
processes of an app that was taken over: requests are lost until the other release serves.
"""

from pyinfra import host

from roles.preflight import overview, provisioned
from roles.program import program
from roles.release import rollback
from roles.verdict import verdict
from slipway.settings import load_for, options_for

settings = load_for(host)
options = options_for(host, "tasks/rollback.py")
provisioned(settings, options, overview())

program()  # a host may be an older Slipway's
verdict(rollback(settings, options))
