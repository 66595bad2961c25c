"""How an answer is written: pods of text, as Wolfram|Alpha's are, and SymPy's values as people
write them. It knows no question.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias

sympy: Any = import_module("sympy")

Pod: TypeAlias = dict[str, Any]

MAX_TEXT = 2000
DIGITS = 15


def pod(title: str, *texts: object) -> Pod:
    """One titled part of an answer, of one text or several."""
    cut = [one if len(one) <= MAX_TEXT else one[: MAX_TEXT - 1] + "…" for one in map(str, texts)]
    return {"title": title, "subpods": [{"title": "", "plaintext": one} for one in cut]}


def answer(interpretation: object, result: object, *more: Pod, title: str = "Result") -> list[Pod]:
    """What was understood, what came out, and what else is to be said."""
    texts = [shown(one) for one in result] if isinstance(result, list) else [shown(result)]  # pyright: ignore[reportUnknownVariableType]
    return [pod("Input interpretation", interpretation), pod(title, *texts), *more]


def shown(value: Any) -> str:
    """A value as it is typed: `x^2`, `3*sin(x)`. Whole numbers of many digits are cut short."""
    if isinstance(value, str):
        return value
    if value is sympy.true or value is sympy.false:
        return str(value)
    if getattr(value, "is_Integer", False) and int(value).bit_length() > 3000:
        digits = int(sympy.floor(sympy.log(abs(value), 10).evalf(30))) + 1
        return f"{decimal(value)} ({digits} digits)"
    text = sympy.sstr(value, order="lex") if isinstance(value, sympy.Basic) else str(value)
    return text.replace("**", "^").replace("oo", "infinity")


def decimal(value: Any) -> str:
    """About how much it is, or nothing where that says no more than the value does."""
    if not isinstance(value, sympy.Expr) or not value.is_number or value.has(sympy.oo, sympy.nan):
        return ""
    number = sympy.N(value, DIGITS)
    if not number.is_number or number.has(sympy.zoo):
        return ""
    text = sympy.sstr(number, full_prec=False)
    return text.replace("**", "^")


def approximation(*values: Any) -> list[Pod]:
    """A pod of decimals, where they say more than the values do."""
    told = [decimal(one) for one in values]
    if not any(told) or all(getattr(one, "is_Integer", False) for one in values):
        return []
    return [pod("Decimal approximation", *(one for one in told if one))]
