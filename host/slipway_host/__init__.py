"""What Slipway runs on a host: releases, nginx's configuration, the ways in, certificates, and what is true of them.

It needs Python 3.10 or newer and nothing else. It is shipped as one folder, and runs as one program, `slipway`
(cli.py). The operator's side imports `layout` and `protocol` of it, and nothing else; it imports nothing of that side.

What few commands need is imported where it is used: a question is asked on every run, and to load a module takes
longer than most answers. For that reason no module here imports `typing` or `dataclasses` when it runs.
"""

VERSION = "0.2.0"
"""Of Slipway, both sides: the one place where it stands."""
