"""Show every release of each app: pyinfra -y INVENTORY tasks/releases.py

Which one serves, which are warm, what became of each, who asked for it, sizes and ages. It changes nothing.

--data json=true   a line of JSON for each app of each host, with the seconds of each step
"""

from pyinfra import host

from roles.preflight import overview, provisioned
from roles.release import history
from slipway.settings import load_for, options_for

settings = load_for(host)
options = options_for(host, "tasks/releases.py")
provisioned(settings, options, overview())

history(settings, options)
