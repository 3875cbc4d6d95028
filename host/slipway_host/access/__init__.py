"""Change the ways into this host (operator, sshd, firewall) without ever locking anybody out.

A change is validated, what was there before is written down, a timer is armed that puts it back, and only then is the
change made. Who asked for it disarms the timer through a connection made after the change (`confirm`); otherwise the
host comes back by itself, or at its next boot.

/var/lib/slipway/access/pending.json   what was there before, as long as a change isn't confirmed

  change.py   its verbs: apply, confirm, revert, reload, free
  wanted.py   of a change: validated, and made
  before.py   what there is, and putting it back
  sshd.py     sshd and its ports

It works on a host where little else is there. What takes a change back needs `change`, `before` and `sshd`, and what is
below those: `system`, `commands`, `text`, `layout`. Whatever became of the rest of the package, it works.

A process that calls it has the mask 022, PATH with the system's sbin folders, and LC_ALL=C.
"""
