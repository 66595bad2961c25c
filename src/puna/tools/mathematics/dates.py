"""Questions about days: how many lie between two, which one lies so many after one, what weekday.

It knows the Gregorian calendar, also where it was not yet in use. Today is told by the caller.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, timedelta

from puna.tools.mathematics.expression import NotUnderstood
from puna.tools.mathematics.wording import Pod, answer, pod

_MONTHS = "january february march april may june july august september october november december"
_NAMES = {name: index for index, name in enumerate(_MONTHS.split(), 1)}
MONTHS = {**_NAMES, **{name[:3]: index for name, index in _NAMES.items()}, "sept": 9}
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_MONTH = "(?P<month>" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_FORMS = [
    re.compile(r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})"),
    re.compile(rf"{_MONTH}\s+{_DAY},?\s+(?P<year>\d{{1,4}})"),
    re.compile(rf"{_DAY}\s+(?:of\s+)?{_MONTH},?\s+(?P<year>\d{{1,4}})"),
    re.compile(r"(?P<number>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})"),
]
_BETWEEN = re.compile(
    r"(?:(?:how many|number of)\s+)?(?P<unit>days|weeks)\s+(?:are\s+)?(?:there\s+)?"
    r"(?:between|from)\s+(?P<first>.+?)\s+(?:and|to|until|till)\s+(?P<second>.+)"
)
_UNTIL = re.compile(
    r"(?:(?:how many|number of)\s+)?(?P<unit>days|weeks)\s+(?:are\s+)?(?:left\s+|there\s+)?"
    r"(?P<way>until|till|to|since)\s+(?P<day>.+)"
)
_SHIFTED = re.compile(
    r"(?P<count>\d+)\s+(?P<unit>day|week|month|year)s?\s+(?P<way>after|from|before)\s+(?P<day>.+)"
)
_ADDED = re.compile(
    r"(?P<day>.+?)\s*(?P<way>\+|-|plus|minus)\s*(?P<count>\d+)\s+(?P<unit>day|week|month|year)s?"
)
_WEEKDAY = re.compile(
    r"(?:what\s+|which\s+)?(?:day of the week|weekday|day)\s+"
    r"(?:is|was|were|will be|of|for|on)\s+(?P<day>.+?)(?:\s+on|\s+be)?"
)


def answer_about_days(text: str, today: date) -> list[Pod] | None:
    """The answer, or None if this is no question about days. Raises `NotUnderstood`."""
    text = re.sub(r"\bnow\b", "today", text.lower().strip(" ?."))
    if match := _BETWEEN.fullmatch(text):
        first, second = (read_date(match[name], today) for name in ("first", "second"))
        return _distance(first, second, match["unit"]) if first and second else None
    if match := _UNTIL.fullmatch(text):
        if (day := read_date(match["day"], today)) is None:
            return None
        ends = (day, today) if match["way"] == "since" else (today, day)
        return _distance(*ends, match["unit"])
    for form in (_SHIFTED, _ADDED):
        if (match := form.fullmatch(text)) and (day := read_date(match["day"], today)):
            back = match["way"] in ("before", "-", "minus")
            count = int(match["count"][:9]) * (-1 if back else 1)
            moved = _moved(day, count, match["unit"])
            asked = f"{day.isoformat()} {'-' if back else '+'} {match['count']} {match['unit']}s"
            return answer(asked, spoken(moved))
    if (match := _WEEKDAY.fullmatch(text)) and (day := read_date(match["day"], today)):
        return answer(f"weekday of {day.isoformat()}", spoken(day))
    if day := read_date(text, today):
        days = (day - today).days
        told = "today" if not days else f"{abs(days)} days {'from now' if days > 0 else 'ago'}"
        return answer(f"the date {day.isoformat()}", spoken(day), pod("Distance from today", told))
    return None


def read_date(text: str, today: date) -> date | None:
    """The date that `text` writes, or None. 3/4/2025 is in March. Raises `NotUnderstood`."""
    text = " ".join(text.lower().strip(" ?.").removeprefix("the ").split())
    named = {"today": 0, "tomorrow": 1, "yesterday": -1}
    if text in named:
        return today + timedelta(named[text])
    weekday = re.compile(r"^(?:" + "|".join(day.lower() for day in WEEKDAYS) + r"),?\s+")
    text = weekday.sub("", text)
    for form in _FORMS:
        if match := form.fullmatch(text):
            parts = match.groupdict()
            month = int(parts["number"]) if "number" in parts else MONTHS[parts["month"]]
            try:
                return date(int(parts["year"]), month, int(parts["day"]))
            except ValueError:
                raise NotUnderstood(f"there is no day {text!r}") from None
    return None


def spoken(day: date) -> str:
    name = next(name for name, index in MONTHS.items() if index == day.month).capitalize()
    return f"{WEEKDAYS[day.weekday()]}, {day.day} {name} {day.year} ({day.isoformat()})"


def _distance(first: date, second: date, unit: str) -> list[Pod]:
    days = (second - first).days
    asked = f"{unit} from {first.isoformat()} to {second.isoformat()}"
    if unit == "weeks":
        weeks, rest = divmod(abs(days), 7)
        sign = "-" if days < 0 else ""
        return answer(asked, f"{sign}{weeks} weeks {rest} days", pod("In days", f"{days} days"))
    return answer(asked, f"{days} days", pod("In weeks", f"{days / 7:.6g} weeks"))


def _moved(day: date, count: int, unit: str) -> date:
    try:
        if unit in ("day", "week"):
            return day + timedelta(count * (7 if unit == "week" else 1))
        months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
    except (ValueError, OverflowError):
        raise NotUnderstood("that day lies outside the years 1 to 9999") from None
