"""Respells heteronyms that eSpeak NG would mispronounce.

eSpeak NG distinguishes verb and noun by the previous word ("to record", "the record") and knows "live concert" and "has
read". Words that it gets wrong are respelled by sound, only in the speech, not in the text.
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
    """Respell such words in `text`."""
    return apply(_RULES, text)
