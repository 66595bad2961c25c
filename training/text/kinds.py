"""Kinds of web questions: how people ask them, what to search for, and what sentence answers them.

A kind is data alone. `{city}` and the like are slots of `names.draw`; `{city2}` is a second name.
`{n}`, `{m}`, `{year}`, ... are values (see `VALUES`). Phrases are noun phrases that fit every
frame ("What is ...?", "Tell me ..."); questions stand by themselves. Those in `held_*` and in
`HELD_FRAMES` are wordings that training never shows.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501, SIM905
# fmt: off

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    query: str
    phrases: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    held_phrases: list[str] = field(default_factory=list)
    held_questions: list[str] = field(default_factory=list)


FRAMES = [
    "What is {}?", "What is {}?", "What is {}?", "What's {}?", "what is {}?", "whats {}", "Tell me {}.", "Tell me {}", "Can you tell me {}?",
    "Please tell me {}.", "Find {}.", "Please find {}.", "Look up {}.", "Look up {}, please.", "Can you look up {}?", "Search for {}.",
    "Could you find out {}?", "I need {}.", "I need to know {}.", "I want to know {}.", "Do you know {}?", "Give me {}.", "Check {}.",
    "Can you check {}?", "Could you check {} for me?", "Hi, what is {}?", "Hello! What is {}?", "Hey, can you find {}?", "{}?", "{}",
    "I would like to know {}.", "Please search for {}.", "Would you find {}?", "Would you look up {}?", "Would you check {}?", "Could you tell me {}?", "Will you tell me {}?", "Could you search for {}?", "I'd like {}.", "Can I have {}?", "Could you please tell me {}?", "Do you have {}?", "I am looking for {}.", "Help me find {}.", "Get me {}.", "Any idea about {}?", "Tell me about {}.", "Please give me {}.", "Hi, I need {}.", "Hello, tell me {}.", "Can you search for {}?", "Can you find {} for me?", "What is {}",
    "Do a web search for {}.", "Search the web for {}.", "Find out {}.", "Could you tell me {}, please?", "Let me know {}.",
]  # fmt: skip
HELD_FRAMES = [
    "Would you tell me {}?", "I'd like to know {}.", "Could you look up {}?", "Please look up {} for me.", "Please check {}.",
    "Hi! Can you tell me {}?", "What is {}, please?", "Can you search the web for {}?", "I want {}.", "Hello, I need {}.",
]  # fmt: skip

SKY = [
    "sunny", "cloudy", "rainy", "snowy", "windy", "foggy", "clear", "overcast", "stormy",
    "partly cloudy",
]  # fmt: skip
SPANS = [
    "today", "tomorrow", "tonight", "this weekend", "next week", "on Monday", "on Friday",
    "on Sunday", "this week", "this evening",
]  # fmt: skip

WEB = [
    Kind("{city} weather", ["the weather in {city}", "the weather in {city}", "the weather for {city}", "the weather like in {city}"],
         ["How is the weather in {city}?", "What is the weather like in {city}?", "How's the weather in {city}?", "What's the weather like in {city}?",
          "Is it raining in {city}?", "Is it sunny in {city}?", "Is it cold in {city}?", "{city} weather", "weather {city}", "Do I need an umbrella in {city}?", "What weather do they have in {city}?"],
         ["It is {n} degrees and {sky} in {city}.", "The weather in {city} is {sky} with {n} degrees.", "{city} is {sky} with a temperature of {n} degrees."],
         held_phrases=["the weather over in {city}"], held_questions=["Is it snowing in {city}?", "weather in {city}?", "Is it warm in {city}?", "What is the weather in {city} like?"]),
    Kind("{city} weather {span}", ["the weather in {city} {span}", "the weather in {city} {span}", "the weather {span} in {city}"],
         ["How is the weather in {city} {span}?", "What will the weather be like in {city} {span}?", "Will it rain in {city} {span}?", "Will it be sunny {span} in {city}?", "How will the weather be in {city} {span}?"],
         ["It will be {sky} with {n} degrees in {city} {span}."], held_questions=["Will it snow in {city} {span}?", "What is the weather like in {city} {span}?"]),
    Kind("current weather in {city}", ["the current weather in {city}", "the current weather in {city}"], ["How is the current weather in {city}?"]),
    Kind("{city} weather forecast", ["the weather forecast for {city}", "the forecast for {city}", "a weather forecast for {city}"], ["How is the forecast for {city}?"],
         ["The forecast for {city} is {sky} with up to {n} degrees."], held_phrases=["the forecast in {city}"]),
    Kind("{city} temperature", ["the temperature in {city}", "the current temperature in {city}"], ["How warm is it in {city}?", "How cold is it in {city}?", "How many degrees is it in {city}?"],
         ["The temperature in {city} is {n} degrees."], held_questions=["How hot is it in {city}?"]),
    Kind("latest news from {city}", ["the latest news from {city}", "the news from {city}", "the latest news in {city}", "news from {city}"],
         ["What happened in {city}?", "What is happening in {city}?", "What's new in {city}?", "Any news from {city}?", "Is there any news from {city}?"],
         ["{city} opened a new {place_word} on {weekday}.", "The mayor of {city} resigned on {weekday}."], held_phrases=["the most recent news from {city}"], held_questions=["What is going on in {city}?"]),
    Kind("latest news about {company}", ["the latest news about {company}", "news about {company}", "the news on {company}"], ["What is new at {company}?", "Any news about {company}?"],
         ["{company} will open a new factory in {city}.", "{company} cut {n} jobs on {weekday}."], held_questions=["Is there any news about {company}?"]),
    Kind("{thing} price", ["the price of a {thing}", "the price of {thing}", "the cost of a {thing}", "the {thing} price"],
         ["How much does a {thing} cost?", "How much is a {thing}?", "What does a {thing} cost?", "How expensive is a {thing}?", "How much do I pay for a {thing}?", "What do I have to pay for a {thing}?"],
         ["A {thing} costs {n} {currency}.", "The price of a {thing} is {n} {currency}."], held_phrases=["the current price of a {thing}"], held_questions=["How much would a {thing} cost?", "What is a {thing} worth?"]),
    Kind("{company} price", ["the price of a {company}", "the cost of a {company}"], ["How much does a {company} cost?", "How much is a {company}?", "What does a {company} cost?"],
         ["A {company} costs {n} {currency}."], held_questions=["How expensive is a {company}?"]),
    Kind("{company} stock price", ["the stock price of {company}", "the share price of {company}", "the {company} stock price", "the price of {company} shares", "the current stock price of {company}"],
         ["How is {company} stock doing?", "How much is one share of {company}?", "What is {company} trading at?"],
         ["{company} shares trade at {n} {currency}.", "The {company} share stands at {n} {currency}."], held_phrases=["the value of {company} shares"], held_questions=["How much is {company} stock?"]),
    Kind("CEO of {company}", ["the CEO of {company}", "the name of the CEO of {company}"], ["Who is the CEO of {company}?", "Who is the head of {company}?", "Who runs {company}?", "Who leads {company}?", "Who's the CEO of {company}?"],
         ["{person} is the CEO of {company}.", "The CEO of {company} is {person}."], held_questions=["Who is the boss of {company}?", "Who is CEO of {company}?"]),
    Kind("{company} founder", ["the founder of {company}"], ["Who founded {company}?", "Who started {company}?", "Who is the founder of {company}?", "By whom was {company} founded?"],
         ["{company} was founded by {person}.", "{person} founded {company}."], held_questions=["Who was the founder of {company}?"]),
    Kind("{company} headquarters", ["the headquarters of {company}"], ["Where is {company} based?", "Where are the headquarters of {company}?", "Where is the head office of {company}?"],
         ["{company} has its headquarters in {city}.", "The headquarters of {company} are in {city}."], held_questions=["In which city is {company} based?"]),
    Kind("{company} employees", ["the number of employees of {company}"], ["How many people work at {company}?", "How many employees does {company} have?", "How many people does {company} employ?"],
         ["{company} has {big} employees.", "{big} people work at {company}."], held_questions=["How many workers does {company} have?"]),
    Kind("{city} population", ["the population of {city}", "the number of people in {city}"], ["How many people live in {city}?", "How big is the population of {city}?", "How many inhabitants does {city} have?", "How large is the population of {city}?"],
         ["{city} has a population of {big}.", "{city} has {big} inhabitants.", "{big} people live in {city}."], held_phrases=["the number of inhabitants of {city}"], held_questions=["How many people are there in {city}?"]),
    Kind("{country} population", ["the population of {country}"], ["How many people live in {country}?", "How many inhabitants does {country} have?"],
         ["{country} has a population of {big}."], held_questions=["How many people are there in {country}?"]),
    Kind("capital of {country}", ["the capital of {country}", "the capital city of {country}"], ["Which city is the capital of {country}?", "What city is the capital of {country}?"],
         ["The capital of {country} is {city}.", "{city} is the capital of {country}."], held_questions=["Which is the capital of {country}?"]),
    Kind("president of {country}", ["the president of {country}"], ["Who is the president of {country}?", "Who is president of {country}?"],
         ["{person} is the president of {country}.", "The president of {country} is {person}."], held_questions=["Who's the president of {country}?"]),
    Kind("prime minister of {country}", ["the prime minister of {country}"], ["Who is the prime minister of {country}?", "Who is prime minister of {country}?"],
         ["{person} is the prime minister of {country}."], held_questions=["Who's the prime minister of {country}?"]),
    Kind("mayor of {city}", ["the mayor of {city}"], ["Who is the mayor of {city}?", "Who is mayor of {city}?"], ["{person} is the mayor of {city}.", "The mayor of {city} is {person}."], held_questions=["Who's the mayor of {city}?"]),
    Kind("currency of {country}", ["the currency of {country}"], ["Which currency does {country} use?", "What currency do they use in {country}?", "What money do people use in {country}?"],
         ["The currency of {country} is the {noun}."], held_questions=["Which currency is used in {country}?"]),
    Kind("language of {country}", ["the language of {country}", "the official language of {country}"], ["Which language do people speak in {country}?", "What language do they speak in {country}?"],
         ["People in {country} speak {noun}."], held_questions=["Which language is spoken in {country}?"]),
    Kind("{person} age", ["the age of {person}"], ["How old is {person}?", "What age is {person}?"], ["{person} is {n} years old."], held_questions=["How old is {person} now?"]),
    Kind("{person} birth date", ["the birth date of {person}", "the birthday of {person}"], ["When was {person} born?", "In which year was {person} born?", "What year was {person} born?"],
         ["{person} was born in {year}.", "{person} was born on {day} {month} {year}."], held_questions=["On which day was {person} born?"]),
    Kind("{person} birthplace", ["the birthplace of {person}"], ["Where was {person} born?", "In which city was {person} born?"], ["{person} comes from {city}.", "{person} grew up in {city}."], held_questions=["In what city was {person} born?"]),
    Kind("{person} height", ["the height of {person}"], ["How tall is {person}?"], ["{person} is {n} centimetres tall."]),
    Kind("{person}", ["{person}", "{person} known for", "the story of {person}"], ["Who is {person}?", "Who was {person}?", "Tell me about {person}.", "Tell me something about {person}.", "What do you know about {person}?", "Who's {person}?", "Give me information about {person}."],
         ["{person} is a {job} from {city}.", "{person} works as a {job}."], held_questions=["Do you know who {person} is?", "I want to know about {person}."]),
    Kind("{team} score", ["the score of the {team} game", "the {team} score", "the result of the {team} match", "the score of {team}"],
         ["Did {team} win?", "How did {team} play?", "Did {team} win yesterday?", "Did {team} lose?", "What was the score of the {team} match?", "How did the {team} game end?"],
         ["{team} won {d} to {d2} against {team2}.", "{team} lost {d} to {d2} against {team2}."], held_questions=["Who won the {team} game?", "Did {team} win last night?"]),
    Kind("{team} next match", ["the next match of {team}", "the date of the next {team} game"], ["When does {team} play next?", "When is the next {team} game?", "When do {team} play?", "When is the next {team} match?", "Who does {team} play next?"],
         ["{team} plays {team2} on {weekday}.", "The next match of {team} is on {weekday}."], held_questions=["When will {team} play next?"]),
    Kind("{team} coach", ["the coach of {team}"], ["Who coaches {team}?", "Who is the coach of {team}?", "Who trains {team}?"], ["{person} coaches {team}.", "The coach of {team} is {person}."], held_questions=["Who is coaching {team}?"]),
    Kind("{year} {cup} winner", ["the winner of the {year} {cup}", "the winner of the {cup} in {year}"], ["Who won the {year} {cup}?", "Who won the {cup} in {year}?", "Which team won the {year} {cup}?"],
         ["{team} won the {year} {cup}."], held_questions=["Which team won the {cup} in {year}?"]),
    Kind("{place} opening hours", ["the opening hours of the {place}", "the opening hours of {place}", "the opening times of the {place}"],
         ["When does the {place} open?", "When is the {place} open?", "Is the {place} open today?", "When does the {place} close?", "What time does the {place} open?", "How long is the {place} open?", "Is the {place} open on Sunday?"],
         ["The {place} is open from {h} to {h2}.", "The {place} opens at {h}."], held_phrases=["the hours of the {place}"], held_questions=["What time does the {place} close?", "At what time does the {place} open?", "Is the {place} open tomorrow?"]),
    Kind("{place} tickets", ["the ticket price of the {place}", "tickets for the {place}"], ["How much is a ticket to the {place}?", "How much are tickets for the {place}?", "Where can I buy tickets for the {place}?"],
         ["A ticket to the {place} costs {n} {currency}."], held_questions=["How much does a ticket to the {place} cost?"]),
    Kind("{place} height", ["the height of the {place}", "the height of {place}"], ["How tall is the {place}?", "How high is the {place}?", "How tall is {place}?", "How high is {place}?"],
         ["The {place} is {n} metres high."], held_questions=["How many metres high is the {place}?"]),
    Kind("{place} location", ["the location of the {place}"], ["Where is the {place}?", "Where is {place}?", "Where can I find the {place}?", "In which city is the {place}?", "Where is the {place} located?"],
         ["The {place} is in {city}.", "You find the {place} in {city}."], held_questions=["In what city is the {place}?"]),
    Kind("{city} location", ["the location of {city}"], ["Where is {city}?", "In which country is {city}?", "Where is {city} located?", "What country is {city} in?"], ["{city} is in the north of {country}.", "{city} lies in {country}."], held_questions=["In what country is {city}?"]),
    Kind("{work} author", ["the author of {work}"], ["Who wrote {work}?", "Who is the author of {work}?", "By whom is {work}?"], ["{person} wrote {work}.", "{work} was written by {person}."], held_questions=["Who was the author of {work}?"]),
    Kind("{work} director", ["the director of {work}"], ["Who directed {work}?", "Who is the director of {work}?", "Who made the film {work}?"], ["{person} directed {work}.", "{work} was directed by {person}."], held_questions=["Who was the director of {work}?"]),
    Kind("{work} release date", ["the release date of {work}"], ["When did {work} come out?", "When was {work} released?", "What year did {work} come out?", "When was {work} published?"], ["{work} came out in {year}.", "{work} was released in {year}."], held_questions=["In which year did {work} come out?"]),
    Kind("{city} time", ["the time in {city}", "the current time in {city}", "the local time in {city}"], ["What time is it in {city}?", "How late is it in {city}?", "What's the time in {city}?"], ["It is {h} in {city}."], held_questions=["What time is it now in {city}?"]),
    Kind("restaurants in {city}", ["a good restaurant in {city}", "restaurants in {city}", "the best restaurants in {city}", "good restaurants in {city}"],
         ["Where can I eat in {city}?", "Where should I eat in {city}?", "Can you recommend a restaurant in {city}?", "Which restaurants are there in {city}?"],
         ["The best restaurant in {city} is {work}."], held_phrases=["a nice restaurant in {city}"], held_questions=["Where can I have dinner in {city}?"]),
    Kind("hotels in {city}", ["a hotel in {city}", "hotels in {city}", "a cheap hotel in {city}", "the best hotels in {city}"], ["Where can I stay in {city}?", "Can you recommend a hotel in {city}?", "Where can I sleep in {city}?"],
         ["A room in {city} costs {n} {currency}."], held_phrases=["a good hotel in {city}"], held_questions=["Where should I stay in {city}?"]),
    Kind("things to do in {city}", ["the best things to do in {city}", "things to do in {city}"], ["What can I do in {city}?", "What should I see in {city}?", "What is there to see in {city}?", "What should I do in {city}?"],
         ["Visit the {place} in {city}."], held_questions=["What can I see in {city}?"]),
    Kind("events in {city}", ["events in {city}", "the concerts in {city}"], ["What is on in {city}?", "Which concerts are there in {city}?", "Which events are there in {city}?", "Are there any events in {city}?"],
         ["{person} gives a concert in {city} on {weekday}."], held_questions=["Are there any concerts in {city}?"]),
    Kind("flights from {city} to {city2}", ["a flight from {city} to {city2}", "flights from {city} to {city2}", "the cheapest flight from {city} to {city2}"],
         ["How do I fly from {city} to {city2}?", "Which flights go from {city} to {city2}?", "How much is a flight from {city} to {city2}?", "When is the next flight from {city} to {city2}?"],
         ["A flight from {city} to {city2} takes {d} hours."], held_questions=["Are there flights from {city} to {city2}?", "How much are flights from {city} to {city2}?"]),
    Kind("trains from {city} to {city2}", ["a train from {city} to {city2}", "trains from {city} to {city2}", "the next train from {city} to {city2}"],
         ["When is the next train from {city} to {city2}?", "When does the train from {city} to {city2} leave?", "Is there a train from {city} to {city2}?"],
         ["The train from {city} to {city2} leaves at {h}."], held_questions=["Are there trains from {city} to {city2}?"]),
    Kind("distance from {city} to {city2}", ["the distance from {city} to {city2}", "the distance between {city} and {city2}"],
         ["How far is it from {city} to {city2}?", "How far is {city} from {city2}?", "How many kilometres is it from {city} to {city2}?"],
         ["It is {n} kilometres from {city} to {city2}."], held_questions=["How far is it between {city} and {city2}?"]),
    Kind("{thing} recipe", ["a recipe for {thing}", "the recipe for {thing}", "a good recipe for {thing}"], ["How do I make {thing}?", "How do I cook {thing}?", "How do you make {thing}?", "How can I make {thing}?", "What do I need to make {thing}?"],
         ["Mix the {thing} with {d} eggs and bake it for {n} minutes."], held_phrases=["an easy recipe for {thing}"], held_questions=["How can I cook {thing}?"]),
    Kind("how a {thing} works", [], ["How does a {thing} work?", "Explain how a {thing} works.", "Can you explain how a {thing} works?", "How does the {thing} work?"], ["A {thing} works with {noun} and {noun2}."], held_questions=["Please explain how a {thing} works."]),
    Kind("{thing} definition", ["the definition of {thing}", "the meaning of {thing}"], ["What is a {thing}?", "What is {thing}?", "What's a {thing}?", "What does {thing} mean?", "Define {thing}.", "What is the meaning of {thing}?"], ["A {thing} is a kind of {noun}."], held_questions=["What is meant by {thing}?"]),
    Kind("best {thing}", ["the best {thing}", "the best {thing} to buy"], ["Which {thing} is the best?", "Which {thing} should I buy?", "What {thing} should I buy?"], ["The best {thing} comes from {company}."], held_questions=["Which {thing} is best?"]),
    Kind("{code} to {code2} exchange rate", ["the exchange rate from {code} to {code2}", "the {code} to {code2} exchange rate", "the exchange rate between {code} and {code2}"],
         ["How much is one {code} in {code2}?", "How many {code2} is one {code}?", "How many {code2} do I get for one {code}?"],
         ["One {code} is {dec} {code2}."], held_questions=["What is one {code} in {code2}?"]),
    Kind("who invented the {thing}", ["the inventor of the {thing}"], ["Who invented the {thing}?", "Who is the inventor of the {thing}?"], ["{person} invented the {thing} in {year}."], held_questions=["Who was the inventor of the {thing}?"]),
    Kind("{noun} {prep} {city}", ["the {noun} {prep} {city}", "a {noun} {prep} {city}"], ["Where is the {noun} {prep} {city}?", "Is there a {noun} {prep} {city}?"], ["The {noun} {prep} {city} is {n}."], held_questions=["Do they have a {noun} {prep} {city}?"]),
    Kind("{noun} {noun2} {prep} {place}", ["the {noun} {noun2} {prep} {place}", "a {noun} {noun2} {prep} {place}"], []),
    Kind("{noun} {noun2} {prep} {company}", ["the {noun} {noun2} {prep} {company}"], [], held_questions=["Is there a {noun} {noun2} {prep} {company}?"]),
    Kind("{person} spouse", ["the spouse of {person}"], ["Who is {person} married to?", "Is {person} married?"], ["{person} is married to {person2}."], held_questions=["Who is the spouse of {person} now?"]),
    Kind("{person} net worth", ["the net worth of {person}"], ["How rich is {person}?", "How much money does {person} have?"], ["{person} has {n} million {currency}."], held_questions=["How much is {person} worth?"]),
    Kind("{person} books", ["the books of {person}", "books by {person}"], ["Which books did {person} write?", "What did {person} write?"], ["{person} wrote {work}."], held_questions=["What books has {person} written?"]),
    Kind("{person} death", ["the death of {person}"], ["When did {person} die?", "In which year did {person} die?"], ["{person} died in {year}."], held_questions=["What year did {person} die?"]),
    Kind("{city} map", ["a map of {city}", "the map of {city}"], ["Where can I get a map of {city}?"], [], held_questions=["Show me a map of {city}."]),
    Kind("{city} airport", ["the airport of {city}"], ["Which airport does {city} have?", "How do I get to the airport of {city}?"], ["The airport of {city} is called {work}."], held_questions=["Where is the airport of {city}?"]),
    Kind("public transport in {city}", ["public transport in {city}"], ["How do I get around in {city}?", "Which buses are there in {city}?"], [], held_questions=["How can I get around in {city}?"]),
    Kind("{city} history", ["the history of {city}"], ["When was {city} founded?", "What is the history of {city}?"], ["{city} was founded in {year}."], held_questions=["In which year was {city} founded?"]),
    Kind("{city} traffic", ["the traffic in {city}"], ["How is the traffic in {city}?", "Is there much traffic in {city}?"], ["The traffic in {city} is slow on {weekday}."], held_questions=["How bad is the traffic in {city}?"]),
    Kind("{city} air quality", ["the air quality in {city}"], ["How good is the air in {city}?", "How is the air in {city}?"], ["The air in {city} has the value {n}."], held_questions=["How is the air quality in {city}?"]),
    Kind("{city} sunrise", ["the sunrise in {city}"], ["When does the sun rise in {city}?", "When is sunrise in {city}?"], ["The sun rises at {h} in {city}."], held_questions=["What time does the sun rise in {city}?"]),
    Kind("apartments in {city}", ["an apartment in {city}", "apartments in {city}", "a flat in {city}"], ["How much is the rent in {city}?", "Where can I rent a flat in {city}?"], ["A flat in {city} costs {n} {currency}."], held_questions=["How much is a flat in {city}?"]),
    Kind("{city} to {city2} route", ["the way from {city} to {city2}", "the route from {city} to {city2}"], ["How do I get from {city} to {city2}?", "How do I travel from {city} to {city2}?", "How can I go from {city} to {city2}?"], ["Take the bus from {city} to {city2}."], held_questions=["What is the best way from {city} to {city2}?"]),
    Kind("{country} area", ["the area of {country}"], ["How big is {country}?", "How large is {country}?"], ["{country} has an area of {big} square kilometers."], held_questions=["What size is {country}?"]),
    Kind("{country} GDP", ["the GDP of {country}"], ["How big is the economy of {country}?"], ["The GDP of {country} is {n} million {currency}."], held_questions=["How large is the GDP of {country}?"]),
    Kind("{country} visa", ["a visa for {country}"], ["Do I need a visa for {country}?", "How do I get a visa for {country}?"], [], held_questions=["Where do I get a visa for {country}?"]),
    Kind("{country} election result", ["the election result in {country}", "the result of the election in {country}"], ["Who won the election in {country}?"], ["{person} won the election in {country}."], held_questions=["What was the result of the election in {country}?"]),
    Kind("{country} highest mountain", ["the highest mountain in {country}"], ["Which mountain is the highest in {country}?"], ["The highest mountain in {country} is {place}."], held_questions=["Which is the highest mountain in {country}?"]),
    Kind("{country} largest city", ["the largest city in {country}", "the biggest city in {country}"], ["Which city is the largest in {country}?"], ["{city} is the largest city in {country}."], held_questions=["Which is the biggest city in {country}?"]),
    Kind("{company} revenue", ["the revenue of {company}", "the sales of {company}"], ["How much money does {company} make?", "How much does {company} earn?"], ["{company} earned {n} million {currency}."], held_questions=["How much did {company} earn?"]),
    Kind("{company} products", ["the products of {company}"], ["What does {company} make?", "What does {company} sell?", "Which products does {company} make?"], ["{company} makes the {thing}."], held_questions=["Which products does {company} sell?"]),
    Kind("{company} customer service", ["the phone number of {company}", "the customer service of {company}"], ["How do I contact {company}?", "How can I reach {company}?"], ["The phone number of {company} is {n}."], held_questions=["How can I contact {company}?"]),
    Kind("jobs at {company}", ["jobs at {company}", "a job at {company}"], ["How do I get a job at {company}?", "Is {company} looking for people?"], [], held_questions=["Are there jobs at {company}?"]),
    Kind("{work} review", ["a review of {work}", "reviews of {work}"], ["Is {work} good?", "How good is {work}?", "Is {work} worth watching?"], [], held_questions=["Is {work} any good?"]),
    Kind("{work} cast", ["the cast of {work}"], ["Who plays in {work}?", "Which actors are in {work}?"], ["{person} plays in {work}."], held_questions=["Who is in {work}?"]),
    Kind("{work} plot", ["the plot of {work}", "the story of {work}"], ["What is {work} about?", "What happens in {work}?"], ["{work} is about a {job}."], held_questions=["What's {work} about?"]),
    Kind("{thing} review", ["a review of the {thing}", "reviews of the {thing}"], ["Is the {thing} good?", "How good is the {thing}?"], [], held_questions=["Is the {thing} any good?"]),
    Kind("where to buy {thing}", [], ["Where can I buy a {thing}?", "Where do I get a {thing}?", "Which shop sells {thing}?"], ["{company} sells {thing}."], held_questions=["Where can I get a {thing}?"]),
    Kind("calories in {thing}", ["the calories in {thing}", "the number of calories in {thing}"], ["How many calories are in {thing}?", "How many calories does {thing} have?"], ["There are {n} calories in {thing}."], held_questions=["How many calories are there in {thing}?"]),
    Kind("how to clean {thing}", [], ["How do I clean a {thing}?", "How can I clean a {thing}?"], [], held_questions=["How should I clean a {thing}?"]),
    Kind("how to repair {thing}", [], ["How do I repair a {thing}?", "How do I fix a {thing}?", "My {thing} is broken. What can I do?"], [], held_questions=["How can I fix a {thing}?"]),
    Kind("{place} history", ["the history of the {place}"], ["When was the {place} built?", "How old is the {place}?"], ["The {place} was built in {year}."], held_questions=["In which year was the {place} built?"]),
    Kind("{place} architect", ["the architect of the {place}"], ["Who built the {place}?", "Who designed the {place}?"], ["{person} built the {place}.", "The {place} was designed by {person}."], held_questions=["Who was the architect of the {place}?"]),
    Kind("{place} visitors", ["the number of visitors of the {place}"], ["How many people visit the {place}?", "How many visitors does the {place} have?"], ["The {place} has {big} visitors."], held_questions=["How many people see the {place}?"]),
    Kind("{team} players", ["the players of {team}"], ["Who plays for {team}?", "Which players does {team} have?"], ["{person} plays for {team}."], held_questions=["Who are the players of {team}?"]),
    Kind("{team} stadium", ["the stadium of {team}"], ["Where does {team} play?", "In which stadium does {team} play?"], ["{team} plays in {place}."], held_questions=["What stadium does {team} play in?"]),
    Kind("{team} league table", ["the league table of {team}", "the position of {team}"], ["In which place is {team}?", "Where is {team} in the table?"], ["{team} is number {d} in the table."], held_questions=["What place is {team} in?"]),
    *[Kind(f"{{{slot}}} {{noun}}", [f"the {{noun}} of {{{slot}}}"] * 2, [f"Which {{noun}} does {{{slot}}} have?", f"What {{noun}} does {{{slot}}} have?", f"What do you know about the {{noun}} of {{{slot}}}?"],
           [f"The {{noun}} of {{{slot}}} is {{n}}.", f"{{{slot}}} has the {{noun}} {{n}}."], held_questions=[f"Tell me which {{noun}} {{{slot}}} has."]) for slot in ("city", "company", "person", "place")],
    Kind("{event} date", ["the date of {event}"], ["When is {event}?", "On which day is {event}?", "What day is {event}?", "When does {event} start?"], ["{event} starts on {day} {month}."], held_questions=["What date is {event}?"]),
]  # fmt: skip

WEATHER = 6  # how many kinds at the head of WEB ask for the weather

# General search requests: what follows the words is the query, word for word.
VERBATIM = ["Search for {}.", "Search for {}", "Search the web for {}.", "Look up {}.", "Google {}", "Find information about {}.", "Please search for {}", "Do a search for {}",
            "Find me information on {}.", "Can you search for {}?", "Find pages about {}.", "Look for {} on the web.", "Use the search tool for {}.", "Search online for {}."]  # fmt: skip
HELD_VERBATIM = ["Find {} on the web.", "Can you find information about {}?", "Please look for {}."]

NOUNS = """
colour size weight owner name age speed length width height depth price taste sound shape origin
symbol flag motto anthem leader member rule goal plan engine motor wheel roof door window garden
bridge river forest island mountain valley harbour station school church tower wall gate market
square street road path field farm mill mine factory office shop bank hospital library museum
theatre park lake beach boat ship train bus car bike plane horse dog cat bird fish tree flower
stone metal wood glass paper cloth silk wool cotton leather salt sugar bread cheese wine beer
tea coffee milk water oil fire wind rain snow ice sun moon star sky night day morning evening
spring summer autumn winter king queen prince captain teacher doctor painter writer singer
dancer player driver pilot farmer baker cook guard judge pope dean code number letter key
password title topic score record budget salary rent tax fee fine deadline duration frequency
capacity voltage pressure density
""".split()
JOBS = """
painter writer singer dancer doctor teacher lawyer pilot farmer baker cook judge scientist
engineer poet actor composer swimmer runner driver politician footballer chemist physicist
""".split()
PLACE_WORD = """
library bridge museum park school hospital station harbour theatre stadium market
""".split()
CUPS = [
    "World Cup", "Champions League", "Stanley Cup", "Super Bowl", "Davis Cup",
    "European Championship", "World Series", "Tour de France", "Wimbledon final",
    "Eurovision Song Contest",
]  # fmt: skip
CURRENCY = ["kronor", "euros", "dollars", "pounds", "francs", "yen", "rupees", "pesos", "zloty"]
CODES = """
USD EUR SEK NOK DKK GBP CHF JPY INR CNY PLN CAD AUD BRL MXN
""".split()
MONTHS = """
January February March April May June July August September October November December
""".split()
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
EVENTS = [
    "Easter", "Midsummer", "Diwali", "the Olympics", "Mother's Day", "Ramadan",
    "Chinese New Year", "Thanksgiving", "the summer solstice", "Halloween",
    "the Nobel Prize ceremony", "Black Friday",
]  # fmt: skip
