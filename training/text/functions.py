"""Random functions in OpenAI's tool form, and requests that one of them serves.

A function is a verb and a noun with one to three parameters; a request names the noun and the values.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501, SIM905
# fmt: off

from random import Random

from training.text import kinds as k
from training.text.names import draw, is_held
from training.text.values import number

QUERY = {
    "get": ["Get", "What is", "What is", "Give me", "I need", "Tell me", "What's", "When is", "How is", "Please get", "I want to know", "Can you get"], "find": ["Find", "Can you find", "I am looking for", "What is", "Where is"], "fetch": ["Fetch", "Get", "What is"],
    "show": ["Show", "Show me", "I want to see"], "check": ["Check", "Can you check", "What is"], "read": ["Read", "Read me"],
    "look_up": ["Look up", "Can you look up", "What is"], "search": ["Search for", "Find"], "list": ["List", "Show me"],
    "calculate": ["Calculate", "What is", "Work out"], "compute": ["Compute", "Calculate"], "lookup": ["Look up", "What is"],
}  # fmt: skip
ACTION = """
book create delete update send play start stop open close order set add remove cancel save print
buy sell rent move change share rate plan write track turn reserve
""".split()
ASK_ACTION = [
    "{V}", "Please {v}", "Can you {v}", "I want to {v}", "Could you {v}", "I would like to {v}",
    "You should {v}",
]  # fmt: skip
HELD_ASK_ACTION = ["I'd like to {v}", "Would you {v}", "I need to {v}"]
ANY_QUERY = ["What is", "Give me", "I need", "Tell me", "Get", "Find", "Show me", "Can you find", "Can you give me", "Could you get", "Please tell me", "I want to see", "Find me", "Please find", "I want to know", "Would you get"]
HELD_QUERY = ["Could you find", "Please give me", "I want", "Can you tell me"]
SUBJECTS = """
weather temperature forecast population time news score match flight hotel restaurant recipe
stock rate route distance traffic ticket table room taxi meeting event reminder alarm timer
message email note task song playlist video picture photo contact account invoice payment order
parcel delivery product review book article word translation file document report balance loan
tax salary user profile appointment doctor medicine calendar schedule menu light heating camera
door device train_times opening_hours stock_price exchange_rate flight_info current_weather
next_flight bus_times air_quality sea_level next_train phone_number weather_forecast
sports_score shopping_list train_ticket
""".split()
ADJECTIVES = """
current next last daily total new old local public open free best average
""".split()
TAILS = ["info", "status", "details", "list", "history"]
LANGUAGES = """
English German French Spanish Italian Portuguese Hindi Thai Swedish Norwegian Danish Finnish
Polish Dutch Japanese Korean Turkish Greek Arabic Russian
""".split()
COLOURS = """
red green blue yellow orange purple pink brown black white grey
""".split()


# fmt: on
def _date(rng: Random) -> str:
    day, month = rng.randint(1, 28), rng.randint(1, 12)
    style = rng.random()
    if style < 0.4:
        return f"{rng.randint(2024, 2028)}-{month:02d}-{day:02d}"
    return f"{day} {k.MONTHS[month - 1]}" if style < 0.7 else rng.choice(k.WEEKDAYS)


# name choices, JSON type, description, value, how a request mentions it. `{k}` is the parameter's own name.
PARAMETERS = [
    (["city", "city", "location", "town", "place", "area", "city_name"], "string", ["The city", "The name of the city", "A city, e.g. Paris", "The place", "The city and state, e.g. San Francisco, CA", "City name"], lambda r, h: draw("city", r, h), ["in {}", "in {}", "for {}", "near {}", "at {}"]),
    (["country", "nation"], "string", ["The country", "The name of the country"], lambda r, h: draw("country", r, h), ["in {}", "of {}", "for {}"]),
    (["name", "person", "customer", "author", "artist", "user_name", "owner"], "string", ["The name", "Name of the person", "Who it is"], lambda r, h: draw("person", r, h), ["for {}", "by {}", "of {}", "from {}"]),
    (["to", "recipient", "receiver"], "string", ["Who gets it", "The recipient"], lambda r, h: draw("person", r, h), ["to {}"]),
    (["date", "day", "start_date"], "string", ["The date", "The day"], lambda r, h: _date(r), ["on {}", "for {}"]),
    (["company", "brand", "symbol", "firm"], "string", ["The company", "Name of the company"], lambda r, h: draw("company", r, h), ["of {}", "for {}", "from {}"]),
    (["team", "club"], "string", ["The team", "Name of the team"], lambda r, h: draw("team", r, h), ["of {}", "for {}"]),
    (["title", "book_title", "song", "film"], "string", ["The title", "Title of the work"], lambda r, h: draw("work", r, h), ["of {}", "called {}", "for {}"]),
    (["item", "product", "object"], "string", ["The item", "What it is about"], lambda r, h: draw("thing", r, h), ["for a {}", "of a {}", "with a {}"]),
    (["language", "target_language"], "string", ["The language"], lambda r, h: r.choice(LANGUAGES), ["in {}", "into {}"]),
    (["colour", "color"], "string", ["The colour"], lambda r, h: r.choice(COLOURS), ["in {}", "with colour {}"]),
    (["people", "guests", "persons"], "integer", ["How many people", "Number of guests"], lambda r, h: r.randint(2, 12), ["for {} people", "with {} guests", "for {} persons"]),
    (["days", "num_days"], "integer", ["How many days", "Number of days"], lambda r, h: r.randint(2, 30), ["for {} days", "for the next {} days"]),
    (["hours", "minutes", "nights", "weeks"], "integer", ["How long", "The duration"], lambda r, h: r.randint(2, 90), ["for {} {k}"]),
    (["amount", "quantity", "count", "number"], "integer", ["The amount", "How many"], lambda r, h: int(number(r, 1, 9999)), ["with {k} {}", "for {}", "of {}"]),
    (["price", "max_price", "budget"], "number", ["The price limit", "The highest price"], lambda r, h: int(number(r, 5, 9999)), ["under {}", "below {}", "for less than {}"]),
    (["unit", "units"], "string", ["The unit", "The temperature unit"], lambda r, h: r.choice(["celsius", "fahrenheit"]), ["in {}", "in {}"]),
    (["id", "order_id", "code", "user_id"], "string", ["The id", "The code"], lambda r, h: "".join(r.choice("ABCDEFGHKLMNPRSTUVWXYZ0123456789") for _ in range(r.randint(3, 5))), ["with {k} {}", "number {}"]),
]  # fmt: skip
PAIRS = [
    (["origin", "from_city", "start", "origin_city", "departure"], ["destination", "to_city", "end", "destination_city", "arrival"], "city", ["from {} to {}", "from {} to {}", "between {} and {}"]),
    (["home_team", "team_a", "first_team"], ["away_team", "team_b", "second_team"], "team", ["between {} and {}", "for {} against {}", "of {} and {}"]),
    (["from_currency", "base"], ["to_currency", "target"], "code", ["from {} to {}", "between {} and {}"]),
]  # fmt: skip


class Function:
    def __init__(self, rng: Random, held: bool, avoid: set[str]):
        while True:
            pick = rng.random()
            noun = rng.choice(SUBJECTS) if pick < 0.6 else rng.choice(k.NOUNS)
            if "_" not in noun:
                pick = rng.random()
                noun = (
                    f"{rng.choice(ADJECTIVES)}_{noun}"
                    if pick < 0.15
                    else f"{noun}_{rng.choice(TAILS)}"
                    if pick < 0.25
                    else noun
                )
            self.action = rng.random() < 0.3
            self.verb = (
                rng.choice(ACTION) if self.action else rng.choice(list(QUERY) + ["get"] * 10)
            )
            self.name = f"{self.verb}_{noun}" if rng.random() < 0.9 else noun
            self.words = set(noun.split("_"))
            if is_held(self.name) == held and not self.words & avoid:
                break
        self.noun = noun.replace("_", " ")
        self.parameters: list[
            tuple[str, str, str, list[str], object]
        ] = []  # name, type, description, enum, value source
        self.mentions: list[tuple[list[str], str]] = []  # which parameters, how mentioned
        self._parameters(rng)

    def _parameters(self, rng: Random) -> None:
        if rng.random() < 0.22:
            first, second, kind, ways = rng.choice(PAIRS)
            i = rng.randrange(min(len(first), len(second)))
            value = (
                (lambda r, h: r.choice(k.CODES))
                if kind == "code"
                else (lambda r, h: draw(kind, r, h))
            )
            for name in (first[i], second[i]):
                self.parameters.append((name, "string", f"The {name.replace('_', ' ')}", [], value))
            self.mentions.append(([first[i], second[i]], rng.choice(ways)))
        count = rng.choices([1, 2, 3], [0.55, 0.35, 0.1])[0]
        for names, kind, descriptions, value, ways in rng.sample(PARAMETERS, 6):
            if len(self.parameters) >= count:
                break
            prepositions = {way.split()[0] for _, way in self.mentions}
            usable = [w for w in ways if w.split()[0] not in prepositions]
            if usable:
                name = rng.choice(names)
                self.parameters.append((name, kind, rng.choice(descriptions), [], value))
                self.mentions.append(
                    ([name], rng.choice(usable).replace("{k}", name.replace("_", " ")))
                )

    def schema(self, rng: Random, style: int, optional: set[str]) -> dict:
        """The tool as clients send it; `style` varies what is optional in the form."""
        properties = {}
        for name, kind, description, _, _ in self.parameters:
            properties[name] = (
                {"type": kind} if style % 3 == 2 else {"type": kind, "description": description}
            )
            if name in ("unit", "units"):
                properties[name]["enum"] = ["celsius", "fahrenheit"]
        parameters = {"type": "object", "properties": properties}
        if style % 5 != 4:
            parameters["required"] = [p[0] for p in self.parameters if p[0] not in optional]
        first = self.parameters[0][0].replace("_", " ")
        verb = self.verb.replace("_", " ").capitalize()
        ways = [
            f"{verb} the {self.noun}",
            f"{verb} the {self.noun} for a {first}",
            f"{verb} the {self.noun} by {first}",
            f"{verb} a {self.noun}",
            f"The {self.noun}",
            f"Returns the {self.noun}",
            f"Returns information about the {self.noun}",
        ]
        description = rng.choice(ways) + rng.choice(["", ".", ""])
        return {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": parameters},
        }

    def request(
        self, rng: Random, held_names: bool, held_words: bool, skip: set[str]
    ) -> tuple[str, dict]:
        """A sentence that asks for this function, and the arguments it gives, in the schema's order."""
        values: dict[str, object] = {}
        for name, _, _, _, value in self.parameters:
            for _ in range(5):
                v = value(rng, held_names)
                if v not in values.values():
                    break
            values[name] = v
        parts = [
            way.format(*[values[n] for n in names])
            for names, way in self.mentions
            if not skip.issuperset(names)
        ]
        if rng.random() < 0.3:
            rng.shuffle(parts)
        if self.action:
            verb = self.verb.replace("_", " ")
            ask = rng.choice(HELD_ASK_ACTION if held_words else ASK_ACTION).format(
                V=verb.capitalize(), v=verb
            )
            text = f"{ask} {rng.choice(['the', 'a', 'my', 'the'])} {self.noun}"
        else:
            usual = ANY_QUERY if rng.random() < 0.6 else QUERY[self.verb]
            ask = rng.choice(HELD_QUERY if held_words else usual)
            text = f"{ask} the {self.noun}"
        text = " ".join([text, *parts])
        question = text.split()[0] in ("What", "Can", "Could", "Would")
        text += "?" if question else rng.choice([".", ".", ""])
        return text, {p[0]: values[p[0]] for p in self.parameters if p[0] not in skip}


def search_tool(rng: Random) -> tuple[dict, dict]:
    """The built-in tools offered as functions, as the 3.2 template does: (brave_search, wolfram_alpha) schemas."""
    style = rng.random()
    parameter = (
        {"type": "string"}
        if style < 0.3
        else {
            "type": "string",
            "description": rng.choice(["What to search for", "The query", "The search query"]),
        }
    )
    both = []
    for name, ways in (
        (
            "brave_search",
            ["Search the web", "Search the web.", "Search the web with Brave", "Web search"],
        ),
        (
            "wolfram_alpha",
            [
                "Compute an answer",
                "Answer a question of mathematics",
                "Calculate with Wolfram Alpha",
                "Mathematics and units",
            ],
        ),
    ):
        parameters = {"type": "object", "properties": {"query": parameter}, "required": ["query"]}
        both.append(
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": rng.choice(ways),
                    "parameters": parameters,
                },
            }
        )
    return both[0], both[1]
