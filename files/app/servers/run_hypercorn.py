"""Hypercorn on the socket of a release. Managed by Slipway (roles/release)."""

import asyncio
import os
import signal

import slipway_master

HEAD_BYTES = 256 * 1024
"""Of a request's head: nginx refuses more than a part of that."""
ENDLESS = 2**31
"""Requests of one connection: nginx ends it."""


class Known:
    """asyncio, as Hypercorn sees it: what takes its connections is known, so that it can end before they do."""

    def __init__(self):
        self.servers = []

    def __getattr__(self, name):
        return getattr(asyncio, name)

    async def start_server(self, *args, **kwargs):
        self.servers.append(await asyncio.start_server(*args, **kwargs))
        return self.servers[-1]


def serve(worker):
    """Serve in a worker until it is told to stop."""
    import hypercorn.asyncio.run
    import slipway_served
    from hypercorn.config import Config

    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    options, config = worker.options, Config()
    config.bind = [f"fd://{os.dup(worker.socket.fileno())}"]
    config.backlog = options.backlog
    config.graceful_timeout = options.graceful_timeout
    config.keep_alive_timeout = options.keep_alive
    config.keep_alive_max_requests = ENDLESS
    config.h11_max_incomplete_size = HEAD_BYTES
    config.accesslog = "-" if options.access_log else None
    config.include_server_header = False
    app = slipway_served.asgi(slipway_served.load(os.environ["SLIPWAY_APP"]))
    hypercorn.asyncio.run.asyncio = known = Known()

    async def told():
        """Returns when it is told to stop. It is called once the socket is served."""
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        worker.serves()
        while not stopped.is_set():
            worker.tick(slipway_served.count)
            try:
                await asyncio.wait_for(stopped.wait(), slipway_master.LOOK_EVERY)
            except TimeoutError:
                continue
        for each in known.servers:
            each.close()
        await slipway_served.say_goodbye()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(hypercorn.asyncio.serve(app, config, shutdown_trigger=told, mode="asgi"))


if __name__ == "__main__":
    slipway_master.main(serve, __doc__)
