"""Change access to this host (operator, sshd, firewall) without ever locking anybody out.

A change is validated, the old state is saved, a timer is armed that restores it, and only then is the change made. The
caller then opens a new connection and disarms the timer through it (`confirm`). Without that the timer, or the next
boot, restores the old state.

/var/lib/slipway/access/pending.json   the old state, until a change is confirmed

  change.py   the verbs: apply, confirm, revert, reload, free
  wanted.py   validates a change, and makes it
  before.py   saves the old state, and restores it
  sshd.py     sshd and its ports
  protocol.py what the two sides tell each other

To revert a change, only `change`, `before`, `sshd`, `system`, `commands`, `text` and `layout` are needed: it works even
if the rest of the package is missing or damaged.

A process that calls it has the mask 022, PATH with the system's sbin folders, and LC_ALL=C.
"""
