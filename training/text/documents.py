"""The tasks: each function makes one document whose last message is the answer to learn.

`held_names` and `held_words` put names and wordings on the side that training never sees.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501, SIM905

import json
from random import Random

from training.text import chat, maths
from training.text import kinds as k
from training.text.functions import Function, search_tool
from training.text.names import draw
from training.text.prompt import ANSWER, CONTEXT, Document, start, tool_result, with_functions
from training.text.values import Scene, number

ANY_WORDS = sorted({
    word.strip(".,") for kind in k.WEB for sentence in kind.sentences for word in sentence.split() if "{" not in word
} | {*k.SKY, *k.SPANS, *k.WEEKDAYS})  # fmt: skip
QUERY_WORDS = """cheap best good new old near free open late early big small how why what when weather flights hotels tickets train bus price news
tomorrow today first last next long short fast slow easy hard red green blue black white cheapest rules list photos pictures reviews""".split()
LINKS = ["in", "for", "of", "near", "to", "from", "at", "by", "with", "about"]
KEYS = """temperature condition humidity wind_speed price status forecast airline flight_number date time total balance address city country
degrees currency seats available rating phone_number arrival departure result answer message weather population distance duration score team name
age title author size weight colour speed height depth length budget record code number rate rent tax fee deadline platform gate wind rain pressure
level stock amount person company language capital owner doctor room table bus train street""".split()
BUILTIN = ["brave_search", "wolfram_alpha"]


def _form(rng: Random) -> str:
    return rng.choices(["meta", "hf31", "plain", "hf32"], [0.6, 0.2, 0.1, 0.1])[0]


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


def web_question(
    rng: Random, held_names: bool, held_words: bool, answerable: bool = False
) -> tuple[str, str, k.Kind, Scene]:
    """(question, query, kind, scene) of a random kind."""
    while True:
        # A fifth of all questions is about the weather, as people are.
        kind = rng.choice(k.WEB[: k.WEATHER]) if rng.random() < 0.17 else rng.choice(k.WEB)
        if (answerable and not kind.sentences) or (
            held_words and not (kind.held_questions or kind.phrases)
        ):
            continue
        break
    scene = Scene(rng, held_names)
    if held_words:
        choices = [(question, None) for question in kind.held_questions]
        choices += [("What is {}?", phrase) for phrase in kind.held_phrases]
        if kind.phrases and (not choices or rng.random() < 0.4):
            choices = [(rng.choice(k.HELD_FRAMES), rng.choice(kind.phrases))]
        pick, phrase = rng.choice(choices)
        template = pick.format(phrase) if phrase else pick
    elif kind.phrases and (not kind.questions or rng.random() < 0.5):
        template = rng.choice(k.FRAMES).format(rng.choice(kind.phrases))
    else:
        template = rng.choice(kind.questions)
        extra = rng.random()
        if extra < 0.06:
            template = (
                rng.choice(["Hi, ", "Hello, ", "Please tell me, ", "Can you tell me: ", "Hey, "])
                + _lower_first(template)
                if template[0] != "{"
                else template
            )
        elif extra < 0.1:
            template = _lower_first(template).rstrip("?.") if template[0] != "{" else template
    question, query = scene(template), scene(kind.query)
    if question[0].islower() and template[0] == "{" and rng.random() < 0.5:
        question = question[0].upper() + question[1:] if question[0].isalpha() else question
    return question, query, kind, scene


def verbatim(rng: Random, held_names: bool, held_words: bool) -> tuple[str, str]:
    """A plain request to search: the words after it are the query."""
    kind = rng.choice(["city", "person", "company", "thing", "place", "work", "country"])
    name = draw(kind, rng, held_names)
    noun, word, link = rng.choice(k.NOUNS), rng.choice(QUERY_WORDS), rng.choice(LINKS)
    query = rng.choice([
        name, name, f"{name} {noun}", f"{name} {word}", f"{noun} {link} {name}", f"{word} {noun} {link} {name}",
        f"{word} {link} {name}", f"{word} {noun} {name}", f"{name} and {draw(kind, rng, held_names)}",
    ])  # fmt: skip
    return rng.choice(k.HELD_VERBATIM if held_words else k.VERBATIM).format(query), query


def call(tool: str, query: str) -> str:
    return f'{tool}.call(query="{query}")'


def _question(
    rng: Random, held_names: bool, held_words: bool, web: float = 0.68
) -> tuple[str, str]:
    pick = rng.random()
    if pick < web:
        question, query, _, _ = web_question(rng, held_names, held_words)
        return question, call("brave_search", query)
    if pick < web + 0.05:
        question, query = verbatim(rng, held_names, held_words)
        return question, call("brave_search", query)
    question, query = maths.sample(rng, held_words)
    return question, call("wolfram_alpha", query)


def builtin_call(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    doc = start(
        rng,
        _form(rng),
        BUILTIN if rng.random() < 0.9 else BUILTIN[::-1],
        False,
        "You are a helpful assistant" if rng.random() < 0.4 else None,
    )
    before = rng.random()
    if before < 0.07:
        _small_talk(doc, rng)
    elif before < 0.11:
        _search_told(doc, rng, held_names, held_words, encoded=rng.random() < 0.7)
    for _ in range(1 if single else rng.choices([1, 2, 3, 4], [0.4, 0.25, 0.2, 0.15])[0]):
        question, answer = _question(rng, held_names, held_words)
        doc.message("user", (question, CONTEXT))
        doc.answer(answer, call=True)
    return doc


def _small_talk(doc: Document, rng: Random) -> None:
    said, reply = rng.choice(chat.PAIRS)
    doc.message("user", (said, CONTEXT))
    doc.answer(reply, weight=CONTEXT)


# --- sentences that answer, among sentences that do not ---------------------------------------


def _generic_fact(rng: Random, held: bool) -> tuple[str, str, str, str]:
    """(question, sentence, subject, noun) of a fact of no known kind: 'The X of Y is Z.'"""
    noun = rng.choice(k.NOUNS)
    subject = draw(rng.choice(["city", "company", "person", "place", "team"]), rng, held)
    value = rng.choice(
        [
            draw(rng.choice(["city", "person", "company"]), rng, held),
            number(rng),
            rng.choice(k.NOUNS),
            rng.choice(["red", "green", "blue", "yellow", "black", "white"]),
        ]
    )
    return (
        f"What is the {noun} of {subject}?",
        f"The {noun} of {subject} is {value}.",
        subject,
        noun,
    )


def evidence(
    rng: Random, held_names: bool, held_words: bool, few: bool = False
) -> tuple[str, str, str, list[str], str, list[tuple[str, str]]]:
    """(question, query, answer, distractors, what most of it is about, further questions that some
    of the distractors answer)."""
    further: list[tuple[str, str]] = []
    if rng.random() < 0.15:
        question, answer, subject, noun = _generic_fact(rng, held_names)
        others = []
        for _ in range(rng.randint(1, 4)):
            other = rng.choice(k.NOUNS)
            if other != noun and not any(f" {other} " in o for o in others):
                others.append(
                    f"The {other} of {subject} is {rng.choice([number(rng), draw('city', rng, held_names), rng.choice(k.NOUNS)])}."
                )
                further.append((f"What is the {other} of {subject}?", others[-1]))
        return question, f"{subject} {noun}", answer, others, subject, further
    question, query, kind, scene = web_question(rng, held_names, held_words, answerable=True)
    answer = _sentence(scene(rng.choice(kind.sentences)))
    entity = kind.query[kind.query.index("{") + 1 : kind.query.index("}")].rstrip("0123456789")
    same = [
        o
        for o in k.WEB
        if o.sentences
        and o.query != kind.query
        and "{" + entity + "}" in o.query
        and "weather" not in o.query
        and "temperature" not in o.query
    ]
    others = []
    for _ in range(rng.randint(0, 2 if few else 4)):
        if same and rng.random() < 0.65:
            other = rng.choice(same)
            forgotten = ("n", "big", "d", "dec", "year", "noun", "currency", "weekday", "h", "day")
            another = scene.fork(*forgotten, "month", "city" if entity == "person" else "person")
            others.append(_sentence(another(rng.choice(other.sentences))))
            asked = other.held_questions if held_words else other.questions
            if asked:
                further.append((another(rng.choice(asked)), others[-1]))
            same = [o for o in same if o is not other]
        else:
            fresh = Scene(rng, held_names)
            sentence = rng.choice(
                kind.sentences
                if rng.random() < 0.6
                else rng.choice([o for o in k.WEB if o.sentences]).sentences
            )
            others.append(fresh(sentence))
    others = [o for o in map(_sentence, others) if o != answer]
    further = [(q, a) for q, a in further if q != question and a in others]
    return question, query, answer, others, scene.value(entity), further


def _sentence(text: str) -> str:
    return "T" + text[1:] if text.startswith("the ") else text


def _mixed(rng: Random, answer: str, others: list[str]) -> list[str]:
    sentences = [*others]
    sentences.insert(rng.randint(0, len(sentences)), answer)
    return sentences


def tool_answer(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    """Question, built-in call, result of the search or the computation, answer."""
    form = _form(rng)
    doc = start(
        rng, form, BUILTIN, False, "You are a helpful assistant" if rng.random() < 0.4 else None
    )
    encoded = form.startswith("hf") or rng.random() < 0.4
    if rng.random() < 0.15:
        question, query = maths.sample(rng, held_words)
        doc.message("user", (question, CONTEXT))
        _called(doc, rng, "wolfram_alpha", query)
        value = rng.choice(
            [
                number(rng, 1, 99999),
                f"{number(rng, 0, 999)}.{number(rng, 1, 999)}",
                maths.polynomial(rng),
                f"x = {rng.randint(-99, 99)}",
            ]
        )
        result = value if rng.random() < 0.5 else json.dumps({"query": query, "result": value})
        tool_result(doc, rng, result, encoded)
        doc.answer(f"The result is {value}.")
        return doc
    _search_told(doc, rng, held_names, held_words, encoded)
    return doc


def fragment(rng: Random, held: bool) -> str:
    """A terse result that is no sentence: it is told as it stands."""
    parts = []
    for _ in range(rng.randint(1, 4)):
        value = rng.choice(
            [
                number(rng),
                f"{number(rng)} {rng.choice([*k.CURRENCY, 'degrees', 'km', 'm/s', '%'])}",
                rng.choice(k.SKY),
                draw(rng.choice(["city", "person", "company"]), rng, held),
                rng.choice(k.NOUNS),
            ]
        )
        parts.append(f"{rng.choice(KEYS)}: {value}" if rng.random() < 0.3 else value)
    head = (
        f"{draw(rng.choice(['city', 'company', 'team']), rng, held)}: "
        if rng.random() < 0.4
        else ""
    )
    return head + rng.choice([", ", ", ", "; ", " "]).join(parts)


def any_sentence(rng: Random, held: bool) -> str:
    """Words in no grammar, so that telling a result is copying whatever it says."""
    words = []
    for _ in range(rng.randint(3, 11)):
        pick = rng.random()
        if pick < 0.55:
            words.append(rng.choice(ANY_WORDS))
        elif pick < 0.75:
            words.append(rng.choice(k.NOUNS))
        elif pick < 0.9:
            words.append(draw(rng.choice(["city", "person", "company", "thing"]), rng, held))
        else:
            words.append(number(rng) + rng.choice(["", "", ",", " degrees,"]))
    return words[0][0].upper() + " ".join(words)[1:] + rng.choice([".", ".", ".", "!", ""])


def _called(doc: Document, rng: Random, tool: str, query: str) -> None:
    """A built-in call in the history, as it comes back: the tag as a token (Meta), as a function
    call (the 3.2 template), or as text that the client kept of the answer."""
    way = rng.random()
    if way < 0.4:
        doc.answer(call(tool, query), call=True)
    elif way < 0.75:
        doc.answer(
            json.dumps({"name": tool, "parameters": {"query": query}}, ensure_ascii=False),
            weight=0.0,
        )
    else:
        doc.answer("<|python_tag|>" + call(tool, query), weight=0.0)


def _search_told(
    doc: Document, rng: Random, held_names: bool, held_words: bool, encoded: bool
) -> None:
    """A question, the search for it, what was found, and the answer from that."""
    question, query, answer, others, _, _ = evidence(rng, held_names, held_words, few=True)
    doc.message("user", (question, CONTEXT))
    _called(doc, rng, "brave_search", query)
    sentences = _mixed(rng, answer, others)
    shape = rng.random()
    if rng.random() < 0.1:
        answer = result = fragment(rng, held_names)
    elif shape < 0.45:
        result = rng.choice([" ", "\n", " "]).join(sentences)
    elif shape < 0.7:
        result = json.dumps({"query": query, "results": sentences}, ensure_ascii=False)
    elif shape < 0.85:
        found = sentences[:3] if answer in sentences[:3] else [answer]
        titles = [draw(rng.choice(["place", "company", "work"]), rng, held_names) for _ in found]
        result = json.dumps(
            [{"title": t, "content": s} for t, s in zip(titles, found, strict=True)],
            ensure_ascii=False,
        )
    else:
        result = json.dumps({"answer": answer}, ensure_ascii=False)
    tool_result(doc, rng, result, encoded)
    doc.answer(answer)


def passage(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    """A text and a question about it; a tenth of the questions have no answer in it."""
    question, _, answer, others, subject, further = evidence(rng, held_names, held_words)
    if others and rng.random() < 0.12:
        sentences, reply = others, chat.NOT_IN_TEXT
        sentences = [s for s in sentences if s != answer]
    else:
        sentences, reply = _mixed(rng, answer, others), answer
        if (
            len(sentences) > 1
            and rng.random() < 0.35
            and all(s.startswith(subject + " ") for s in sentences)
        ):
            # A text about one subject goes on with a pronoun.
            pronoun = rng.choice(["It", "It", "He", "She"])
            short = [sentences[0], *(pronoun + s[len(subject) :] for s in sentences[1:])]
            shown = dict(zip(sentences, short, strict=True))
            reply, sentences = shown[answer], short
            further = [(q, shown[a]) for q, a in further]
    text = rng.choice([" ", " ", " ", "\n"]).join(sentences)
    layout = rng.random()
    form = rng.choices(["hf32", "none", "plain", "meta"], [0.5, 0.2, 0.15, 0.15])[0]
    if layout < 0.12 and form in ("hf32", "plain"):
        intro = rng.choice(
            ["Answer from this text:\n\n", "Use this text to answer.\n\n", "Context:\n", ""]
        )
        doc = start(rng, form, [], False, intro + text)
        doc.message("user", (question, CONTEXT))
    else:
        doc = start(rng, form, [], False)
        if rng.random() < 0.05:
            _small_talk(doc, rng)
        content = rng.choice([
            f"{text}\n\n{question}", f"{text}\n\n{question}", f"{text}\n{question}", f"{text} {question}", f"Context: {text}\n\nQuestion: {question}", f"Context:\n{text}\n\nQuestion: {question}",
            f"{question}\n\n{text}", f"Text: {text}\nQuestion: {question}", f"Read this text: {text}\n\n{question}", f"Answer from the text.\n\n{text}\n\n{question}",
            f"Answer the question from the text.\n\nText: {text}\n\nQuestion: {question}", f'"{text}"\n\n{question}', f"Passage: {text}\n\n{question}",
        ])  # fmt: skip
        doc.message("user", (content, CONTEXT))
    doc.answer(reply)
    if not single and rng.random() < 0.6:
        for question, answer in further[:3]:
            doc.message("user", (question, CONTEXT))
            doc.answer(answer)
    return doc


# --- custom functions --------------------------------------------------------------------------


def _functions(
    rng: Random, held: bool, distract: bool = True
) -> tuple[list[Function], list[dict], set[str]]:
    """Functions, the wanted one first; their schemas in random order; what it leaves unmentioned."""
    avoid: set[str] = set()
    wanted = Function(rng, held, avoid)
    everything = [wanted]
    for _ in range(
        rng.choices([0, 1, 2] if distract else [0], [0.47, 0.4, 0.13] if distract else [1])[0]
    ):
        avoid |= everything[-1].words
        everything.append(Function(rng, held, avoid))
    style = rng.randrange(15)
    skip: set[str] = set()
    if len(wanted.mentions) > 1 and rng.random() < 0.15:
        skip = set(wanted.mentions[-1][0])
    schemas = [f.schema(rng, style, skip if f is wanted else set()) for f in everything]
    rng.shuffle(schemas)
    return everything, schemas, skip


def function_call(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    doc = start(
        rng, rng.choices(["hf32", "hf31", "meta", "plain"], [0.8, 0.1, 0.05, 0.05])[0], [], True
    )
    if rng.random() < 0.08:
        _builtin_as_function(doc, rng, held_names, held_words)
        return doc
    functions, schemas, skip = _functions(rng, held_names)
    for turn in range(1 if single else rng.choices([1, 2, 3, 4], [0.3, 0.25, 0.25, 0.2])[0]):
        wanted = functions[0] if turn == 0 else rng.choice(functions)
        given = skip if wanted is functions[0] and rng.random() < 0.5 else set()
        request, arguments = wanted.request(
            rng, held_names, held_words, skip if turn == 0 else given
        )
        if turn == 0:
            with_functions(doc, rng, schemas, request)
        else:
            doc.message("user", (request, CONTEXT))
        doc.answer(json.dumps({"name": wanted.name, "parameters": arguments}, ensure_ascii=False))
    return doc


def _builtin_as_function(doc: Document, rng: Random, held_names: bool, held_words: bool) -> None:
    search, compute = search_tool(rng)
    if rng.random() < 0.6:
        question, query, _, _ = web_question(rng, held_names, held_words)
        schemas, name = [search] if rng.random() < 0.4 else [search, compute], "brave_search"
    else:
        question, query = maths.sample(rng, held_words)
        schemas, name = [compute] if rng.random() < 0.4 else [search, compute], "wolfram_alpha"
    rng.shuffle(schemas)
    with_functions(doc, rng, schemas, question)
    doc.answer(json.dumps({"name": name, "parameters": {"query": query}}, ensure_ascii=False))


def function_answer(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    """A custom function's result, as an object or as text, told in a sentence."""
    (wanted, *_), schemas, skip = _functions(rng, held_names, distract=rng.random() < 0.2)
    request, arguments = wanted.request(rng, held_names, held_words, skip)
    doc = start(rng, "hf32", [], True)
    with_functions(
        doc, rng, schemas[:1] if schemas[0]["function"]["name"] == wanted.name else schemas, request
    )
    doc.answer(
        json.dumps({"name": wanted.name, "parameters": arguments}, ensure_ascii=False),
        weight=CONTEXT,
    )
    encoded = rng.random() < 0.85
    if rng.random() < 0.5:
        keys = rng.sample([n for n in KEYS if n not in wanted.noun], rng.randint(1, 3))
        if rng.random() < 0.4:
            keys[0] = wanted.noun.replace(" ", "_")
        values = [
            rng.choice(
                [
                    int(number(rng)),
                    draw(rng.choice(["city", "person", "company"]), rng, held_names),
                    rng.choice(k.SKY),
                    int(number(rng, 1, 99)),
                ]
            )
            for _ in keys
        ]
        tool_result(
            doc, rng, json.dumps(dict(zip(keys, values, strict=True)), ensure_ascii=False), encoded
        )
        said = [
            f"the {key.replace('_', ' ')} is {value}"
            for key, value in zip(keys, values, strict=True)
        ]
        text = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
        doc.answer(text[0].upper() + text[1:] + ".")
    else:
        way = rng.random()
        if way < 0.35:
            answer = fragment(rng, held_names)
        elif way < 0.6:
            answer = any_sentence(rng, held_names)
        else:
            answer = evidence(rng, held_names, False)[2]
        tool_result(doc, rng, answer, encoded)
        doc.answer(answer)
    return doc


# --- talk, limits, copying -----------------------------------------------------------------------


def talk(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    """Greetings, thanks, what it is, and what it cannot do."""
    pick = rng.random()
    pairs = chat.HELD_PAIRS if held_words else chat.PAIRS
    if pick < 0.55:
        tools = BUILTIN if rng.random() < 0.5 else []
        doc = start(
            rng,
            _form(rng) if tools else rng.choice(["hf32", "none", "plain", "meta"]),
            tools,
            False,
        )
        said, reply = rng.choice(pairs)
        if said.isascii() and rng.random() < 0.15:
            said = said.lower().rstrip(".!")
    elif pick < 0.9:
        doc = start(rng, rng.choice(["hf32", "hf32", "none", "plain", "meta"]), [], False)
        said, _ = _question(rng, held_names, held_words)
        reply = chat.NO_TOOLS
    else:
        _, schemas, _ = _functions(rng, held_names)
        doc = start(rng, "hf32", [], True)
        if rng.random() < 0.6:
            stray = Function(
                rng,
                held_names,
                set().union(*[set(s["function"]["name"].split("_")) for s in schemas]),
            )
            said, _ = stray.request(rng, held_names, held_words, set())
            reply = chat.NO_FUNCTION
        else:
            said, reply = rng.choice(pairs)
        with_functions(doc, rng, schemas, said)
        doc.answer(reply)
        return doc
    if reply in (chat.SELF, chat.LIMITS, chat.NO_TOOLS) and rng.random() < 0.15:
        said = rng.choice(["Hello, ", "Hi, ", "Hi! ", "Hello! ", "Please, "]) + _lower_first(said)
    doc.message("user", (said, CONTEXT))
    doc.answer(reply)
    if not single and rng.random() < 0.5 and pick < 0.55:
        said, reply = rng.choice(pairs)
        doc.message("user", (said, CONTEXT))
        doc.answer(reply)
    return doc


def recital(rng: Random, held: bool) -> Document:
    """Sentences of one shape, told again in another order: which one is being told must be kept in
    mind where their middles are the same."""
    noun, subject = rng.choice(k.NOUNS), draw(rng.choice(["city", "company", "person"]), rng, held)
    kind = rng.choice([kind for kind in k.WEB if kind.sentences])
    template = rng.choice(kind.sentences)
    shape = rng.random()
    sentences: list[str] = []
    for _ in range(rng.randint(3, 6)):
        value = rng.choice(
            [number(rng), draw(rng.choice(["city", "person"]), rng, held), rng.choice(k.NOUNS)]
        )
        if shape < 0.3:
            sentence = f"The {rng.choice(k.NOUNS)} of {subject} is {value}."
        elif shape < 0.5:
            sentence = f"The {noun} of {draw(rng.choice(['city', 'company', 'person']), rng, held)} is {value}."
        else:
            sentence = _sentence(Scene(rng, held)(template))
        sentences.append(sentence)
    doc = Document()
    doc.special("begin_of_text")
    between = rng.choice([" ", "\n"])
    doc.text(between.join(sentences) + between, 0.0)
    for sentence in rng.sample(sentences, len(sentences)):
        doc.text(sentence + between, ANSWER)
    doc.special("end_of_text")
    return doc


def copying(
    rng: Random, held_names: bool = False, held_words: bool = False, single: bool = False
) -> Document:
    """Names and words repeated in new surroundings: the skill under every other task."""
    if rng.random() < 0.65:
        return recital(rng, held_names)
    doc = Document()
    doc.special("begin_of_text")
    names = [
        draw(
            rng.choice(["city", "person", "company", "thing", "work", "place", "team", "country"]),
            rng,
            held_names,
            real=0.15,
        )
        for _ in range(rng.randint(3, 8))
    ]
    names += [
        number(rng, 1, 99999) if rng.random() < 0.5 else maths.polynomial(rng)
        for _ in range(rng.randint(0, 2))
    ]
    rng.shuffle(names)
    doc.text(rng.choice([", ", " ", "\n", " and "]).join(names), 0.0)
    for _ in range(rng.randint(2, 5)):
        again = rng.sample(names, rng.randint(1, len(names)))
        left, right = rng.choice(
            [
                ('"', '"'),
                (" ", "."),
                ('="', '")'),
                (' "', '",'),
                ("(", ")"),
                (" ", ","),
                ("\n", "\n"),
                (" the ", " of"),
            ]
        )
        for name in again:
            doc.text(left + name + right, ANSWER)
    doc.special("end_of_text")
    return doc


TASKS = {
    "call": builtin_call, "function": function_call, "result": tool_answer, "function_result": function_answer,
    "passage": passage, "talk": talk, "copy": copying,
}  # fmt: skip


def sample(
    task: str,
    rng: Random,
    held_names: bool = False,
    held_words: bool = False,
    single: bool = False,
) -> Document:
    """A document of a task. Unless `single`, some go on with more questions: more answers to learn
    from for the price of one prompt."""
    doc = TASKS[task](rng, held_names, held_words, single)
    doc.task = task
    return doc
