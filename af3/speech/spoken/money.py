"""Spells out prices: the currency comes after the number, in the singular after one."""

from __future__ import annotations

import re

from af3.speech.spoken.rules import NUMBER, apply, rules

# Singular, plural, and the hundredth part.
_NAMES = {
    "$": ("dollar", "dollars", "cent"), "US$": ("US dollar", "US dollars", "cent"),
    "A$": ("Australian dollar", "Australian dollars", "cent"), "C$": ("Canadian dollar", "Canadian dollars", "cent"),
    "€": ("euro", "euros", "cent"), "£": ("pound", "pounds", ""), "¥": ("yen", "yen", ""),
    "₹": ("rupee", "rupees", ""), "₩": ("won", "won", ""), "₽": ("rouble", "roubles", ""),
    "₿": ("bitcoin", "bitcoins", ""), "₺": ("lira", "lira", ""), "₫": ("dong", "dong", ""),
    "R$": ("real", "reais", ""), "JP¥": ("yen", "yen", ""), "CHF": ("Swiss franc", "Swiss francs", ""),
    "CA$": ("Canadian dollar", "Canadian dollars", "cent"), "AU$": ("Australian dollar", "Australian dollars", "cent"),
    "NZ$": ("New Zealand dollar", "New Zealand dollars", "cent"),
    "HK$": ("Hong Kong dollar", "Hong Kong dollars", "cent"),
    "₪": ("shekel", "shekels", ""), "₴": ("hryvnia", "hryvnias", ""),
}  # fmt: skip
_CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CHF": "CHF"}
_PER = {"h": "hour", "mo": "month", "yr": "year", "kg": "kilogram", "km": "kilometre"}
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "B": "billion",
    "b": "billion", "bn": "billion", "T": "trillion", "tn": "trillion",
}  # fmt: skip
_SIGN = "|".join(sorted((re.escape(sign) for sign in _NAMES), key=len, reverse=True))
_SCALE = (
    rf"(?:\s?(?P<scale>{'|'.join(sorted(_SCALES, key=len, reverse=True))})\b"
    r"|\s(?P<word>thousand|lakh|million|crore|billion|trillion)\b)?"
)
_TO = r"\s*[-–—]\s*"


def _price(price: re.Match[str]) -> str:
    amount = price["amount"]
    one, many, cent = _NAMES[_CODES.get(price["sign"], price["sign"])]
    scale = _SCALES[price["scale"]] if price["scale"] else price["word"]
    if scale:
        return f"{amount} {scale} {many}"
    if found := re.fullmatch(r"([\d,]+)\.(\d\d)", amount):
        whole, part = found[1], found[2]
        if part == "00":
            return f"{whole} {one if whole == '1' else many}"
        if whole == "0" and cent:
            return f"{int(part)} {cent if int(part) == 1 else cent + 's'}"
        said = f"and {int(part)} {cent if part == '01' else cent + 's'}" if part[0] == "0" and cent else part
        return f"{whole} {one if whole == '1' else many} {said}"
    return f"{amount} {one if amount == '1' else many}"


_EUROPEAN = r"\d{1,3}(?:\.\d{3})*,\d\d"  # 1.000,50


def _point(amount: str) -> str:
    return amount.replace(".", "").replace(",", ".")


_RULES = rules(
    (r"\bRs\.? ?(?=\d)", "₹"),
    # ₹1,00,000: India groups by two digits above a thousand.
    (r"(?<=₹)( ?\d{1,2}(?:,\d\d)+,\d{3})(?![\d,])", lambda m: m[1].replace(",", "")),
    (rf"\b({'|'.join(_CODES)}) ?(?=\d)", lambda m: _CODES[m[1]]),
    (rf"€ ?({_EUROPEAN})(?![\w,.]\d|\w)", lambda m: f"€{_point(m[1])}"),
    (rf"(?<![\w.,])({_EUROPEAN}) ?(?=€|EUR\b)", lambda m: _point(m[1])),
    # $10–$20, $10–20: the currency once, at the end.
    (
        rf"(?P<sign>{_SIGN})(?P<low>{NUMBER})(?P<scale>[kKMB])?{_TO}(?P=sign)?(?={NUMBER})",
        lambda m: f"{m['low']}{' ' + _SCALES[m['scale']] if m['scale'] else ''} to {m['sign']}",
    ),
    (
        rf"({_SIGN})({NUMBER}) (million|billion|trillion){_TO}(?:\1)?(?={NUMBER} \3)",
        r"\2 \3 to \1",
    ),
    (rf"(?<![\w.,])[-−](?={_SIGN})", "minus "),
    (rf"(?<![A-Za-z])(?P<sign>{_SIGN}) ?(?P<amount>{NUMBER}){_SCALE}", _price),
    (
        rf"(?<![\w.,])(?P<amount>{NUMBER}){_SCALE} ?(?P<sign>[€£¥₹₩₽₺]|\$(?!\d)|{'|'.join(_CODES)})(?![\w$])",
        _price,
    ),
    (rf"(?<![\w.,])({NUMBER}) ?¢", lambda m: f"{m[1]} cent{'' if m[1] == '1' else 's'}"),
    (
        r"\b(dollars?|euros?|pounds?|yen|cents?|\d+)/(hour|h|day|week|month|mo|year|yr|kg|km|person|user|song|track)\b",
        lambda m: f"{m[1]} per {_PER.get(m[2], m[2])}",
    ),
)


def say(text: str) -> str:
    return apply(_RULES, text)
