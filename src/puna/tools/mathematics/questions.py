"""Questions in plain words, and what SymPy does for each: the first form that fits answers.

It knows phrasings; formulas, quantities, days and how an answer is written are elsewhere. What
fits no form must be a formula, or is not understood: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from importlib import import_module
from typing import Any, TypeAlias

from puna.tools.mathematics.dates import answer_about_days
from puna.tools.mathematics.expression import (
    NotUnderstood,
    expression,
    plain_signs,
    symbols_of,
)
from puna.tools.mathematics.units import answer_about_quantities
from puna.tools.mathematics.wording import Pod, answer, approximation, pod, shown

sympy: Any = import_module("sympy")

Form: TypeAlias = Callable[[re.Match[str]], list[Pod]]

MAX_QUESTION = 1000
MAX_ROOT = 60
_TODAY = re.compile(r"(?:(?:current|today'?s)\s+)?date(?:\s+(?:today|of today))?", re.IGNORECASE)
_LEADING = re.compile(
    r"(?:(?:please|can you|could you|tell me|what(?:'s| is| are)|which (?:is|are)|calculate|compute"
    r"|evaluate|find|determine|give(?: me)?|work out|value of|result of|the)\b[\s:,]*)+",
    re.IGNORECASE,
)
_WORDS = [
    (r"\bto the power(?: of)?\b", "^"), (r"\bdivided by\b|\bover\b", "/"), (r"\bplus\b", "+"),
    (r"\bminus\b", "-"), (r"\btimes\b|\bmultiplied by\b", "*"), (r"\bsquared\b", "^2"),
    (r"\bcubed\b", "^3"), (r"\bcube root of\b", "cbrt "), (r"\b(?:square )?root of\b", "√"),
    (r"(?<=\d)\s*(?:%|percent)\s+of\b", "/100*"), (r"\bpercent\b", "%"),
    (r"\b(\w+)\s+choose\s+(\w+)\b", r"binomial(\1,\2)"), (r"\b(\d+)\s+factorial\b", r"\1!"),
    (r"\b(sin|cos|tan|log|ln|sinh|cosh|tanh|factorial|gamma) of\b", r"\1 "),
    (r"\binfinity\b", "∞"), (r"(?<=\d)\s*degrees?\b", "°"), (r"\bmodulo\b", "mod"),
    (r"(?:\bthe )?\babsolute value of\b", "abs "), (r"\blog base (\d+) of (\S+)", r"log(\1,\2)"),
]  # fmt: skip
_RELATIONS = {
    "=": sympy.Eq, "==": sympy.Eq, "!=": sympy.Ne, "≠": sympy.Ne, "<": sympy.Lt, ">": sympy.Gt,
    "<=": sympy.Le, "≤": sympy.Le, ">=": sympy.Ge, "≥": sympy.Ge,
}  # fmt: skip
_RELATION = re.compile(r"(<=|>=|==|!=|[=<>≤≥≠])")
_VARIABLE = r"(?P<variable>[A-Za-z]\w?|alpha|beta|theta|[α-ω])"
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}


def answer_question(text: str, today: date) -> list[Pod]:
    """The pods of the answer. Raises `NotUnderstood`."""
    if len(text) > MAX_QUESTION:
        raise NotUnderstood(f"the question has more than {MAX_QUESTION} characters")
    if not text.isprintable():
        raise NotUnderstood("the question holds control characters")
    whole = " ".join(plain_signs(text).split()).strip(" ?.!" if not text.endswith("!") else " ?.")
    bare = _LEADING.sub("", whole, count=1) if _LEADING.match(whole) else whole
    if _TODAY.fullmatch(bare):
        bare = "today"
    for question in dict.fromkeys((bare, whole)):
        for pattern, form in _FORMS:
            if match := pattern.fullmatch(question):
                return form(match)
        for other in (lambda: answer_about_days(question, today), lambda: _relations(question)):  # noqa: B023
            if (found := other()) is not None:
                return found
    if (found := answer_about_quantities(whole)) or (found := answer_about_quantities(bare)):
        return found
    return _value(bare, formula(bare))


def formula(text: str) -> Any:
    """An expression that may be written in words."""
    for pattern, sign in _WORDS:
        text = re.sub(pattern, sign, text, flags=re.IGNORECASE)
    return expression(text)


# --- Formulas and equations


def _value(told: str, value: Any) -> list[Pod]:
    if not value.free_symbols:
        exact = sympy.nsimplify(value) if value.is_Rational else sympy.simplify(value)
        if exact.has(sympy.nan, sympy.zoo):
            raise NotUnderstood("it has no value")
        return answer(told, exact, *approximation(exact))
    simple = sympy.simplify(value)
    more = [pod("Alternate form", shown(form)) for form in _other_forms(value, simple)]
    return answer(told, simple, *more)


def _other_forms(value: Any, simple: Any) -> list[Any]:
    forms = [sympy.factor(value), sympy.expand(value)]
    return list(dict.fromkeys(form for form in forms if form not in (value, simple)))


def _relations(text: str) -> list[Pod] | None:
    if _RELATION.search(text) is None:
        return None
    variables = None
    if match := re.fullmatch(r"(.+?)[\s,;]+(?:solve\s+)?for\s+([\w\s,α-ω]+)", text, re.IGNORECASE):
        text, variables = match[1], match[2]
    return _solve(text, variables)


def _solve(text: str, variables: str | None) -> list[Pod]:
    parts = [part for part in re.split(r"\s*(?:;|\band\b|,(?![^()]*\)))\s*", text) if part]
    relations = [_relation(part) for part in parts]
    wanted = _symbols(variables) if variables else symbols_of(*relations)
    told = "solve " + ", ".join(parts)
    if all(relation in (sympy.true, sympy.false) for relation in relations):
        return answer(told, str(all(relation is sympy.true for relation in relations)))
    if not wanted:
        raise NotUnderstood("there is no unknown to solve for")
    if any(not isinstance(one, sympy.Eq) for one in relations):
        return _inequalities(told, relations, wanted)
    try:
        if len(relations) == 1 and len(wanted) >= 1:
            return _equation(told, relations[0], wanted[0])
        found = sympy.solve(relations, wanted, dict=True)
    except NotImplementedError:
        raise NotUnderstood("SymPy finds no way to solve this") from None
    if not found:
        return answer(told, "no solution exists")
    texts = [
        ", ".join(f"{name} = {shown(value)}" for name, value in one.items()) or "always true"
        for one in found
    ]
    values = [value for one in found for value in one.values()]
    return answer(told, texts, *approximation(*values), title=_solutions(texts))


def _equation(told: str, equation: Any, unknown: Any) -> list[Pod]:
    if equation is sympy.true or equation is sympy.false:
        return answer(told, str(equation))
    told = f"{told} for {unknown}"
    difference = equation.lhs - equation.rhs
    if difference.is_polynomial(unknown):
        return _roots(told, unknown, sympy.Poly(difference, unknown))
    real = sympy.solveset(equation, unknown, sympy.S.Reals)
    if (texts := _families(real, unknown)) is not None:
        return answer(told, texts, title="Real solutions")
    try:
        values = list(real) if isinstance(real, sympy.FiniteSet) else sympy.solve(equation, unknown)
    except NotImplementedError:
        values = []
    if real is sympy.S.EmptySet and not values:
        return answer(told, "no real solution exists")
    if not values:
        texts = [f"{unknown} ≈ {value}" for value in _numeric(equation, unknown)]
        return answer(told, texts, title="Numerical solution")
    return _solved(told, unknown, values)


def _roots(told: str, unknown: Any, poly: Any) -> list[Pod]:
    """Exact roots where they can be written in a line, else decimals."""
    if poly.degree() < 1:
        return answer(told, "always true" if poly.is_zero else "no solution exists")
    found = sympy.roots(poly)
    numbers = not poly.free_symbols - {unknown}
    long = any(len(str(value)) > MAX_ROOT for value in found)
    if (long or sum(found.values()) < poly.degree()) and numbers:
        texts = [f"{unknown} ≈ {value.n(10)}" for value in poly.nroots(n=15)]
        return answer(told, texts, title=_solutions(texts))
    if not found:
        raise NotUnderstood("SymPy finds no way to solve this")
    return _solved(told, unknown, list(found))


def _solved(told: str, unknown: Any, values: list[Any]) -> list[Pod]:
    values = sorted(values, key=_place)
    texts = [f"{unknown} = {shown(value)}" for value in values]
    return answer(told, texts, *approximation(*values), title=_solutions(texts))


def _families(found: Any, unknown: Any) -> list[str] | None:
    """Solutions that repeat, `x = 2*pi*n`; None where they do not."""
    parts = found.args if isinstance(found, sympy.Union) else (found,)
    if not all(isinstance(one, sympy.ImageSet) and len(one.base_sets) == 1 for one in parts):
        return None
    n = sympy.Symbol("n")
    return [f"{unknown} = {shown(sympy.expand(one.lamda(n)))} for any whole n" for one in parts]


def _place(value: Any) -> tuple[bool, float, float]:
    """Real values first, the smaller first."""
    number = complex(value) if value.is_number else 0j
    return abs(number.imag) > 1e-12, number.real, number.imag


def _numeric(equation: Any, unknown: Any) -> list[Any]:
    difference = equation.lhs - equation.rhs
    if difference.free_symbols == {unknown}:
        for start in (1, -1, 0.1, 5, -5, 20):
            try:
                return [sympy.nsolve(difference, unknown, start).evalf(10)]
            except (ValueError, TypeError, ZeroDivisionError):
                continue
    raise NotUnderstood("SymPy finds no way to solve this")


def _inequalities(told: str, relations: list[Any], wanted: list[Any]) -> list[Pod]:
    if len(wanted) > 1:
        raise NotUnderstood("inequalities are solved for one unknown only")
    try:
        real = sympy.Symbol(str(wanted[0]), real=True)
        moved = [one.subs(wanted[0], real) for one in relations]
        found = sympy.reduce_inequalities(moved, real)
    except (NotImplementedError, TypeError):
        raise NotUnderstood("SymPy finds no way to solve this") from None
    found = found.as_set()
    parts = found.args if isinstance(found, sympy.Union) else (found,)
    return answer(told, " or ".join(_interval(str(real), one) for one in parts))


def _interval(name: str, found: Any) -> str:
    if found is sympy.S.EmptySet:
        return "no solution exists"
    if not isinstance(found, sympy.Interval):
        return f"{name} in {shown(found)}"
    low = "<" if found.left_open else "<="
    high = "<" if found.right_open else "<="
    match found.start is -sympy.oo, found.end is sympy.oo:
        case True, True:
            return "all real numbers"
        case True, False:
            return f"{name} {high} {shown(found.end)}"
        case False, True:
            return f"{name} {low.replace('<', '>')} {shown(found.start)}"
        case _:
            return f"{shown(found.start)} {low} {name} {high} {shown(found.end)}"


def _relation(text: str) -> Any:
    parts = _RELATION.split(text)
    if len(parts) == 1:
        return sympy.Eq(formula(parts[0]), 0)
    if len(parts) != 3:
        raise NotUnderstood("a relation has two sides")
    return _RELATIONS[parts[1]](formula(parts[0]), formula(parts[2]))


def _solutions(texts: list[str]) -> str:
    return "Solution" if len(texts) == 1 else "Solutions"


def _symbols(text: str) -> list[Any]:
    return [sympy.Symbol(name) for name in re.split(r"[\s,]+(?:and\s+)?", text.strip()) if name]


# --- Calculus


def _unknown(match: re.Match[str], value: Any) -> Any:
    if match["variable"]:
        return sympy.Symbol(match["variable"])
    found = symbols_of(value)
    if len(found) > 1 and str(found[0]) != "x":
        raise NotUnderstood("say with respect to which variable")
    return found[0] if found else sympy.Symbol("x")


def _derivative(match: re.Match[str]) -> list[Pod]:
    named = match.groupdict()
    value = formula(named["formula"])
    unknown = _unknown(match, value)
    nth = (named.get("nth") or "first").lower()
    order = int(nth) if nth.isdigit() else _ORDINALS[nth]
    result = sympy.simplify(sympy.diff(value, unknown, order))
    told = f"d{f'^{order}' if order > 1 else ''}/d{unknown}{f'^{order}' if order > 1 else ''}"
    told = f"{told} ({shown(value)})"
    if named.get("at"):
        at = formula(named["at"])
        there = sympy.simplify(result.subs(unknown, at))
        return answer(f"{told} at {unknown} = {shown(at)}", there, *approximation(there))
    return answer(told, result)


def _integral(match: re.Match[str]) -> list[Pod]:
    text = match["formula"]
    variable = match["variable"]
    if end := re.search(r"\s*\bd([a-zα-ω])$", text):
        text, variable = text[: end.start()], end[1]
    value = formula(text) if text.strip() else sympy.Integer(1)
    unknown = sympy.Symbol(variable) if variable else _unknown(match, value)
    if match["low"]:
        low, high = formula(match["low"]), formula(match["high"])
        result = sympy.integrate(value, (unknown, low, high))
        told = f"integrate {shown(value)} d{unknown} from {shown(low)} to {shown(high)}"
        if result.has(sympy.Integral):
            number = result.evalf(10)
            if number.has(sympy.Integral):
                raise NotUnderstood("SymPy finds no value of this integral")
            return answer(told, number, title="Numerical value")
        result = sympy.simplify(result)
        return answer(told, result, *approximation(result))
    result = sympy.integrate(value, unknown)
    if result.has(sympy.Integral):
        raise NotUnderstood("SymPy finds no formula for this integral")
    result = sympy.simplify(result) if not result.has(sympy.Piecewise) else result
    return answer(f"integrate {shown(value)} d{unknown}", f"{shown(result)} + constant")


def _limit(match: re.Match[str]) -> list[Pod]:
    value, unknown = formula(match["formula"]), sympy.Symbol(match["variable"])
    text, side = match["at"], "+-"
    if end := re.search(r"\s*(\^?[+-]|from the (left|right|above|below))$", text):
        side = "-" if end[0].strip(" ^") in ("-", "from the left", "from the below") else "+"
        side = "-" if end[2] in ("left", "below") else side
        text = text[: end.start()]
    at = formula(text)
    try:
        result = sympy.limit(value, unknown, at, side)
    except ValueError:
        result = "the limit does not exist"
    told = f"limit of {shown(value)} as {unknown} -> {shown(at)}"
    return answer(told, result, *approximation(result))


def _series(match: re.Match[str]) -> list[Pod]:
    value = formula(match["formula"])
    unknown = _unknown(match, value)
    at = formula(match["at"]) if match["at"] else sympy.Integer(0)
    order = min(int(match["order"] or 6), 20)
    result = sympy.series(value, unknown, at, order + 1)
    return answer(f"series of {shown(value)} at {unknown} = {shown(at)}", result)


def _sum(match: re.Match[str]) -> list[Pod]:
    value, unknown = formula(match["formula"]), sympy.Symbol(match["variable"])
    low, high = formula(match["low"]), formula(match["high"])
    product = match["kind"].lower() == "product"
    made = sympy.product if product else sympy.summation
    result = sympy.simplify(made(value, (unknown, low, high)))
    told = (
        f"{match['kind'].lower()} of {shown(value)} for {unknown} = {shown(low)} to {shown(high)}"
    )
    if result.has(sympy.Sum, sympy.Product):
        number = result.evalf(10)
        if number.has(sympy.Sum, sympy.Product) or not number.is_number:
            raise NotUnderstood(f"SymPy finds no value of this {match['kind'].lower()}")
        return answer(told, number, title="Numerical value")
    return answer(told, result, *approximation(result))


# --- Algebra and numbers


def _digits(match: re.Match[str]) -> list[Pod]:
    value = formula(match["formula"])
    if value.free_symbols:
        raise NotUnderstood("only a number has digits")
    return answer(f"{shown(value)} to {match['digits']} digits", value.evalf(int(match["digits"])))


def _factor(match: re.Match[str]) -> list[Pod]:
    value = formula(match["formula"])
    told = f"factor {shown(value)}"
    if value.is_Integer:
        factors = sympy.factorint(value)
        powers = [
            f"{prime}^{power}" if power > 1 else f"{prime}" for prime, power in factors.items()
        ]
        divisors = pod("Divisors", ", ".join(map(str, sympy.divisors(value)))) if value else None
        few = divisors is not None and sympy.divisor_count(value) <= 60
        return answer(told, " * ".join(powers) or "1", *([divisors] if few and divisors else []))
    return answer(told, sympy.factor(value))


def _transformed(name: str, change: Callable[[Any], Any]) -> Form:
    def form(match: re.Match[str]) -> list[Pod]:
        value = formula(match["formula"])
        return answer(f"{name} {shown(value)}", change(value))

    return form


def _is_prime(match: re.Match[str]) -> list[Pod]:
    value = _whole(match["formula"])
    prime = sympy.isprime(value)
    more = [] if prime or abs(value) < 2 else _factor(match)[1:2]
    return answer(
        f"is {value} prime", f"{value} is {'a' if prime else 'not a'} prime number", *more
    )


def _next_prime(match: re.Match[str]) -> list[Pod]:
    value = _whole(match["formula"])
    return answer(f"next prime after {value}", sympy.nextprime(value))


def _nth_prime(match: re.Match[str]) -> list[Pod]:
    index = int(match["index"])
    if not 1 <= index <= 1_000_000:
        raise NotUnderstood("primes are counted from 1 to 1000000 here")
    return answer(f"prime number {index}", sympy.prime(index))


def _in_base(match: re.Match[str]) -> list[Pod]:
    value = _whole(match["formula"])
    named = {"binary": 2, "octal": 8, "hex": 16, "hexadecimal": 16}
    base = named.get(match["base"].lower()) or int(match["base"].split()[-1])
    if not 2 <= base <= 36:
        raise NotUnderstood("bases go from 2 to 36")
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    rest, written = abs(value), ""
    while rest:
        rest, digit = divmod(rest, base)
        written = digits[digit] + written
    return answer(f"{value} in base {base}", ("-" if value < 0 else "") + (written or "0"))


def _whole(text: str) -> int:
    value = formula(text)
    if not value.is_Integer or int(value).bit_length() > 1000:
        raise NotUnderstood("a whole number of at most 300 digits is expected")
    return int(value)


def _of_list(match: re.Match[str]) -> list[Pod]:
    text = match["items"].strip().removeprefix("(").removesuffix(")").strip("{}[]")
    values = [formula(one) for one in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", text) if one]
    if not values:
        raise NotUnderstood("a list of numbers is expected")
    kind = " ".join(match["kind"].lower().split())
    result = _LISTS[kind](values)
    return answer(f"{kind} of {', '.join(map(shown, values))}", result, *approximation(result))


def _mean(values: list[Any]) -> Any:
    return sympy.Add(*values) / len(values)


def _median(values: list[Any]) -> Any:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _variance(values: list[Any]) -> Any:
    if len(values) < 2:
        raise NotUnderstood("a spread needs two values at least")
    mean = _mean(values)
    return sympy.Add(*((value - mean) ** 2 for value in values)) / (len(values) - 1)


_LISTS: dict[str, Callable[[list[Any]], Any]] = {
    "mean": _mean,
    "average": _mean,
    "median": _median,
    "sum": lambda values: sympy.Add(*values),
    "product": lambda values: sympy.Mul(*values),
    "variance": _variance,
    "standard deviation": lambda values: sympy.sqrt(_variance(values)),
    "gcd": lambda values: sympy.gcd_list(values),
    "greatest common divisor": lambda values: sympy.gcd_list(values),
    "lcm": lambda values: sympy.lcm_list(values),
    "least common multiple": lambda values: sympy.lcm_list(values),
    "maximum": lambda values: sympy.Max(*values),
    "minimum": lambda values: sympy.Min(*values),
}


def _of_matrix(match: re.Match[str]) -> list[Pod]:
    rows = re.findall(r"[\[{(]\s*([^\[\]{}()]+?)\s*[\]})]", match["matrix"][1:-1])
    values = [[formula(one) for one in row.split(",")] for row in rows]
    if not values or len({len(row) for row in values}) != 1 or len(values) > 10:
        raise NotUnderstood("a matrix is written {{1, 2}, {3, 4}}, with at most 10 rows")
    matrix = sympy.Matrix(values)
    if matrix.rows != matrix.cols and match["kind"].lower() != "rank":
        raise NotUnderstood("the matrix is not square")
    told = f"{match['kind'].lower()} of {matrix.tolist()}"
    match match["kind"].lower():
        case "determinant" | "det":
            return answer(told, sympy.simplify(matrix.det()))
        case "rank":
            return answer(told, sympy.Integer(matrix.rank()))
        case "inverse":
            if sympy.simplify(matrix.det()) == 0:
                raise NotUnderstood("the matrix has no inverse")
            return answer(told, shown(matrix.inv().tolist()))
        case _:
            found = [value for value, count in matrix.eigenvals().items() for _ in range(count)]
            return answer(told, found, *approximation(*found))


def _form(pattern: str, form: Form) -> tuple[re.Pattern[str], Form]:
    return re.compile(pattern, re.IGNORECASE), form


_RESPECT = rf"(?:\s+(?:with respect to|wrt|in)\s+{_VARIABLE})?"
_RANGE = r"(?:\s+(?:from|between)\s+(?P<low>.+?)\s+(?:to|and)\s+(?P<high>.+))?"
_FORMULA = "(?P<formula>.+?)"
_ITEMS = r"(?P<items>[^a-z=]*\d(?:[^a-z=]|and)*)"

_FORMS: list[tuple[re.Pattern[str], Form]] = [
    _form(
        r"(?:solve\s+for\s+)(?P<variables>[\w\s,α-ω]+?)\s*(?::|,?\s+(?:in|if|when|where|given))\s*"
        r"(?P<text>.+)",
        lambda match: _solve(match["text"], match["variables"]),
    ),
    _form(
        r"(?P<variables>[a-z])\s+(?:if|when|where|given)\s+(?P<text>.*=.*)",
        lambda match: _solve(match["text"], match["variables"]),
    ),
    _form(
        r"solve\s+(?:the\s+)?(?:equations?\s+|inequality\s+|system\s+)?(?P<text>.+?)"
        r"(?:[\s,]+for\s+(?P<variables>[\w\s,α-ω]+))?",
        lambda match: _solve(match["text"], match["variables"]),
    ),
    _form(
        r"(?:roots?|zeros?|zeroes|solutions?)\s+(?:of|to)\s+(?P<text>.+)",
        lambda match: _solve(match["text"], None),
    ),
    _form(
        rf"(?:(?P<nth>first|second|third|fourth|fifth)\s+)?(?:derivative\s+of|differentiate|derive)"
        rf"\s+{_FORMULA}{_RESPECT}(?:\s+(?:at|when|where|for)\s+(?:[a-z]\s*=\s*)?(?P<at>.+))?",
        _derivative,
    ),
    _form(rf"d(?:\^(?P<nth>\d))?/d{_VARIABLE}(?:\^\d)?\s*(?:of\s+)?{_FORMULA}", _derivative),
    _form(
        rf"{_FORMULA}\s+to\s+(?P<digits>\d{{1,3}})\s+(?:digits|decimals|decimal places)", _digits
    ),
    _form(
        rf"(?:(?:indefinite|definite)\s+)?(?:integrate|integral\s+of|antiderivative\s+of|∫)\s*"
        rf"{_FORMULA}{_RESPECT}{_RANGE}",
        _integral,
    ),
    _form(
        rf"(?:limit|lim)\s+(?:of\s+)?{_FORMULA}\s+(?:as\s+)?{_VARIABLE}\s*"
        r"(?:->|→|approaches|goes to|tends to|to)\s*(?P<at>.+)",
        _limit,
    ),
    _form(
        rf"(?:limit|lim)\s+(?:as\s+)?{_VARIABLE}\s*(?:->|→|approaches|goes to|tends to)\s*"
        rf"(?P<at>\S+?),?\s+(?:of\s+)?{_FORMULA}",
        _limit,
    ),
    _form(
        rf"(?:taylor |maclaurin |power )?series\s+(?:expansion\s+)?(?:of|for)\s+"
        rf"{_FORMULA}{_RESPECT}"
        r"(?:\s+(?:at|around|about)\s+(?:[a-z]\s*=\s*)?(?P<at>\S+))?"
        r"(?:\s+(?:to|up to|of)?\s*order\s+(?P<order>\d{1,3}))?",
        _series,
    ),
    _form(
        rf"(?P<kind>sum|product)\s+(?:of\s+)?{_FORMULA}[\s,]+(?:for|from|with)\s+{_VARIABLE}\s*"
        r"(?:=|from)\s*(?P<low>.+?)\s+to\s+(?P<high>.+)",
        _sum,
    ),
    _form(
        rf"(?P<kind>{'|'.join(_LISTS)})\s+of\s+(?:the\s+)?(?:numbers\s+)?{_ITEMS}",
        _of_list,
    ),
    _form(
        r"(?P<kind>det|determinant|inverse|eigenvalues|rank)\s+(?:of\s+)?(?:the\s+)?(?:matrix\s+)?"
        r"(?P<matrix>[\[{(].*[\]})])",
        _of_matrix,
    ),
    _form(
        rf"(?:prime\s+)?(?:factori[sz]e|factors?|factori[sz]ation)\s+(?:of\s+)?{_FORMULA}", _factor
    ),
    _form(rf"expand\s+{_FORMULA}", _transformed("expand", lambda value: sympy.expand(value))),
    _form(rf"simplify\s+{_FORMULA}", _transformed("simplify", lambda value: sympy.simplify(value))),
    _form(
        rf"partial fractions\s+(?:of\s+)?{_FORMULA}",
        _transformed("partial fractions of", lambda value: sympy.apart(value)),
    ),
    _form(rf"is\s+{_FORMULA}\s+(?:an?\s+)?prime(?:\s+number)?", _is_prime),
    _form(rf"next\s+prime\s+(?:number\s+)?(?:after|above)\s+{_FORMULA}", _next_prime),
    _form(r"(?P<index>\d{1,9})(?:st|nd|rd|th)\s+prime(?:\s+number)?", _nth_prime),
    _form(
        rf"(?:convert\s+)?{_FORMULA}\s+(?:in|to|into)\s+"
        r"(?P<base>binary|octal|hex|hexadecimal|base\s+\d{1,2})",
        _in_base,
    ),
]
