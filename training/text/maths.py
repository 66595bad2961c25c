"""Questions for wolfram_alpha: arithmetic, equations, calculus, units. Each gives (question, query)."""

# Tables of wordings read best as they stand.
# ruff: noqa: E501
# fmt: off

from random import Random

from training.text.values import number

UNITS = [
    ["miles", "kilometers", "meters", "feet", "yards", "inches", "centimeters", "nautical miles"],
    ["pounds", "kilograms", "grams", "ounces", "tons", "stone"],
    ["liters", "gallons", "milliliters", "cups", "pints", "cubic meters"],
    ["degrees Celsius", "degrees Fahrenheit", "kelvin"],
    ["hours", "minutes", "seconds", "days", "weeks"],
    ["square meters", "acres", "hectares", "square feet"],
    ["joules", "calories", "kilowatt hours"],
    ["kilometers per hour", "miles per hour", "knots", "meters per second"],
    ["megabytes", "gigabytes", "bytes", "bits"],
]
SHAPES = [
    "circle with radius", "square with side", "sphere with radius", "cube with side",
    "hexagon with side",
]  # fmt: skip
NP = [
    "square root", "cube root", "factorial", "logarithm", "natural logarithm", "sine", "cosine",
    "tangent", "binary form", "prime factors", "divisors", "square", "cube", "reciprocal",
    "number of digits",
]  # fmt: skip


# fmt: on
def num(rng: Random) -> str:
    if rng.random() < 0.25:
        return f"{number(rng, 0, 99)}.{number(rng, 1, 99)}"
    return number(rng, 1, 9999 if rng.random() < 0.3 else 99)


def arithmetic(rng: Random) -> str:
    style = rng.random()
    if style < 0.1:
        return f"({num(rng)} {rng.choice('+-')} {num(rng)}) {rng.choice('*/')} {num(rng)}"
    if style < 0.2:
        return f"{num(rng)}^{rng.randint(2, 12)}"
    op = rng.choice(
        ["+", "-", "*", "*", "/", "+", "x"]
        if style < 0.75
        else ["plus", "minus", "times", "divided by"]
    )
    space = "" if style < 0.3 and len(op) == 1 else " "
    expr = f"{num(rng)}{space}{op}{space}{num(rng)}"
    while rng.random() < 0.2:
        expr += f"{space}{op}{space}{num(rng)}"
    return expr


def polynomial(rng: Random, var: str = "x", degree: int | None = None) -> str:
    degree = degree or rng.choice([1, 2, 2, 3])
    expr = ""
    for power in range(degree, -1, -1):
        if power != degree and rng.random() < 0.2:
            continue
        c = rng.randint(1, 24 if power < 2 else 9)
        term = (str(c) if c > 1 or power == 0 else "") + (
            f"{var}^{power}" if power > 1 else var if power else ""
        )
        expr += (f" {rng.choice('+-')} " if expr else rng.choice(["", "", "", "-"])) + term
    return expr


def function(rng: Random, var: str = "x") -> str:
    kind = rng.random()
    if kind < 0.55:
        return polynomial(rng, var)
    inner = rng.choice([var, f"{rng.randint(2, 9)}{var}", f"{var}^2"])
    base = f"{rng.choice(['sin', 'cos', 'tan', 'exp', 'ln', 'sqrt', 'log'])}({inner})"
    if kind < 0.8:
        return base
    return f"{rng.choice([var, f'{var}^{rng.randint(2, 5)}', str(rng.randint(2, 9))])}{rng.choice([' * ', ' + ', ' - '])}{base}"


def equation(rng: Random) -> str:
    var = rng.choice("xxxxyztn")
    right = (
        "0"
        if rng.random() < 0.45
        else number(rng, 1, 99)
        if rng.random() < 0.7
        else polynomial(rng, var, 1)
    )
    return f"{polynomial(rng, var)} = {right}"


ASK = ["What is {}?", "What is {}?", "What's {}?", "what is {}", "Calculate {}.", "Calculate {}", "Compute {}.", "compute {}", "How much is {}?", "Work out {}.",
       "Can you calculate {}?", "Please calculate {}.", "Can you compute {}?", "Tell me {}.", "Find {}.", "I need {}.", "Evaluate {}.", "Hi, what is {}?",
       "Can you tell me {}?", "Give me {}.", "Please work out {}.", "What does {} give?", "Could you calculate {}?"]  # fmt: skip
HELD_ASK = [
    "Could you compute {}?", "Please compute {}.", "Please tell me {}.", "Can you work out {}?",
    "Can you evaluate {}?",
]  # fmt: skip
SOLVE = ["Solve {}", "Solve {}.", "Can you help me solve this equation: {}", "Solve the equation {}.", "Solve this equation: {}", "Find {v}: {}", "Solve for {v}: {}",
         "What is {v} if {}?", "Please solve {}.", "Can you solve {}?", "Find the solution of {}.", "Find {v} if {}.", "What is {v} when {}?", "Help me solve {}",
         "For which {v} is {}?", "Find the roots of {}.", "What are the solutions of {}?", "I need to solve {}."]  # fmt: skip
HELD_SOLVE = [
    "Can you help me solve {}?", "Please solve this equation: {}", "Could you solve {}?",
    "Solve the following equation: {}", "What is the solution of {}?",
]  # fmt: skip
DERIVE = [
    "What is the derivative of {}?", "Differentiate {}.", "Find the derivative of {}.",
    "Calculate the derivative of {}", "Derive {}.", "Can you differentiate {}?",
    "derivative of {}",
]  # fmt: skip
HELD_DERIVE = ["Please differentiate {}.", "Compute the derivative of {}."]
INTEGRATE = [
    "What is the integral of {}?", "Integrate {}.", "Find the integral of {}.",
    "Calculate the integral of {}", "Can you integrate {}?", "integral of {}",
]  # fmt: skip
HELD_INTEGRATE = ["Please integrate {}.", "Compute the integral of {}."]
CONVERT = ["Convert {n} {a} to {b}.", "Convert {n} {a} to {b}", "How many {b} are {n} {a}?", "What is {n} {a} in {b}?", "How much is {n} {a} in {b}?", "Can you convert {n} {a} to {b}?",
           "{n} {a} in {b}", "{n} {a} to {b}", "How many {b} are in {n} {a}?", "Please convert {n} {a} into {b}.", "Change {n} {a} to {b}."]  # fmt: skip
HELD_CONVERT = [
    "What are {n} {a} in {b}?", "Convert {n} {a} into {b}.", "Could you convert {n} {a} to {b}?",
]  # fmt: skip
PRIME = [
    "Is {} prime?", "Is {} a prime number?", "Check if {} is prime.", "Tell me if {} is prime.",
]  # fmt: skip
HELD_PRIME = ["Can you check if {} is prime?"]


def sample(rng: Random, held: bool = False) -> tuple[str, str]:
    """(question, query). Numbers have no held half: wordings have."""
    kind = rng.random()
    if kind < 0.3:
        expr = arithmetic(rng)
        return rng.choice(HELD_ASK if held else ASK).format(expr), expr
    if kind < 0.52:
        expr = equation(rng)
        var = next(c for c in expr if c.isalpha())
        return rng.choice(HELD_SOLVE if held else SOLVE).format(expr, v=var), f"solve {expr}"
    if kind < 0.6:
        expr = function(rng)
        return rng.choice(HELD_DERIVE if held else DERIVE).format(expr), f"derivative of {expr}"
    if kind < 0.67:
        expr = function(rng)
        return rng.choice(HELD_INTEGRATE if held else INTEGRATE).format(expr), f"integral of {expr}"
    if kind < 0.8:
        a, b = rng.sample(rng.choice(UNITS), 2)
        n = num(rng)
        return rng.choice(HELD_CONVERT if held else CONVERT).format(
            n=n, a=a, b=b
        ), f"{n} {a} to {b}"
    if kind < 0.83:
        n = num(rng).replace(".", "")
        return rng.choice(HELD_PRIME if held else PRIME).format(n), f"is {n} prime"
    frames = HELD_ASK if held else ASK
    if kind < 0.9:
        topic = f"{rng.choice(NP)} of {num(rng)}"
        if rng.random() < 0.15:
            topic += " degrees"
    elif kind < 0.94:
        topic = f"{num(rng)}% of {num(rng)}"
        return rng.choice(frames).format(topic), topic
    elif kind < 0.97:
        topic = (
            f"{rng.choice(['area', 'volume', 'perimeter'])} of a {rng.choice(SHAPES)} {num(rng)}"
        )
    else:
        topic = f"{rng.choice(['greatest common divisor', 'least common multiple', 'sum', 'average', 'product'])} of {num(rng)} and {num(rng)}"
    return rng.choice(frames).format("the " + topic), topic
