"""Names that documents speak of: real ones and invented ones, split by hash into seen and held out.

Knows nothing of tasks, prompts or tokens. `draw(kind, rng, held)` is the only door: training draws
with held=False, evaluation with held=True, and no name is ever on both sides.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501, SIM905
# fmt: off

import hashlib
from random import Random

CITIES = """
Gothenburg Malmö Uppsala Oslo Bergen Copenhagen Aarhus Helsinki Tampere Reykjavik Berlin Hamburg
Munich Cologne Frankfurt Dresden Leipzig Vienna Salzburg Zurich Geneva Basel Paris Lyon
Marseille Bordeaux Nantes Lille Brussels Antwerp Ghent Amsterdam Rotterdam Utrecht London
Manchester Liverpool Leeds Bristol Edinburgh Glasgow Cardiff Belfast Dublin Cork Galway Madrid
Barcelona Seville Valencia Bilbao Granada Lisbon Porto Rome Milan Naples Turin Florence Venice
Bologna Genoa Palermo Athens Thessaloniki Istanbul Ankara Izmir Sofia Bucharest Belgrade Zagreb
Ljubljana Budapest Bratislava Prague Brno Warsaw Krakow Gdansk Poznan Vilnius Kaunas Riga
Tallinn Minsk Kyiv Lviv Odesa Chisinau Moscow Tbilisi Yerevan Baku Tehran Baghdad Damascus
Beirut Amman Jerusalem Haifa Cairo Alexandria Tunis Algiers Rabat Casablanca Marrakesh Dakar
Accra Lagos Abuja Kano Nairobi Mombasa Kampala Kigali Lusaka Harare Johannesburg Durban Pretoria
Windhoek Maputo Luanda Kinshasa Riyadh Jeddah Dubai Doha Muscat Karachi Lahore Islamabad Kabul
Delhi Mumbai Pune Chennai Bangalore Hyderabad Kolkata Jaipur Ahmedabad Kathmandu Dhaka Colombo
Yangon Bangkok Phuket Hanoi Hue Vientiane Manila Cebu Jakarta Bandung Surabaya Singapore Taipei
Beijing Shanghai Guangzhou Shenzhen Chengdu Wuhan Nanjing Tokyo Osaka Kyoto Nagoya Sapporo
Fukuoka Seoul Busan Incheon Sydney Melbourne Brisbane Perth Adelaide Hobart Darwin Auckland
Wellington Christchurch Toronto Montreal Vancouver Ottawa Calgary Edmonton Winnipeg Halifax
Boston Chicago Houston Dallas Austin Denver Seattle Portland Phoenix Tucson Miami Orlando Tampa
Atlanta Nashville Memphis Detroit Cleveland Pittsburgh Philadelphia Baltimore Washington
Minneapolis Milwaukee Omaha Oakland Sacramento Honolulu Anchorage Havana Kingston Bogota
Medellin Cali Quito Lima Cusco Santiago Valparaiso Montevideo Rosario Recife Salvador Brasilia
Curitiba Caracas Asuncion Tromsø Umeå Lund Örebro Västerås Linköping Kiruna Visby Turku Oulu
Odense Stavanger Trondheim Cambridge Oxford York Bath Graz Linz Innsbruck Bern Lucerne Nice
Toulouse Strasbourg Grenoble Malaga Zaragoza Toledo Coimbra Verona Pisa Siena Bari Split
Dubrovnik
""".split()
CITIES += """New York|San Francisco|Los Angeles|San Diego|Las Vegas|New Orleans|Salt Lake City|Kansas City|Mexico City
Rio de Janeiro|Sao Paulo|Buenos Aires|Cape Town|Hong Kong|Kuala Lumpur|Ho Chi Minh City|Tel Aviv|Abu Dhabi|Addis Ababa
Menlo Park, California|Palo Alto, California|Austin, Texas|Paris, France|Springfield, Illinois|San Jose|Saint Petersburg
Cambridge, Massachusetts|Santa Fe|Quebec City|Den Haag|Gold Coast|Port Louis|San Juan|La Paz|Porto Alegre""".replace("\n", "|").split("|")
COUNTRIES = """
Sweden Norway Denmark Finland Iceland Germany France Spain Portugal Italy Greece Turkey Poland
Austria Hungary Romania Bulgaria Serbia Croatia Slovenia Slovakia Ukraine Estonia Latvia
Lithuania Ireland Scotland Belgium Switzerland Egypt Morocco Tunisia Algeria Nigeria Ghana Kenya
Uganda Tanzania Ethiopia Namibia Botswana Angola India Pakistan Nepal Bangladesh Thailand
Vietnam Laos Cambodia Malaysia Indonesia China Japan Mongolia Australia Canada Mexico Cuba
Jamaica Brazil Argentina Chile Peru Bolivia Ecuador Colombia Venezuela Uruguay Paraguay Israel
Jordan Lebanon Iraq Iran Qatar Oman Georgia Armenia Malta Cyprus Luxembourg Andorra Monaco Fiji
Samoa Tonga Madagascar Mauritius Senegal Mali Chad
""".split()
FIRST = """
Anna Erik Maria Johan Karin Lars Ingrid Nils Astrid Sven Emma Oliver Sofia Lucas Mia Leo Nora
Hugo Clara Felix Ida Oscar Julia Max Lena Paul Hannah Jonas Laura Simon Eva Martin Elena Marco
Giulia Luca Chiara Paolo Carmen Diego Lucia Javier Ana Pedro Ines Miguel Beatriz Rafael Priya
Arjun Meera Rahul Anita Vikram Mei Wei Li Yuki Kenji Hana Haruto Aiko Minh Linh Omar Fatima
Yusuf Layla Amir Zara Kwame Ama Chidi Ngozi Tunde Olga Ivan Natasha Dmitri Marta Piotr Zofia Jan
Katarina Milan Petra Tomas Alice Bob Carol David Grace Henry James John Mary Robert Susan Thomas
William George Barack Angela Greta Ada Alan Albert Isaac Marie Nikola Charles Frida Pablo
Vincent Leonardo Ludwig Wolfgang Johann Magnus
""".split()
LAST = """
Andersson Johansson Karlsson Nilsson Eriksson Larsson Berg Lindgren Lund Holm Hansen Olsen
Jensen Nielsen Virtanen Korhonen Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker
Hoffmann Dupont Martin Bernard Durand Moreau Laurent Garcia Martinez Lopez Sanchez Perez
Fernandez Silva Santos Oliveira Costa Ferreira Rossi Russo Bianchi Romano Ricci Marino Smith
Jones Taylor Brown Wilson Evans Walker Wright Green Baker Clark Lewis Young King Scott Adams
Nowak Kowalski Novak Horvat Popov Ivanov Petrov Sharma Patel Gupta Singh Khan Chen Wang Zhang
Liu Tanaka Suzuki Sato Kim Park Lee Nguyen Tran Okafor Mensah Diallo Haddad Hassan Ali Obama
Merkel Thunberg Lovelace Turing Einstein Newton Curie Tesla Darwin Kahlo Picasso Beethoven
Mozart Bach Carlsen Messi Ronaldo Federer Swift Jackson Lincoln Mandela Gandhi
""".split()
COMPANIES = """
Volvo Ericsson Spotify Saab Scania Electrolux Ikea Klarna Nokia Kone Maersk Lego Novo Equinor
Siemens Bosch Bayer Allianz Adidas Puma Porsche Audi Opel Renault Peugeot Airbus Danone Michelin
Chanel Nestle Roche Novartis Rolex Ferrari Fiat Pirelli Barilla Zara Repsol Iberdrola Philips
Heineken Shell Unilever Vodafone Barclays Tesco Google Apple Microsoft Amazon Meta Netflix
Nvidia Intel Oracle Cisco Boeing Ford Tesla Pfizer Walmart Costco Starbucks Nike Disney Sony
Toyota Honda Nissan Mazda Canon Nikon Nintendo Hitachi Samsung Hyundai Kia Huawei Xiaomi Lenovo
Alibaba Tencent Infosys Wipro Tata Airtel
""".split()
TEAMS = """
Arsenal Chelsea Everton Fulham Burnley Celtic Rangers Juventus Roma Lazio Napoli Atalanta
Sevilla Valencia Villarreal Benfica Porto Ajax Feyenoord Galatasaray Bayern Schalke Dortmund
Lyon Monaco Lens Djurgården Hammarby Häcken Elfsborg Brann Rosenborg Lakers Celtics Bulls
Yankees Dodgers Packers Cowboys Steelers Canadiens Bruins Flames Oilers
""".split()
TEAMS += [
    "Real Madrid", "Manchester United", "Manchester City", "Inter Milan", "Boca Juniors",
    "River Plate", "Golden State Warriors", "AIK", "Malmö FF", "FC Barcelona",
]  # fmt: skip
WORKS = """Hamlet|The Hobbit|Dracula|Emma|Middlemarch|Ulysses|The Odyssey|Don Quixote|War and Peace|The Trial|Momo|Heidi|Pippi
Longstocking|Kim|Moby Dick|The Raven|Faust|Peer Gynt|Pygmalion|Titanic|Casablanca|Vertigo|Psycho|Alien|Jaws|Gladiator|Inception
The Matrix|Amadeus|Frozen|Up|Parasite|Dune|The Seventh Seal|Metropolis|Solaris|Ran|Amelie|Carmen|Tosca|Aida|The Magic Flute
Guernica|The Scream|Mona Lisa|The Night Watch|Sunflowers""".replace("Pippi\nLong", "Pippi Long").replace("\n", "|").split("|")
PLACES = """Louvre|Prado|Vasa Museum|British Museum|Eiffel Tower|Colosseum|Big Ben|Tower Bridge|Brandenburg Gate|Sagrada Familia
Alhambra|Acropolis|Hagia Sophia|Taj Mahal|Great Wall|Machu Picchu|Central Park|Golden Gate Bridge|Statue of Liberty|Skansen
Tivoli|Mount Everest|Mont Blanc|Kilimanjaro|Mount Fuji|Vesuvius|Etna|Lake Geneva|Lake Victoria|Loch Ness|Niagara Falls
Danube|Rhine|Nile|Amazon River|Thames|Volga|Mekong|Sahara|Gobi Desert|Globen|Liseberg|Wembley|Camp Nou""".replace("\n", "|").split("|")
THINGS = """coffee machine|electric car|laptop|washing machine|bicycle|tent|guitar|piano|camera|phone|apple pie|pancakes|banana
bread|tomato soup|lasagna|pizza|sushi|pad thai|cinnamon buns|meatballs|black hole|rainbow|volcano|vaccine|blue whale|honey
bee|polar bear|red fox|oak tree|heat pump|solar panel|wind turbine|steam engine|jet engine|microwave|battery|transistor
telescope|compass|violin|chess|curling|ice hockey|inflation|photosynthesis|gravity|tax return|passport|driving licence
running shoes|winter coat|gold|silver|oil|milk|butter|wheat|rice|olive oil|house|apartment|train ticket|monthly pass|espresso
water bottle|headphones|printer|keyboard|garden chair|kitchen table|sleeping bag|rain jacket|toaster|dishwasher|drone"""
THINGS = THINGS.replace("\n", "|").replace("banana|bread", "banana bread").replace("honey|bee", "honey bee").split("|")

# fmt: on
ALWAYS_HELD = {"stockholm"}


def is_held(name: str) -> bool:
    """A tenth of all names, chosen by hash, plus the name of the lesson."""
    key = name.lower()
    return key in ALWAYS_HELD or hashlib.sha1(key.encode()).digest()[0] % 10 == 0


class Speller:
    """Invents words that look like its samples: a Markov chain over two letters of context."""

    def __init__(self, samples: list[str]):
        self.next: dict[str, list[str]] = {}
        for word in samples:
            padded = "^^" + word.lower() + "$"
            for i in range(len(padded) - 2):
                self.next.setdefault(padded[i : i + 2], []).append(padded[i + 2])

    def __call__(self, rng: Random) -> str:
        while True:
            word = "^^"
            while word[-1] != "$" and len(word) < 13:
                word += rng.choice(self.next[word[-2:]])
            word = word[2:].rstrip("$")
            if 4 <= len(word) <= 10:
                return word


def _single(names: list[str]) -> list[str]:
    return [n for n in names if n.isalpha()]


_SPELL = {
    "city": Speller(_single(CITIES)),
    "country": Speller(COUNTRIES),
    "first": Speller(FIRST),
    "last": Speller(LAST),
    "company": Speller(COMPANIES + _single(TEAMS) + _single(CITIES)),
}
_ANY = Speller(_single(CITIES) + COUNTRIES + FIRST + LAST + COMPANIES)
_REAL = {
    "city": [*CITIES, "Stockholm"], "country": COUNTRIES, "company": COMPANIES, "team": TEAMS,
    "work": WORKS, "place": PLACES, "thing": THINGS,
}  # fmt: skip
_PLACE_WORDS = """
Museum Tower Bridge Park Castle Library Zoo Lake Mount River Theatre Gallery Hotel Airport
University Market
""".split()
_THING_WORDS = """
soup pie bread lamp chair table phone camera jacket engine tea cake cheese watch bag tent bike
printer oven salad
""".split()
_TEAM_WORDS = ["United", "City", "FC", "Rovers", "Athletic", "IF", "Stars", "Bears"]


def invent(kind: str, rng: Random) -> str:
    """An invented name of a kind; most are one word, some two."""
    two = rng.random()
    if kind == "person":
        first = rng.choice(FIRST) if two < 0.6 else _SPELL["first"](rng).capitalize()
        last = (
            rng.choice(LAST)
            if two > 0.4 and rng.random() < 0.5
            else _SPELL["last"](rng).capitalize()
        )
        return f"{first} {last}" if rng.random() < 0.9 else last
    if kind == "thing":
        word = _ANY(rng)
        return f"{word} {rng.choice(_THING_WORDS)}" if two < 0.7 else word
    word = _SPELL.get(kind, _ANY)(rng).capitalize()
    if kind == "place":
        tail = rng.choice(_PLACE_WORDS)
        return (
            f"{tail} {word}"
            if tail in ("Lake", "Mount")
            else f"{word} {tail}"
            if two < 0.9
            else word
        )
    if kind == "team" and two < 0.5:
        return f"{word} {rng.choice(_TEAM_WORDS)}"
    if kind == "work" and two < 0.5:
        return (
            f"The {word}"
            if two < 0.25
            else f"{word} {rng.choice(['Rising', 'Returns', 'Dreams', 'Nights', 'Song'])}"
        )
    if kind == "city" and two < 0.08:
        return f"{rng.choice(['New', 'San', 'Port', 'Saint', 'North', 'Upper'])} {word}"
    if kind == "city" and two < 0.14:
        return f"{word}, {rng.choice(COUNTRIES)}"
    return word


def draw(kind: str, rng: Random, held: bool = False, real: float = 0.35) -> str:
    """One name of the kind, on the asked side of the split; `real` is the share of real names."""
    while True:
        if kind == "person" and rng.random() < real:
            name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        elif kind in _REAL and rng.random() < real:
            name = rng.choice(_REAL[kind])
        else:
            name = invent(kind, rng)
        if is_held(name) == held:
            return name
