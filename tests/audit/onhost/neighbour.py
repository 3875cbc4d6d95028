"""A service that has nothing to do with an app: its sockets, its memory and its file are what an attack looks for.

python3 neighbour.py FOLDER NAME

It listens on 127.0.0.1 (TCP and UDP, ports of the kernel's choice), on a socket in FOLDER, and on the abstract socket
NAME; then it writes its ports as JSON into FOLDER/ports.
"""

import json
import selectors
import socket
import sys
from pathlib import Path


def main() -> None:
    """Listen until the end; answer each packet."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    streams = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    streams[0].bind(("127.0.0.1", 0))
    streams[1].bind(str(folder / "app.sock"))
    (folder / "app.sock").chmod(0o600)
    streams[2].bind(f"\0{name}")
    packets.bind(("127.0.0.1", 0))
    waiting = selectors.DefaultSelector()
    for each in streams:
        each.listen()
    for each in (*streams, packets):
        waiting.register(each, selectors.EVENT_READ)
    ports = {"tcp": streams[0].getsockname()[1], "udp": packets.getsockname()[1]}
    (folder / "partial").write_text(json.dumps(ports))
    (folder / "partial").rename(folder / "ports")
    while True:
        for key, _ in waiting.select():
            if key.fileobj is packets:
                packets.sendto(b"!", packets.recvfrom(1)[1])
            else:
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.accept()[0].close()


if __name__ == "__main__":
    main()
