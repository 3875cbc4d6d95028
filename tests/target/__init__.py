"""A throw-away VPS for the demo and the tests: a systemd host with sshd, an ACME server and DNS beside it.

`python -m tests.target up` starts one; `lifecycle` is the same as a library. A target is three things of Docker's
(the host's container, the ACME server's container, their network, all labelled ``slipway.target=<name>``) and one
folder, ``.target/<name>``, with its keys and ``target.json``, the description that inventories and tests read. With
``--machine`` the host is a virtual machine instead (`machine`), whose disk is in that folder.
"""
