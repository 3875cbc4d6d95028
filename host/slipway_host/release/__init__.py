"""A release of an app as one transaction: the old release serves until the new one has proved itself.

fetch, build, check, migrate, start, prove, switch, watch, commit; then the old release drains, and stays warm for a
while. Up to the commit a failure takes the new release away and leaves the old one serving as if nothing had happened.
Each step may be killed at any instant: the next run starts by bringing the host back to what `current` says.

A release or a rollback runs as a unit of systemd's own, so it outlives the connection that asked for it (runs.py).

  app.py          what is true of an app on this host: its records, what serves, what is warm, what is damaged
  source.py       fetch: the source, from git or an archive (sources.py: how large it is)
  build.py        build: Python, dependencies, and that all of it is root's in the end (guest.py, manifest.py)
  environment.py  a release's own Python environment, by uv or from another release (caches.py: what builds leave)
  builder.py      a build's commands, each in a unit (room.py: what they leave of the disk)
  check.py        check: all that can be known before anything changes
  database.py     migrate, and what the database and a release know of each other
  hooks.py        commands of the user's own
  sandbox.py      whatever runs code of the app's, and what is shut off from what
  plan.py         what a release would change, without making one
  start.py        start: the new one beside the old one
  proof.py        prove and watch: a release's own answers, and the site's
  switch.py       switch and commit: it serves, and it is the truth
  current.py        what `current` says, changed in one step
  retire.py       what served before: drained, warm, ended
  heal.py         leave what `current` says, and nothing else: after a run, and after a killed one
  target.py       which release a rollback goes back to
  rollback.py     back to a release that served before
  transaction.py  the steps in their order, and what a failure leaves
  failure.py      what is said of an error
  runs.py         the unit that a run is: started, followed, waited for
  work.py         what that unit runs
  state.py        the forms of what a host keeps: an older one is taken over, a newer one refused
  status.py       what serves, the history
"""
