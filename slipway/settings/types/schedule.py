"""When a job starts: cron's five fields, or a calendar expression of systemd."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from typing import Annotated

from slipway.settings.types.narrow import Hint, Narrow

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
"""As systemd calls them, in cron's order."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
SHORT = ("minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually")
"""Words of systemd's for whole expressions."""
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
"""Of cron: name, least and largest number."""
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_DAYS = rf"{_DAY}(?:(?:\.\.|,){_DAY})*"
_PART = r"[0-9*][0-9*,./]*"
_DATE = rf"(?:{_PART}-)?{_PART}[-~]{_PART}"
_TIME = rf"{_PART}:{_PART}(?::{_PART})?"
CALENDAR = re.compile(
    rf"(?=\S)(?:({_DAYS}),?)?(?:(?:^|\s+)({_DATE}))?(?:(?:^|\s+)({_TIME}))?(?:\s+([A-Za-z_/+0-9-]+))?"
)


class CronError(ValueError):
    """A field of cron that can't be read; its text says what to do."""


def calendars(schedule: str) -> list[str]:
    """A schedule as calendar expressions of systemd; of cron it may be two, each of which counts."""
    fields = NICKNAMES.get(schedule, schedule).split()
    return _from_cron(fields) if len(fields) == len(FIELDS) else [schedule]


def _from_cron(fields: Sequence[str]) -> list[str]:
    minutes, hours, days, months, weekdays = (
        _numbers(text, *field) for text, field in zip(fields, FIELDS, strict=True)
    )
    week = sorted({day % 7 for day in weekdays})
    on = ",".join(DAYS[day] for day in week) + " " if len(week) < 7 else ""
    time = f"{_text(hours, 0, 23)}:{_text(minutes, 0, 59)}:00"
    month, day = _text(months, 1, 12), _text(days, 1, 31)
    if not fields[2].startswith("*") and not fields[4].startswith("*"):  # crontab(5): then either of both is enough
        return [f"*-{month}-{day} {time}", f"{on}*-{month}-* {time}"]
    return [f"{on}*-{month}-{day} {time}"]


def _numbers(text: str, name: str, low: int, high: int) -> list[int]:
    """The numbers that a field of cron stands for."""
    found: set[int] = set()
    for part in text.split(","):
        span, slash, every = part.partition("/")
        if slash and not re.fullmatch(r"[1-9][0-9]?", every, re.ASCII):
            raise CronError(f"write a number after / in the {name}")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, min(high, 6) if name == FIELDS[4][0] else high
        else:
            begin = _number(first, name, low, high)
            end = _number(last, name, low, high) if dash else high if slash else begin
        if end < begin:
            raise CronError(f"write the smaller number of {span} first in the {name}")
        found |= {*range(begin, end + 1, int(every) if slash else 1)}
    return sorted(found)


def _number(text: str, name: str, low: int, high: int) -> int:
    names: dict[str, int] = {}
    if name == "month":
        names = {month: number for number, month in enumerate(MONTHS, start=1)}
    elif name == "day of the week":
        names = {day.lower(): number for number, day in enumerate(DAYS)}
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[0-9]{1,2}", text, re.ASCII) or not low <= int(text) <= high:
        raise CronError(f"write numbers from {low} to {high} as the {name}")
    return int(text)


def _text(numbers: Sequence[int], low: int, high: int) -> str:
    """Numbers as systemd has them: all of them as ``*``, steps as ``0/15``."""
    if len(numbers) == high - low + 1:
        return "*"
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 0
    if step > 1 and len(numbers) > 2 and [*range(numbers[0], high + 1, step)] == [*numbers]:
        return f"{numbers[0]:02d}/{step}"
    return ",".join(f"{number:02d}" for number in numbers)


def _check_schedule(value: str) -> Hint | bool:
    if value == "@reboot":
        return "choose a time; what must always run is one of the app's processes"
    if value.startswith("@"):
        return value in NICKNAMES
    if len(fields := value.split()) == len(FIELDS):
        try:
            _from_cron(fields)
        except CronError as error:
            return str(error)
        return True
    if value in SHORT:
        return True
    found = CALENDAR.fullmatch(value) if len(value) <= 200 else None
    if found is None or not any(found.groups()[:3]):
        return False
    zone = found[4]
    return zone is None or zone in zoneinfo.available_timezones() or f"{zone} is no time zone: write one such as UTC"


Schedule = Annotated[
    str,
    Narrow(
        "a time: cron's five fields, or a calendar expression of systemd",
        'write it such as "*/15 * * * *", "daily" or "Mon..Fri 03:30" (systemd.time(7) has them all)',
        _check_schedule,
    ),
]
"""When a job starts."""
