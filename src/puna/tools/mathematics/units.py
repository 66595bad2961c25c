"""Questions about quantities: `12 miles in km`, `100 F to C`, `3 kg * 9.81 m/s^2`. Pint answers.

It knows units and no symbols. Currencies are none: their worth is not known here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from puna.tools.mathematics.expression import NotUnderstood, expression, plain_signs
from puna.tools.mathematics.wording import Pod, answer, decimal

pint: Any = import_module("pint")

_CONVERT = re.compile(
    r"(?:convert\s+)?(?P<value>.+?)\s+(?:in|to|into|as)\s+(?P<unit>[^=]+)", re.IGNORECASE
)
_HOW_MANY = re.compile(
    r"how many\s+(?P<unit>.+?)\s+(?:are\s+)?(?:there\s+)?(?:in|is|are|make(?:\s+up)?)\s+"
    r"(?:(?P<one>an?)\s+)?(?P<value>.+)",
    re.IGNORECASE,
)
_PART = re.compile(r"[-+]?[\d.,]*\d\s*[A-Za-z'\"]+")
_HEIGHT = re.compile(r"""(\d+)\s*'\s*(\d+)\s*(?:"|'')""")
_QUANTITY = re.compile(
    r"(?P<number>[-+]?[\d.,]*\d(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(?P<unit>[^\d\s].*)"
)
_UNIT = re.compile(r"[A-Za-zµμΩ°'\"][A-Za-z0-9_µμΩ°'\" ^*/().-]*")
_SAFE = re.compile(r"[A-Za-z0-9_µμΩ° ^*/().+-]+")
# 10^10^10 and the like would only cost the time after which the child is ended.
_EXPONENTS = re.compile(r"(?:\^|\*\*)\s*-?(?:\d{3,}|\(|\d+\s*(?:\^|\*\*))")

_TEMPERATURES = {
    **dict.fromkeys(("c", "°c", "celsius", "centigrade", "degrees c", "degrees celsius"), "degC"),
    **dict.fromkeys(("f", "°f", "fahrenheit", "degrees f", "degrees fahrenheit"), "degF"),
    **dict.fromkeys(("k", "kelvin", "kelvins"), "kelvin"),
}
_SPOKEN = {
    "m.p.h.": "mph", "kmh": "km/hour", "kph": "km/hour", "km/h": "km/hour", "litres": "liters",
    "litre": "liter", "metres": "meters", "metre": "meter", "feet per second": "feet/second",
}  # fmt: skip


@cache
def _registry() -> Any:
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=False)


def answer_about_quantities(text: str) -> list[Pod] | None:
    """The answer, or None if this is no question about quantities. Raises `NotUnderstood`."""
    text = plain_signs(" ".join(text.strip(" ?.").split()))
    text = _HEIGHT.sub(r"\1 feet \2 inches", text)
    if match := _HOW_MANY.fullmatch(text):
        value, unit = match["value"], match["unit"]
        if match["one"] or not re.match(r"[-+\d.]", value):
            value = f"1 {value}"
    elif match := _CONVERT.fullmatch(text):
        value, unit = match["value"], match["unit"]
    else:
        return _calculation(text)
    return _conversion(value, unit)


def _conversion(value: str, unit: str) -> list[Pod] | None:
    target = _TEMPERATURES.get(unit.strip().lower())
    read = _QUANTITY.fullmatch(value.strip())
    source = _TEMPERATURES.get(read["unit"].strip().lower()) if read else None
    if read and source and target:
        return _converted(_registry().Quantity(_float(read["number"]), source), target)
    if not _UNIT.fullmatch(unit.strip()):
        return None
    wanted = _unit(unit)
    quantity = _quantity(value)
    if quantity is None or wanted is None:
        return None
    return _converted(quantity, wanted)


def _converted(quantity: Any, unit: Any) -> list[Pod]:
    try:
        result = quantity.to(unit)
    except pint.DimensionalityError:
        raise NotUnderstood(f"{_unit_name(quantity)} cannot be had in {unit}") from None
    except (pint.OffsetUnitCalculusError, OverflowError, ZeroDivisionError, ValueError):
        raise NotUnderstood(f"{_shown(quantity)} cannot be converted to {unit}") from None
    told = f"convert {quantity.magnitude:.10g} {_in_full(quantity)} to {_in_full(result)}"
    return answer(told, _shown(result))


def _calculation(text: str) -> list[Pod] | None:
    """Arithmetic with units, such as `5 m + 3 ft`."""
    if not _SAFE.fullmatch(text) or not re.search(r"\d\s*[A-Za-zµμΩ°]", text):
        return None
    quantity = _parsed(text)
    if quantity is None or quantity.dimensionless:
        return None
    return answer(text, _shown(quantity), title="Result")


def _quantity(text: str) -> Any:
    """`12 miles`, `5 feet 10 inches`, or anything that Pint reads; None for anything else."""
    text = text.strip()
    if (read := _QUANTITY.fullmatch(text)) and (unit := _unit(read["unit"])) is not None:
        try:
            return _registry().Quantity(_float(read["number"]), unit)
        except NotUnderstood:
            return None
    parts = _PART.findall(text)
    if len(parts) > 1 and _without_space("".join(parts)) == _without_space(text):
        quantities = [_parsed(part.replace(",", "")) for part in parts]
        if all(one is not None for one in quantities):
            with suppress(pint.DimensionalityError):
                return sum(quantities[1:], quantities[0])
    return _parsed(text)


def _without_space(text: str) -> str:
    return re.sub(r"[\s,]|and", "", text)


def _float(text: str) -> float:
    return float(decimal(expression(text)) or 0)


def _unit(text: str) -> Any:
    text = _SPOKEN.get(text.strip().lower(), text.strip())
    text = re.sub(r"\s+per\s+", "/", text)
    if not _SAFE.fullmatch(text) or _EXPONENTS.search(text) or len(text) > 80:
        return None
    joined = text.replace(" ", "_")  # light_year, nautical_mile
    for spelt in (text, text.lower(), joined, joined.lower().rstrip("s")):
        try:
            return _registry().Unit(spelt)
        except Exception:  # Pint raises whatever its tokenizer does
            continue
    return None


def _parsed(text: str) -> Any:
    if not _SAFE.fullmatch(text) or _EXPONENTS.search(text) or len(text) > 200:
        return None
    text = re.sub(r"\s+per\s+", "/", text)
    if not re.search(r"[\d*/+^]", text):
        text = re.sub(r"^the ", "", text).replace(" ", "_")  # speed_of_light
    try:
        quantity = _registry().Quantity(text)
        float(quantity.magnitude)
    except Exception:  # Pint raises whatever its tokenizer does
        return None
    return quantity


def _shown(quantity: Any) -> str:
    return f"{quantity.magnitude:.10g} {_unit_name(quantity)}".strip()


def _unit_name(quantity: Any) -> str:
    return f"{quantity.units:~P}" or "(no unit)"


def _in_full(quantity: Any) -> str:
    return f"{quantity.units:P}".replace("_", " ") or "(no unit)"
