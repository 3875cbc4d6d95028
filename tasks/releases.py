"""Show every release of each app: pyinfra -y INVENTORY tasks/releases.py

Which one serves, which are warm, what became of each, who asked for it, sizes and ages. It changes nothing.
"""

from pyinfra import host

from roles._facts import Overview
from roles.preflight import provisioned
from roles.release import history
from roles.settings import load_for, options_for

settings = load_for(host)
options = options_for(host, "tasks/releases.py")
provisioned(settings, options, host.get_fact(Overview))

history(settings, options)
