"""Make a bare Debian machine a production host for ASGI apps, and release them: pyinfra INVENTORY deploy.py

Read from top to bottom, this is what happens. Each role decides from the state of the host, so a second run changes
nothing, and a run that was killed is healed by the next one. See before you do: add --dry (and --diff).
"""

from pyinfra import host

from roles.app import app
from roles.base import base
from roles.nginx import nginx
from roles.preflight import preflight
from roles.python import python
from roles.release import release
from roles.settings import load_for
from roles.tls import tls

settings = load_for(host)  # every mistake in the inventory is told here, before the host is touched
overview = preflight(settings)  # and every reason why this host can't be provisioned

base(settings)  # packages, time zone, journal
python(settings, overview)  # uv and the Pythons that the apps ask for
for each in settings.apps.values():
    app(settings, overview, each)  # user, folders, environment
nginx(settings, overview, complete=False)  # sites; those without a certificate answer ACME challenges only
tls(settings)  # certificates, and their renewal
for each in settings.apps.values():
    release(settings, overview, each)  # build, migrate, start, prove, switch
nginx(settings, overview, complete=True)  # every site with TLS
