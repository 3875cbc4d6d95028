"""The process that sends, and its talk with the parent process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from typing import Any

from slipway.prober.lost import RefusedError
from slipway.prober.models import Load, Site
from slipway.prober.traffic import Traffic


async def _watch(commands: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while await commands.readline():
        stop.set()
    os._exit(1)  # the parent is gone or has what it wanted: nobody is left to tell, and nothing to tidy up


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)


async def _serve() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    order = json.loads(await commands.readline())
    stop = asyncio.Event()
    watching = asyncio.create_task(_watch(commands, stop))
    load = order["load"] | {"short": tuple(order["load"]["short"])}
    site = Site(**order["site"])
    try:
        traffic = Traffic(site, Load(**load))
    except OSError as error:  # ssl.SSLError is one
        _say(error=f"{site.ca_file}: {error.strerror or error}; it must be a PEM file of certificates to trust")
        return
    try:
        await traffic.warm_up(order["warm_up"])
    except RefusedError as error:
        _say(error=str(error))
        return
    # What is there by now stays: a full collection of it would be a pause in the traffic.
    gc.collect()
    gc.freeze()
    _say(ready=True)
    result = await traffic.run(stop, order["after"])
    _say(result=json.loads(result.to_json()))
    await traffic.close()
    watching.cancel()


def serve() -> None:
    """Be the child process of a `Prober`: read orders from standard input, send, answer on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what ^C means
    asyncio.run(_serve())
