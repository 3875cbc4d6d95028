"""Uvicorn on the socket of a release. Managed by Slipway (roles/release)."""

import os
import sys

import slipway_master

HEAD_BYTES = 256 * 1024
"""Of a request's head: nginx refuses more than a part of that."""


def serve(worker):
    """Serve in a worker until it is told to stop."""
    os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", str(HEAD_BYTES))  # which websockets reads when it is imported
    from slipway_uvicorn import Patient, patient
    from uvicorn import Config
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    options = worker.options

    async def notify():
        worker.serves()
        worker.tick(server.server_state.total_requests)

    config = Config(
        "slipway_served:app",
        interface="asgi3",
        ws=patient(AutoWebSocketsProtocol) if AutoWebSocketsProtocol else "none",
        access_log=options.access_log,
        # Only nginx can open the socket, and it sets every forwarded header itself.
        forwarded_allow_ips="*",
        backlog=options.backlog,
        limit_concurrency=options.concurrency or None,
        timeout_keep_alive=options.keep_alive,
        h11_max_incomplete_event_size=HEAD_BYTES,
        callback_notify=notify,
        timeout_notify=0,
    )
    server = Patient(config)
    server.run(sockets=[worker.socket])
    if not server.started:
        sys.exit(slipway_master.BOOT_FAILED)


if __name__ == "__main__":
    slipway_master.main(serve, __doc__)
