"""Further files, by the operations that the roles use, beside those of deploy.py on the same command line.

pyinfra --data more_files=COUNT INVENTORY deploy.py tests/bench/more_files.py
"""

from pyinfra import host
from pyinfra.operations import files

from roles import _operations as operations

FOLDER = "/etc/slipway-bench"

files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="755")
for number in range(int(host.data.more_files)):
    operations.file(
        name=f"Write file {number}", path=f"{FOLDER}/{number}.conf", content=f"number = {number}\n" * (number + 1)
    )
