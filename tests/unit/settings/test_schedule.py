"""When jobs start: cron's five fields as systemd has them, and what is no time."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from slipway.settings.types.schedule import _check_schedule, calendars

CRON = {
    "* * * * *": ["*-*-* *:*:00"],
    "*/15 * * * *": ["*-*-* *:00/15:00"],
    "5-59/10 * * * *": ["*-*-* *:05/10:00"],
    "0 */6 * * *": ["*-*-* 00/6:00:00"],
    "*/25 0 * * *": ["*-*-* 00:00/25:00"],
    "*/40 0 * * *": ["*-*-* 00:00,40:00"],
    "30 3 * * *": ["*-*-* 03:30:00"],
    "30 3 * * 1-5": ["Mon,Tue,Wed,Thu,Fri *-*-* 03:30:00"],
    "30 3 * * mon-FRI": ["Mon,Tue,Wed,Thu,Fri *-*-* 03:30:00"],
    "0 0 * * 0": ["Sun *-*-* 00:00:00"],
    "0 0 * * 7": ["Sun *-*-* 00:00:00"],
    "0 0 * * 5-7": ["Sun,Fri,Sat *-*-* 00:00:00"],
    "0 0 * * */2": ["Sun,Tue,Thu,Sat *-*-* 00:00:00"],
    "0 0 1,15 * *": ["*-*-01,15 00:00:00"],
    "0 0 1 jan,jul *": ["*-01,07-01 00:00:00"],
    "0 0 13 * 5": ["*-*-13 00:00:00", "Fri *-*-* 00:00:00"],
    "0 0 */2 * 5": ["Fri *-*-01/2 00:00:00"],
    "@hourly": ["*-*-* *:00:00"],
    "@weekly": ["Sun *-*-* 00:00:00"],
    "@yearly": ["*-01-01 00:00:00"],
}
SYSTEMD = [
    "daily",
    "hourly",
    "Mon..Fri 03:30",
    "Mon,Wed *-*-* 03:30:15",
    "*-*-01 04:00 UTC",
    "*:0/5",
    "Sat",
    "2026-12-24",
    "*-*~01 00:00",
    "03:30 Europe/Berlin",
]


@pytest.mark.parametrize("schedule", CRON)
def test_cron(schedule: str) -> None:
    assert _check_schedule(schedule) is True
    assert calendars(schedule) == CRON[schedule]


@pytest.mark.parametrize("schedule", SYSTEMD)
def test_what_systemd_takes_stays(schedule: str) -> None:
    assert _check_schedule(schedule) is True
    assert calendars(schedule) == [schedule]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("calendar", [*(each for found in CRON.values() for each in found), *SYSTEMD])
def test_systemd_knows_all_of_it(calendar: str) -> None:
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("", False),
        ("tomorrow", False),
        ("03:30; reboot", False),
        ("03:30\nUnit=x.service", False),
        ("* * * *", False),
        ("03:30 Mars/Base", "Mars/Base is no time zone: write one such as UTC"),
        ("60 * * * *", "write numbers from 0 to 59 as the minute"),
        ("* 24 * * *", "write numbers from 0 to 23 as the hour"),
        ("* * 0 * *", "write numbers from 1 to 31 as the day of the month"),
        ("* * * 13 *", "write numbers from 1 to 12 as the month"),
        ("* * * * 8", "write numbers from 0 to 7 as the day of the week"),
        ("* * L * *", "write numbers from 1 to 31 as the day of the month"),
        ("* * * * 5#2", "write numbers from 0 to 7 as the day of the week"),
        ("*/0 * * * *", "write a number after / in the minute"),
        ("5-1 * * * *", "write the smaller number of 5-1 first in the minute"),
        ("@reboot", "choose a time; what must always run is one of the app's processes"),
        ("@always", False),
    ],
)
def test_what_is_no_time(schedule: str, told: str | bool) -> None:
    assert _check_schedule(schedule) == told
