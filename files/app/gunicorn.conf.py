"""What every app on this host has in common. Managed by Slipway (roles/app.py); the rest is in the app's unit."""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "servers"))  # noqa: PTH100, PTH118, PTH120

import slipway_gunicorn
import slipway_journal
import slipway_served

slipway_journal.install()
slipway_served.metrics()

HEAD_BYTES = 256 * 1024
"""Of a request's head: nginx refuses more than a part of that."""
NAMED = os.environ.get("SLIPWAY_APP")
"""The application; a release of before names it on Gunicorn's command line alone."""


class Loads(slipway_gunicorn.Replaced):
    """A worker that loads the application as Slipway's check has loaded it."""

    def load_wsgi(self):
        if NAMED:
            self.app.callable = self.served(slipway_served.load(NAMED))
        super().load_wsgi()


if os.environ.get("SLIPWAY_INTERFACE") == "wsgi":
    from gunicorn.workers.gthread import ThreadWorker

    class Worker(Loads, slipway_gunicorn.Patient, ThreadWorker):
        """Gunicorn's worker of every app that speaks WSGI."""

        served = staticmethod(slipway_served.wsgi)

else:
    os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", str(HEAD_BYTES))  # which websockets reads when it is imported
    from gunicorn.arbiter import Arbiter
    from slipway_uvicorn import Patient, patient
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
    from uvicorn_worker import UvicornWorker

    class Worker(Loads, UvicornWorker):
        """Gunicorn's worker of every app that speaks ASGI."""

        CONFIG_KWARGS = {  # noqa: RUF012  # as in UvicornWorker
            **UvicornWorker.CONFIG_KWARGS,
            "interface": "asgi3",
            "h11_max_incomplete_event_size": HEAD_BYTES,
            **({"ws": patient(AutoWebSocketsProtocol)} if AutoWebSocketsProtocol is not None else {}),
        }

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.config.limit_concurrency = self.cfg.worker_connections or None
            self.config.limit_max_requests = None
            # A worker that is replaced isn't ended by anybody else, and what is a stream may have no end.
            self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout
            self.config.timeout_notify = 1

        def answered(self):
            return self.server.server_state.total_requests if self.server else 0

        server = None

        @property
        def told(self):
            return self.server is not None and self.server.should_exit

        @staticmethod
        def served(app):
            return app

        async def _serve(self):
            self.config.app = self.wsgi
            server = self.server = Patient(config=self.config)
            self._install_sigquit_handler()
            await server.serve(sockets=self.sockets)
            if not server.started:
                sys.exit(Arbiter.WORKER_BOOT_ERROR)

    # Unless the app has a limit.
    worker_connections = 0


worker_class = Worker
# Of a line of a request's head; without them 8,190. nginx refuses larger ones.
limit_request_line = 0
limit_request_field_size = HEAD_BYTES
# Only nginx can open the socket, and it sets every forwarded header itself.
forwarded_allow_ips = "*"
# Heartbeats of the workers. On a disk they could stall with it (docs.gunicorn.org/en/stable/faq.html).
worker_tmp_dir = "/dev/shm"
# nginx writes the access log, buffered; in the app it costs half the throughput.
accesslog = None
errorlog = "-"
control_socket_disable = True
globals().update(slipway_gunicorn.settings(os.environ.get("SLIPWAY_SERVER_CONFIG")))
