"""Make a bare Debian machine a production host for ASGI apps, and release them: pyinfra INVENTORY deploy.py

Read from top to bottom, this is what happens. Each role decides from the state of the host, so a second run changes
nothing, and a run that was killed is healed by the next one. See before you do: add --dry (and --diff).
"""

from pyinfra import host

from roles.access import access
from roles.app import app
from roles.base import base
from roles.nginx import nginx, nginx_sandbox, nginx_with_certificates
from roles.preflight import preflight
from roles.program import program
from roles.python import python, pythons, uv
from roles.release import release
from roles.system import system
from roles.tls import certbot, tls
from roles.updates import due, updates
from roles.verdict import verdict
from slipway.settings import load_for, options_for

settings = load_for(host)  # every mistake in the inventory is told here, before the host is touched
options = options_for(host, "deploy.py")  # what --data asks of this run
overview = preflight(settings)  # and every reason why this host can't be provisioned

nginx_sandbox(settings)  # before its package starts it
programs = [uv(settings, overview), *pythons(settings), *certbot(settings)]
base(settings, overview, programs)  # packages, and beside them what they let install; time zone, journal
program()  # what runs on the host for Slipway
system(settings, overview)  # kernel, logins, clock, swap
updates(settings, overview)  # security updates by themselves, and what takes them on
access(settings, overview)  # operator, sshd, firewall: proven by a fresh connection, or taken back
python(settings, overview)  # uv and the Pythons that the apps ask for
app(settings, overview)  # each app's users and folders, and what it may take of the host
nginx(settings, overview)  # sites; one without a certificate answers ACME challenges only
steps = tls(settings)  # certificates, and their renewal
nginx_with_certificates(settings, overview)  # the sites that have one now
steps |= release(settings, overview, options)  # each app: build, migrate, start, prove, switch
due(settings)  # whether an update waits for a reboot, or for a restart of an app
verdict(steps)  # what failed for one app didn't stop the others; the run fails all the same
