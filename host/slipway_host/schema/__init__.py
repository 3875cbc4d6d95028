"""Read and change an app's database schema, through the app's own Alembic configuration and env.py, or its Django.

It runs with a release's own Python (3.10 or newer) and its Alembic, as the app's user, in the app's folder, with its
environment. It reads what `alembic` reads there (or in the folder of `--in`): the file of `--config`, else alembic.ini
or [tool.alembic] of pyproject.toml; prepend_sys_path, and env.py with its own engine, sync or async.

It adds
- one lock per database, so that two migrations never run at once, and time-outs on the connection that migrates;
- `look`, which changes nothing and prints as JSON what an upgrade would do, with the steps that can break the release
  that still serves ("contract");
- `read`, which prints the same for a source that isn't trusted yet, and runs nothing of it: no env.py, no revision;
- `render`, which runs them to write their SQL; it needs no database, and runs in an empty sandbox;
- `undone` and `downgrade`, which go back to the heads that `look` reported before.

Exit codes: 0 done; 1 failed, the reason last on stderr; 2 usage; 75 a lock is taken: nothing is wrong, try again.

  __main__.py     starts it, so that the app's code finds a process without a trace of Slipway's package
  cli.py          the command line
  commands.py     what each command does and answers
  lines.py        what a database lacks, what it would undo, and where revisions fork
  apps.py         Alembic's configuration where the app itself has it
  runs.py         runs of env.py, in which Alembic does something else than it asks for
  alembic_api.py  all names of Alembic that it doesn't promise
  locks.py        for each kind of database: one migration at a time, and its time-outs
  django_tool.py  the same commands for an app of Django
  django_source.py  Django's migrations, read from their source
  django_contract.py  what they do to the release that still serves
  errors.py       words for a failure, and whether it is only a lock
  contract.py     what a revision does, read from its source
  reader.py       the operations in that source
  sql.py          the SQL in that source
  untrusted.py    lets Alembic read a source that isn't trusted yet, without running it
"""
