"""What people say to af3-tiny that it was not taught. Long because it is a list.

The right answer to all of it is HONEST. The evaluation has sentences, frames and words of its own (HELD_OUT_*).
"""

from __future__ import annotations

import re

import numpy as np

from training.questions import GENERAL_KNOWLEDGE, NUMBERS

HONEST = "I am a small demo model: I know digits, commands, a few sounds and melodies."

Rng = np.random.Generator

_GREETINGS = """
hello|hi|hi there|hello there|good morning|good evening|good afternoon|good night|hey|hey you|welcome|goodbye|bye
bye bye|see you later|see you tomorrow|thank you|thanks|thanks a lot|thank you very much|many thanks|you are welcome
please|excuse me|sorry|i am sorry|nice to meet you|how are you|how are you doing|how do you do|how is it going
what is up|are you there|can you hear me|is anybody there|do you hear me|testing testing|check check|great|well done
very good|that is wrong|that is not right|i do not understand|never mind|forget it|okay|all right|sure|maybe|of course
who made you|who built you|what is your name|how old are you|where are you from|where do you live|are you a robot
are you human|do you like me|do you love me|tell me about yourself|what do you know|what are your hobbies
are you happy|do you sleep|can you sing|can you dance|can you see me|do you speak german|speak french please
tell me a joke|sing a song|tell me a story|read me a book|play some music|wake up|go to sleep|be quiet|shut up
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

_SENTENCES = """
the weather is nice today|it is raining outside|my brother plays football|we bought a new car last week
she wrote a letter to her mother|i would like a cup of coffee|the train leaves from platform twelve
he forgot his umbrella on the bus|dinner is ready|where did i put my keys|i need to buy milk and bread
the children are playing in the garden|this movie was really boring|can you recommend a good restaurant
my phone battery is almost empty|the meeting was moved to friday|please send me the report by monday
i lost my wallet yesterday|the museum is closed on sundays|we should visit our grandparents soon
the printer is out of paper|his flight was delayed again|i am learning to play chess|that joke was funny
the river is very deep here|a strange man knocked twice|birds fly south for winter|my favorite season is autumn
we walked along the beach at sunset|the soup needs more salt|he runs faster than his sister
she has lived in chicago for many years|the government announced new taxes|prices went up again
the doctor told me to rest|your package will arrive on thursday|remember to water the plants
this is a test of the microphone|the quick brown fox jumps over the lazy dog|i do not like mondays
it was a dark and stormy night|the old house needs a new roof|nobody answered the question
they painted the fence yesterday|my computer crashed while i was working|the lecture begins at noon
she sings beautifully|what a wonderful surprise|let us begin with the first chapter|the answer surprised everyone
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

# A frame and what fills it. "{n}" is a number up to twenty.
_FRAMES = """
what is the capital of {country}|who is the president of {country}|how many people live in {country}
where is {country}|what language do they speak in {country}|tell me about {country}|is {country} large
what is the largest city in {country}|how do i get to {country}|have you been to {country}
what color is {thing}|how big is {thing}|what is {thing}|where can i buy {thing}|how much does {thing} cost
who invented {thing}|how does {thing} work|do you like {thing}|why is {thing} so expensive|describe {thing}
explain {thing} to me|what is {thing} made of|can i eat {thing}|i bought {thing} yesterday|give me {thing}
what does {animal} do|how many legs does {animal} have|what does {animal} eat|where does {animal} live
how long does {animal} live|can {animal} fly|is {animal} dangerous|what sound does {animal} make
who is {person}|how old is {person}|where was {person} born|what did {person} do|tell me about {person}
when did {person} die|is {person} famous|did you meet {person}|what is the wife of {person} called
how many {units} are in {unit}|how long is {unit}|what is the square root of {n}|what is {n} times {n}
what is {n} minus {n}|what is {n} plus {n}|what is {n} divided by {n}|is {n} a prime number|what is {n} percent of {n}
what comes before {n}|spell {thing}|translate {thing} into {language}|how do you say {thing} in {language}
what is the weather in {city}|what time is it in {city}|how far is {city}|which train goes to {city}
when was {city} founded|book a flight to {city}|what is the best hotel in {city}|show me a map of {city}
set an alarm for {n}|remind me to {chore}|how do i {chore}|can you {chore}|please {chore}|i have to {chore}
write {text}|write {text} about {thing}|read me {text}|who wrote {text}|i am looking for {text}
what is the meaning of {abstract}|why do people need {abstract}|define {abstract}|is there {abstract}
what do you think about {abstract}|how can i find {abstract}|who is the best in {abstract}
what is the speaker's name|how old is the speaker|where is the speaker|what is the mood of the speaker
which key is it in|who wrote this song|is this song good|what is the key of the melody|is it in major or minor
what genre is it|who is the singer|which band plays this|what car is this|how far away is it|what color is it
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

_FILLS = {
    "country": "germany spain portugal poland austria china russia brazil canada mexico egypt india turkey greece "
    "sweden norway finland denmark ireland scotland belgium kenya peru chile cuba iran iraq israel vietnam thailand",
    "thing": "a car|a house|the moon|the sun|an apple|a computer|a telescope|cheese|chocolate|gold|the internet"
    "|a bicycle|a rocket|the ocean|a strawberry|a lemon|coffee|paper|electricity|a diamond|an umbrella|a shoe|fire"
    "|a table|steel|a tomato|blood|a carrot|a fire truck|an orange|coal|milk|plastic|glass|a violin string|a hat",
    "animal": "a horse|a lion|a fish|an ant|a bee|an elephant|a frog|a snake|a tiger|a mouse|a pig|a sheep|a goat"
    "|a duck|a penguin|a shark|a whale|an octopus|a butterfly|a crab|a monkey|a bear|a wolf|a rabbit|a chicken",
    "person": "einstein|mozart|beethoven|shakespeare|napoleon|cleopatra|picasso|newton|darwin|gandhi|elvis|obama"
    "|marie curie|leonardo|the king|the queen|the pope|my teacher|your father|your best friend",
    "units": "hours|minutes|seconds|weeks|meters|grams|inches|pounds|cents|people",
    "unit": "a day|a mile|a pound|a dollar|a century|an hour|a kilogram|a gallon|a decade|a ton",
    "language": "german spanish italian chinese russian latin greek dutch",
    "city": "berlin|madrid|new york|chicago|vienna|moscow|sydney|boston|dublin|cairo|oslo|munich|seattle|lisbon",
    "chore": "buy milk|clean the house|wash the car|cook dinner|call my mother|pay the rent|feed the dog|learn to swim"
    "|bake bread|lose weight|write code|fix my bike|sleep better|find a job|tie a tie|boil an egg|draw a circle",
    "text": "a poem|a letter|an email|a story|a song|a book|a novel|the news|a report|a speech",
    "abstract": "life|love|happiness|freedom|money|time|god|peace|art|science|history|mathematics|football|luck|war",
}  # fmt: skip
_FILLS = {name: fills.split("|" if "|" in fills else None) for name, fills in _FILLS.items()}
_FILLS["n"] = [
    *NUMBERS,
    *"eleven twelve thirteen fourteen fifteen sixteen twenty thirty fifty hundred".split(),
]

# Words that fill held-out sentences are the last of their lists; each sixth greeting, sentence and frame is held out.
EVERY = 6
_HELD_OUT_SHARE = 0.25
_IN_WORLD = {*GENERAL_KNOWLEDGE}


def _halves(texts: list[str]) -> tuple[list[str], list[str]]:
    held_out = texts[EVERY - 1 :: EVERY]
    return [text for text in texts if text not in held_out], held_out


_PLAIN = {"greeting": _halves(_GREETINGS), "sentence": _halves(_SENTENCES), "frame": _halves(_FRAMES)}
_KNOWN_FRAMES = [frame for frame in _PLAIN["frame"][0] if "{" in frame.replace("{n}", "")]
_SHARES = {"greeting": 0.25, "sentence": 0.15, "frame": 0.6}


def _fill(rng: Rng, name: str, held_out: bool) -> str:
    fills = _FILLS[name]
    if name != "n":  # numbers are never held out
        kept = len(fills) - round(_HELD_OUT_SHARE * len(fills))
        fills = fills[kept:] if held_out else fills[:kept]
    return str(rng.choice(fills))


def said(rng: Rng, held_out: bool) -> str:
    """Draw a sentence in lower case, without marks. About half of the held-out ones only have new words in a frame
    that the training has, so that a frame alone never decides."""
    kind = str(rng.choice([*_SHARES], p=[*_SHARES.values()]))
    known_frame = held_out and kind == "frame" and rng.random() < 0.5
    while True:
        text = str(rng.choice(_KNOWN_FRAMES if known_frame else _PLAIN[kind][held_out]))
        for name in _FILLS:
            while f"{{{name}}}" in text:
                text = text.replace(f"{{{name}}}", _fill(rng, name, held_out), 1)
        if text not in _IN_WORLD:
            return text


def typed(rng: Rng, held_out: bool) -> str:
    """Draw a sentence as people type it."""
    return _as_typed(rng, said(rng, held_out))


def _as_typed(rng: Rng, text: str) -> str:
    style = rng.random()
    if style < 0.3:
        return text
    question = text.split()[0] in "what who how where when why which is are can do did have book".split()
    sentence = " ".join(word.capitalize() if word in _NAMES else word for word in text.split())
    sentence = sentence[0].upper() + sentence[1:]
    return sentence + ("" if style < 0.4 else "?" if question else "." if style < 0.8 else "!")


_NAMES = {
    word
    for name in ("country", "person", "city", "language")
    for fill in _FILLS[name]
    for word in fill.split()
}
_NAMES -= {"the", "my", "your", "king", "queen", "pope", "teacher", "father", "best", "friend"}


# Further wordings of what it was taught; the last of each are for the evaluation alone. {a} and {b}: the words that the
# question has in their place; {A}: with a capital; {1}, {2}: as digits.
_FURTHER = {
    "what is the capital of {a}": [
        "Tell me the capital of {A}.",
        "Which city is the capital of {A}?",
        "The capital of {A}?",
        "Do you know the capital of {A}?",
        "What's the capital of {A}?",
        "{A}'s capital?",
        "Name the capital of {A}.",
    ],
    "what color is {a}": [
        "What is the color of {a}?",
        "Which color is {a}?",
        "Tell me the color of {a}.",
        "What colour is {a}?",
        "Which color does {a} have?",
        "Say what color {a} is.",
    ],
    "what does a {a} do": [
        "Tell me what a {a} does.",
        "A {a}, what does it do?",
        "What do you know that a {a} does?",
    ],
    "what is {a} plus {b}": [
        "{1} + {2}?",
        "What is {1} + {2}?",
        "{A} plus {b}?",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
        "What's {1} plus {2}?",
        "Tell me what {a} plus {b} is.",
    ],
    "what comes after {a}": [
        "Which number comes after {a}?",
        "What number follows {a}?",
        "Tell me what comes after {a}.",
        "Which number follows {a}?",
    ],
    "how many days are in a week": [
        "How many days does a week have?",
        "Tell me how many days are in a week.",
        "How many days has a week?",
        "How many days are there in a week?",
    ],
    "how many months are in a year": [
        "How many months does a year have?",
        "Tell me how many months are in a year.",
        "How many months has a year?",
        "How many months are there in a year?",
    ],
    "how many legs does a spider have": [
        "How many legs has a spider?",
        "How many legs are on a spider?",
        "Tell me how many legs a spider has.",
        "Count the legs of a spider.",
    ],
    "who are you": ["Who is this?", "Tell me who you are.", "What are you?", "And who are you?"],
    "what can you do": [
        "What can I ask you?",
        "What are you able to do?",
        "How can you help me?",
        "Tell me what you can do.",
    ],
}


def _further(question: str) -> list[str]:
    """Fill the wordings of a question of GENERAL_KNOWLEDGE with its words."""
    for frame, wordings in _FURTHER.items():
        found = re.fullmatch(re.sub(r"\{(\w)\}", r"(?P<\1>.+)", frame), question)
        if found:
            words = {"a": "", "b": ""} | found.groupdict()
            words["A"] = words["a"].capitalize()
            digits = [str(NUMBERS.index(words[name])) if words[name] in NUMBERS else "" for name in "ab"]
            return [wording.format("", *digits, **words) for wording in wordings]
    raise KeyError(question)


PARAPHRASES = {question: _further(question) for question in GENERAL_KNOWLEDGE}


def paraphrased(rng: Rng, question: str, held_out: bool) -> str:
    """Word a question of GENERAL_KNOWLEDGE in another way."""
    wordings = PARAPHRASES[question]
    text = wordings[-1] if held_out else str(rng.choice(wordings[:-1]))
    return text if held_out or rng.random() < 0.7 else text.lower().rstrip("?.")


def distinct(count: int, seed: int, spoken: bool) -> list[str]:
    """The first `count` held-out sentences of a seed that differ in more than their marks."""
    rng = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        text = said(rng, held_out=True)
        found.setdefault(text, text if spoken else _as_typed(rng, text))
    return [*found.values()]
