"""What deploy.py does for the host itself, before it comes to apps: pyinfra INVENTORY tests/e2e/provision.py

A first deploy that was killed there leaves such a host; the next one goes on. What is missing here in comparison with
deploy.py, each story's first deploy does.
"""

from pyinfra import host

from roles.access import access
from roles.base import base
from roles.nginx import nginx_sandbox
from roles.preflight import preflight
from roles.program import program
from roles.python import python, pythons, uv
from roles.system import system
from roles.tls import certbot
from roles.updates import updates
from slipway.settings import load_for

settings = load_for(host)
overview = preflight(settings)

nginx_sandbox(settings)
programs = [uv(settings, overview), *pythons(settings), *certbot(settings)]
base(settings, overview, programs)
program()
system(settings, overview)
updates(settings, overview)
access(settings, overview)
python(settings, overview)
