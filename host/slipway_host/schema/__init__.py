"""Look at an app's database schema and change it, through the app's own Alembic configuration and env.py.

Run with a release's own Python (3.11 or newer) and its Alembic, as the app's user, in the app's folder and with its
environment. What `alembic` would read and do there, this does: alembic.ini or [tool.alembic] of pyproject.toml,
ALEMBIC_CONFIG, prepend_sys_path, env.py with an engine of its own, sync or async.

To that it adds
- one lock per database, so that two migrations never run at once, and time-outs on the connection that migrates;
- `look`, which changes nothing and tells as JSON what an upgrade would do, and which of it code that still serves
  may not survive ("contract");
- `read`, which tells the same of a source that nobody has trusted yet, and runs nothing of it: no env.py, no revision;
- `render`, which runs them to write their SQL, and needs no database for that: in a sandbox that has nothing;
- `undone` and `downgrade`, which go back to the very heads that `look` reported before.

Exit codes: 0 done; 1 failed, the reason last on stderr; 2 usage; 75 a lock is taken: nothing is wrong, try again.

  __main__.py     starts it, so that the app's code finds a process without a trace of Slipway's package
  cli.py          the command line
  commands.py     what each command does and answers
  runs.py         runs of env.py, with something else in the place of what it asks Alembic to do
  alembic_api.py  what of Alembic is touched that it doesn't promise
  locks.py        the guards of each kind of database: one migration at a time, and its time-outs
  errors.py       how a failure is told, and which one is only a lock
  contract.py     what a revision does, read from its source
  reader.py       its operations
  sql.py          its SQL
  untrusted.py    a source that nobody has trusted yet: Alembic reads it, and runs nothing of it
"""
