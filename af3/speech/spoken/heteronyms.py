"""English words that are spelled alike and said differently, where eSpeak NG takes the wrong one.

eSpeak NG tells a verb from a noun by the word before it ("to record", "the record") and knows "live concert" and "has
read". What it misses is written here as a word that sounds right. Only what a voice says changes, not the text.
"""

from __future__ import annotations

from af3.speech.spoken.rules import apply, rules

_OBJECT = r"(?=\s+(?:it|them|this|that|these|those|the|your|my|his|her|our|their|a|an|up|down)\b)"
_PAST = r"(?=[^.!?]{0,40}\b(?:yesterday|ago|last\s+(?:night|week|month|year|time))\b)"
_I = r"(?i:(?<=\bI\s)|(?<=\bwe\s)|(?<=\bshe\s)|(?<=\bhe\s)|(?<=\bthey\s)|(?<=\byou\s))"

_RULES = rules(
    (rf"{_I}read{_PAST}", "red"),
    (r"\b(?i:lead)(?=\s+(?:pipes?|paint|weights?|poisoning|acid|shot|roof|bullets?)\b)", "led"),
    (r"\b(?i:made\s+of\s+lead)\b", "made of led"),
    (r"\b(?i:wind)(?=\s+(?:it|them|your|the\s+(?:clock|watch|cable|tape|string|wire))\b)", "wined"),
    (rf"\b(?i:(?<!\bthe\s)(?<!\ba\s)(?<!\bin\s)(?<!\bof\s)tear){_OBJECT}", "tare"),
    (r"(?<=\b[wW]ear\sand\s)tear\b", "tare"),
    (rf"\b(?i:(?<!\bis\s)(?<!\bare\s)(?<!\bso\s)(?<!\bvery\s)(?<!\ba\s)close){_OBJECT}", "cloze"),
    (r"\b(?i:minute)(?=\s+(?:details?|differences?|changes?|amounts?|traces?|particles?)\b)", "mynewt"),
    (r"\b(?i:(take|takes|took|taking)\s+a\s+bow)\b", r"\1 a bough"),
    (r"(?<![\w'’])(?i:use)(?=\s+(?:it|them|this|these|those|the|your|a|an)\b)", "yooz"),
    (r"\b(?i:separate)(?=\s+(?:it|them|the|these|those|each)\b)", "separayt"),
)


def respelled(text: str) -> str:
    """`text` with such words as eSpeak NG reads them right."""
    return apply(_RULES, text)
