"""tests/bench: what wrk and perf print, and the tables of servers."""

from __future__ import annotations

import re
from math import isnan

import pytest

from slipway.servers import SERVERS
from tests.bench import perf, servers
from tests.bench.generator import Load, parse
from tests.bench.subject import BenchError

WRK = """Running 1s test @ https://notes.test/healthz
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.53ms    4.43ms  45.51ms   76.39%
    Req/Sec     1.71k   191.66     1.90k    80.00%
  Latency Distribution
     50%  876.00us
     75%   11.20ms
     90%   14.97ms
     99%    1.24s
  2000 requests in 1.01s, 321.00KB read
{trouble}Requests/sec:   1690.55
Transfer/sec:    316.98KB
0m0.000000s 0m0.000000s
0m0.060000s 1m0.020000s
"""


@pytest.mark.parametrize(
    ("trouble", "failed"),
    [
        ("", 0),
        ("  Non-2xx or 3xx responses: 12\n", 12),
        ("  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n", 15),
    ],
)
def test_load_counts_what_failed(trouble: str, failed: int) -> None:
    found = parse(WRK.format(trouble=trouble))
    assert (found.rate, found.failed, found.count) == (1690.55, failed, 2000)


def test_load_tells_times_and_what_wrk_took_itself() -> None:
    found = parse(WRK.format(trouble=""))
    assert (found.middle, found.late, found.own) == pytest.approx((0.876, 1240.0, 30040.0))
    assert isnan(parse(WRK.format(trouble="").partition("0m0.00")[0]).own)


@pytest.mark.parametrize("printed", ["", "unable to connect to notes.test:https Connection refused\n"])
def test_load_that_measured_nothing_is_no_figure(printed: str) -> None:
    with pytest.raises(BenchError, match="measured nothing"):
        parse(printed)


def cell(rate: float, app: float, nginx: float = 0, memory: float = 50) -> servers.Cell:
    return servers.Cell(Load(rate, 0, 1000, 9.0, 20.0, 15.0), app, nginx, memory)


KNOWN = servers.subjects()
ROUNDS: list[servers.Round] = [
    {"alone": cell(1000, 100), "gunicorn-asgi": cell(700, 90, 35), "granian-asgi": cell(800, 60, 40, 30)},
    {"alone": cell(100, 100), "gunicorn-asgi": cell(80, 90, 35), "granian-asgi": cell(88, 60, 40, 34)},
]


def test_each_server_is_measured_with_each_interface_that_it_serves() -> None:
    assert list(KNOWN)[:2] == ["gunicorn-asgi", "gunicorn-wsgi"]
    assert len(KNOWN) == sum(len(server.interfaces) for server in SERVERS.values())
    assert KNOWN["granian-wsgi"].title == "granian, WSGI"


def test_table_has_ratios_of_the_same_round() -> None:
    rows = {line[0]: line[1:] for line in servers.columns(ROUNDS, KNOWN)}
    assert list(rows) == ["", "uvicorn alone", "gunicorn, ASGI", "granian, ASGI"]
    cells = dict(zip(rows[""], rows["gunicorn, ASGI"], strict=True))
    assert cells["/s"] == "390" and cells["to alone"] == "0.75 +- 0.05" and cells["to first"] == "1.00"
    assert (cells["nginx us"], cells["app us"], cells["without wrk"]) == ("35", "90", "0.80")
    assert cells["equal wrk"] == "0.82", "115 to 140"
    assert dict(zip(rows[""], rows["granian, ASGI"], strict=True))["memory MB"] == "32"


def test_bars_are_held_by_the_usual_server_and_the_quickest() -> None:
    lines, good = servers.verdicts(ROUNDS, KNOWN)
    assert not good
    assert lines == [
        "The usual server, gunicorn, ASGI, gives 0.748 +- 0.050 of uvicorn alone: FALLS SHORT OF the bar of 0.75.",
        "The quickest server, granian, ASGI, gives 0.839 +- 0.040 of uvicorn alone: FALLS SHORT OF the bar of 0.85.",
    ]
    fast: list[servers.Round] = [{"alone": cell(100, 100), "gunicorn-asgi": cell(86, 1), "gunicorn-wsgi": cell(150, 1)}]
    lines, good = servers.verdicts(fast, KNOWN)
    assert good and "The quickest server, gunicorn, ASGI, gives 0.860 +- nan" in lines[1]


def test_a_wrong_server_is_refused_with_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        servers.parser().parse_args(["--servers=daphne"])
    assert re.search(r"daphne: choose from gunicorn-asgi, .*granian-asgi", " ".join(capsys.readouterr().err.split()))


SCRIPT = """ 12734      7f457c5d0af8 SSL_read (/usr/lib/x86_64-linux-gnu/libssl.so.3)
12734  ffffffff82203877 _raw_spin_lock ([kernel.kallsyms])
 12754      7fef5251d8b8 [unknown] (/srv/app/.venv/lib/loop.cpython-313-x86_64-linux-gnu.so)
 1      7fef5251d8b8 strcmp (/usr/lib/ld.so)
12734  ffffffff82203877 _raw_spin_lock ([kernel.kallsyms])
"""


def test_profile_tells_where_each_kind_of_process_is() -> None:
    found = perf.samples(SCRIPT, {12734: "nginx", 12754: "app"})
    assert perf.shown(found).splitlines() == [
        " 25.0%  app",
        "   25.0%  loop.cpython-313-x86_64-linux-gnu.so",
        "     25.0%  [unknown] (loop.cpython-313-x86_64-linux-gnu.so)",
        " 75.0%  nginx",
        "   50.0%  [kernel.kallsyms]",
        "   25.0%  libssl.so.3",
        "     50.0%  _raw_spin_lock ([kernel.kallsyms])",
        "     25.0%  SSL_read (libssl.so.3)",
    ]
    assert perf.to_code(found, "app") == 4 and perf.to_code(found, "nginx") == 4
    nothing = perf.samples(SCRIPT, {2: "nginx"})
    assert perf.shown(nothing) == "perf saw nothing" and isnan(perf.to_code(nothing, "nginx"))
