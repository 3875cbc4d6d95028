"""Further files, by the operation that the roles use, beside those of deploy.py on the same command line.

pyinfra --data more_files=COUNT INVENTORY deploy.py tests/bench/more_files.py
"""

from pyinfra import host

from slipway.engine.place import File, Folder, place

FOLDER = "/etc/slipway-bench"

place(
    name="Write further files",
    folders={FOLDER: Folder()},
    files={
        f"{FOLDER}/{number}.conf": File(f"number = {number}\n" * (number + 1))
        for number in range(int(host.data.more_files))
    },
)
