"""A release of an app as one transaction: the old release serves until the new one has proved itself.

fetch, build, check, migrate, start, prove, switch, watch, commit; then the old release drains, and stays warm for a
while. If a step up to the commit fails, the new release is removed, and the old one keeps serving. The process can be
killed at any instant: the next run first restores the state that `current` names.

A release or a rollback runs in a unit of its own, so it continues without the connection that started it (runs.py).

  app.py          an app on this host: its records, what serves, what is warm, what is damaged
  source.py       fetch: the source, from git or an archive (sources.py limits its size)
  build.py        build: Python and dependencies; then root owns all of it (guest.py, manifest.py)
  environment.py  a release's own Python environment, by uv or from another release (caches.py: caches of builds)
  builder.py      runs the commands of a build, each in a unit (room.py keeps the disk from filling)
  check.py        check: everything that can be known before anything changes
  database.py     migrate; compare the database with a release's migrations
  migrations.py   find what migrates a source's database
  hooks.py        the user's own commands
  sandbox.py      runs code of the app in sandboxes
  plan.py         what a release would change, without making one
  processes/      the processes of a release: how each kind starts, is proven, and ends
  start.py        start: the new release beside the old one
  proof.py        prove and watch: whether the release's processes work
  switch.py       switch and commit: the new release serves, and `current` names it
  current.py      what `current` names, changed in one step
  retire.py       the old release: drained, warm, ended
  heal.py         restore what `current` names: at the end of a run, and after a killed one
  target.py       chooses the release for a rollback
  rollback.py     make an older release serve again
  transaction.py  runs the steps in order; undoes them after a failure
  failure.py      words for an error
  runs.py         the unit of a run: start it, follow it, wait for it
  work.py         what that unit runs
  state.py        formats of what a host stores: an older one is taken over, a newer one refused
  forms.py        checks what is read from a host's own files
  status.py       what serves, and the history
"""
