"""Talks to the chat until its standard input ends. It prints each file that answers, and in the end how that went.

usage: client.py ADDRESS DOMAIN websocket|polling
"""

import asyncio
import json
import sys
import time

import aiohttp
import socketio


async def talk(address: str, domain: str, transport: str) -> None:
    """Count, and let the server say each number. The library connects again by itself."""
    # Of the headers of `connect`, its polling knows nothing later.
    client = socketio.AsyncClient(http_session=aiohttp.ClientSession(headers={"Host": domain}))
    told = {"answers": 0, "again": 0, "wrong": 0, "connected": 0, "gap": 0.0, "files": []}

    @client.event
    async def connect() -> None:
        told["connected"] += 1

    await client.connect(address, transports=[transport], wait_timeout=10)
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    before = time.monotonic()
    while not end.done():
        try:
            answer = await client.call("say", told["answers"], timeout=2)
        except socketio.exceptions.SocketIOError:  # not connected now, or no answer
            if time.monotonic() > before + 60:
                sys.exit("no answer for a minute")
            told["again"] += 1
            await asyncio.sleep(0.1)
            continue
        now = time.monotonic()
        told["gap"], before = max(told["gap"], now - before), now
        told["wrong"] += answer["number"] != told["answers"]
        if answer["file"] not in told["files"]:
            told["files"].append(answer["file"])
            print(answer["file"], flush=True)
        told["answers"] += 1
        await asyncio.sleep(0.05)
    await client.disconnect()
    await client.eio.http.close()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(talk(*sys.argv[1:]))
