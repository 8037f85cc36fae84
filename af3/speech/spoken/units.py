"""Spells out units with prefixes, powers and quotients: 5 µs, 50 kΩ, 9.81 m/s², 128 kbit/s."""

from __future__ import annotations

import re

from af3.speech.spoken.dates import ordinal
from af3.speech.spoken.rules import NUMBER, apply, rules

_PREFIXES = {
    "p": "pico", "n": "nano", "µ": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto", "k": "kilo",
    "M": "mega", "G": "giga", "T": "tera",
}  # fmt: skip
# Symbol: name, and the prefixes that it takes. Plurals end in s unless the name is in _INVARIABLE.
_BASES = {
    "Hz": ("hertz", "mµkMGT"), "s": ("second", "pnµm"), "m": ("metre", "nµmcdk"), "g": ("gram", "nµmk"),
    "l": ("litre", "µmcdh"), "L": ("litre", "µmcdh"), "V": ("volt", "nµmkM"), "A": ("ampere", "pnµmk"),
    "W": ("watt", "nµmkMGT"), "Ω": ("ohm", "mµkMG"), "F": ("farad", "pnµm"), "H": ("henry", "nµm"),
    "J": ("joule", "µmkMG"), "N": ("newton", "µmkM"), "Pa": ("pascal", "µmhkMG"), "bit": ("bit", "kMGT"),
    "B": ("byte", "kMGT"), "eV": ("electronvolt", "mkMGT"), "Wh": ("watt hour", "mkMGT"), "Ah": ("ampere hour", "mk"),
    "cal": ("calorie", "k"), "T": ("tesla", "nµm"), "mol": ("mole", "nµmk"), "Sv": ("sievert", "µm"),
    "Gy": ("gray", "µm"), "Bq": ("becquerel", "kMG"), "bar": ("bar", "mk"), "lm": ("lumen", ""), "lx": ("lux", ""),
    "cd": ("candela", "m"), "rad": ("radian", "m"), "S": ("siemens", "µm"),
}  # fmt: skip
# Units only with a prefix: alone, these letters usually mean something else.
_NEVER_BARE = frozenset("A F H T S B".split())
_OTHERS = {
    "dB": "decibel", "dBFS": "decibel full scale", "dBA": "decibel A", "dB(A)": "decibel A", "dBm": "decibel m",
    "dB(C)": "decibel C", "dBC": "decibel C", "dB(Z)": "decibel Z",
    "dBu": "decibel u", "dBV": "decibel V", "dBTP": "decibel true peak", "dB SPL": "decibel SPL",
    "Vpp": "volt peak to peak", "LU": "loudness unit",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "sec": "second", "secs": "second",
    "msec": "millisecond", "ft": "foot", "yd": "yard", "mi": "mile", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "gal": "gallon", "ha": "hectare", "psi": "pound per square inch", "mmHg": "millimetre of mercury",
    "mph": "mile per hour", "kph": "kilometre per hour", "kmh": "kilometre per hour", "kn": "knot",
    "ips": "inch per second", "IPS": "inch per second", "rpm": "revolution per minute", "RPM": "revolution per minute",
    "fps": "frame per second", "FPS": "frame per second",
    "bps": "bit per second", "kbps": "kilobit per second", "Kbps": "kilobit per second", "Mbps": "megabit per second",
    "Gbps": "gigabit per second", "kb": "kilobit", "Mb": "megabit", "Gb": "gigabit", "KB": "kilobyte",
    "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "TiB": "tebibyte", "dpi": "dot per inch",
    "ppm": "part per million", "ppb": "part per billion", "px": "pixel", "kHZ": "kilohertz", "KHz": "kilohertz",
    "Khz": "kilohertz", "khz": "kilohertz", "Mhz": "megahertz", "hz": "hertz", "HZ": "hertz", "db": "decibel",
    "kS": "kilosample", "MS": "megasample",
    "mM": "millimolar", "µM": "micromolar", "nM": "nanomolar",
    "Å": "ångström", "au": "astronomical unit", "kpc": "kiloparsec", "Mpc": "megaparsec", "ly": "light-year",
    "atm": "atmosphere", "oct": "octave", "octave": "octave",
}  # fmt: skip
_INVARIABLE = frozenset({"hertz", "lux", "siemens", "molar"})
_IRREGULAR = {"foot": "feet", "inch": "inches", "henry": "henrys", "full scale": "full scale"}
# Units even without a number: "in kHz", "the dB scale".
_ALONE = (
    "Hz kHz MHz GHz mHz dB dBFS dBA Ω kΩ MΩ µs µm µg µV µA µF µW µJ µN µH µT µS µl µL "
    "km/h m/s m/s² kbit/s Mbit/s Gbit/s "
    "kbps Mbps kWh °C °F m² m³ cm² cm³ km² mm² mm³ kHz/s W/m² kg/m³ g/cm³ rad/s "
    "bit/s kB/s MB/s dB/oct KHz kg/m² mL kPa hPa "
    "ft² N·m kg·m² kg·m/s² kg·m²/s² kW·h m·s⁻¹ m·s⁻² dB/m V/m J/K kJ/mol mol/L g/mol mAh"
).split()

_ANY_ALONE = "|".join(sorted(map(re.escape, _ALONE), key=len, reverse=True))


def _names() -> dict[str, str]:
    found = dict(_OTHERS)
    for symbol, (name, prefixes) in _BASES.items():
        if symbol not in _NEVER_BARE:
            found[symbol] = name
        for prefix in prefixes:
            said = _PREFIXES[prefix]
            found[prefix + symbol] = f"{said}-{name}" if name == "ohm" else f"{said}{name}"
    return found


_NAMES = _names()
_SYMBOL = "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True))
_NAMES["K"] = "kelvin"  # only below a line: 5 K may be five thousand
_POWER = r"(?:\^?(?:[⁻−-]?[123]\b)|⁻?[¹²³])"
_ATOM = rf"(?:{_SYMBOL})(?:\^[⁻−-]?[123](?!\d)|⁻?[¹²³]|(?<=m)[23](?![\w.]))?"
_UNIT = rf"{_ATOM}(?:(?:/|·|⋅| per )(?:{_ATOM})|/K(?![\w(])|[·⋅ ]?K⁻¹|\s?(?:{_SYMBOL})⁻[¹²³]"
_UNIT += rf"|\s(?:{_SYMBOL})\^[−-][123](?!\d)){{0,3}}"
_PIECE = re.compile(rf"(?P<sign>/| per |·|⋅|\s)?(?P<symbol>{_SYMBOL}|K)(?P<power>\^?[⁻−-]?[123¹²³])?")
# Compounds that are units even without a number: a part has two letters and a prefix, or there is a power.
_LONG = "|".join(
    sorted(
        {re.escape(prefix + symbol) for symbol, (_, prefixes) in _BASES.items() for prefix in prefixes}
        | {"Pa", "Hz", "mol", "rad", "bit", "dB", "Wh"},
        key=len,
        reverse=True,
    )
)
_COMPOUND = (
    rf"(?:{_LONG})(?:[ ·](?:{_SYMBOL})⁻[¹²³]){{1,2}}|(?:{_LONG})[²³]?(?:[/·⋅](?:{_SYMBOL}|K)(?:⁻?[¹²³])?){{1,3}}"
    rf"|(?:{_SYMBOL})[/·⋅](?:{_LONG})(?:⁻?[¹²³])?(?:[/·⋅](?:{_SYMBOL}|K)(?:⁻?[¹²³])?){{0,2}}"
    rf"|(?:{_SYMBOL})(?:[/·⋅](?:{_SYMBOL})){{0,2}}[/·⋅](?:{_SYMBOL})⁻?[¹²³]"
)
_LENGTH = re.compile(r"(?:metre|foot|inch|mile|yard)s?$|feet$")


def _one(name: str, power: int) -> str:
    if power == 1:
        return name
    if _LENGTH.search(name):
        return f"{'square' if power == 2 else 'cubic'} {name}"
    return f"{name} {'squared' if power == 2 else 'cubed'}"


def _plural(name: str) -> str:
    head, per, rest = name.partition(" per ")
    for end in (
        " Celsius",
        " Fahrenheit",
        " of mercury",
        " full scale",
        " true peak",
        " peak to peak",
        " A",
        " C",
        " Z",
        " m",
        " u",
        " V",
        " SPL",
    ):
        if head.endswith(end):
            return f"{_plural(head[: -len(end)])}{end}{per}{rest}"
    if head in _INVARIABLE or any(head.endswith(word) for word in _INVARIABLE):
        return name
    if head in _IRREGULAR:
        return _IRREGULAR[head] + per + rest
    return f"{head}s{per}{rest}"


def unit_name(symbol: str, one: bool) -> str:
    """`m/s²` → metres per second squared; `one`: the singular."""
    above: list[str] = []
    below: list[str] = []
    for piece in _PIECE.finditer(symbol):
        power_text = (piece["power"] or "1").lstrip("^")
        power = int(power_text[-1].translate(str.maketrans("¹²³", "123")))
        inverse = piece["sign"] in ("/", " per ") or power_text[0] in "⁻−-"
        name = _NAMES[piece["symbol"]]
        (below if inverse else above).append(
            _one(name, power) if inverse or one else _pluralised(name, power)
        )
    if len(above) > 1 and not one:
        above = [_singular_but_last(above, place) for place in range(len(above))]
    return " per ".join([" ".join(above), *below]).strip()


def _singular_but_last(names: list[str], place: int) -> str:
    name = names[place]
    return name[:-1] if place < len(names) - 1 and name.endswith("s") else name


def _pluralised(name: str, power: int) -> str:
    plural = _plural(name)
    return _one(plural, power)


def _quantity(found: re.Match[str]) -> str:
    number, joint, symbol = found["number"], found["joint"], found["unit"]
    before, after = found.string[: found.start()], found.string[found.end() :]
    if symbol == "octave" and before.endswith("/"):
        return found[0]  # 1/3 octave
    if symbol in "mgsh" and re.match(r" [b-z](?:[²³]|\b)", after):
        return found[0]  # ½ m v²
    if len(symbol) == 1 and not joint and re.match(r"\s?[+*^]", after):
        return found[0]  # 2N + 1
    one = number == "1" or number in _VULGAR or joint == "-" or (symbol == "bit" and not joint)
    sign = {"-": "minus ", "−": "minus ", "+": "plus ", "±": "plus or minus "}.get(found["sign"] or "", "")
    return f"{sign}{number} {unit_name(symbol, one)}"


def _part(of: str) -> str:
    """60 → one sixtieth."""
    return ("" if of in ("100", "1000") else "one ") + ordinal(int(of))


def _count(number: str, name: str) -> str:
    return f"{number} {name}" if number == "1" else f"{number} {name}s"


_VULGAR = "½¼¾⅓⅔⅛⅜⅝⅞⅕"
_PER = r"(?:day|week|month|year|second|octave|decade|track|person|channel|sample|beat)"
_TIMES_TEN = r"\s?×\s?10(?:[⁰¹²³⁴-⁹⁻]{1,4}|\^[-−]?\d{1,3})"
_SIGNED = r"(?:(?P<sign>(?<![\w.,)])[-−+±])\s?)?"
_RULES = rules(
    (r"Ω", "Ω"),  # two code points for the ohm, two for the micro
    (r"μ(?=(?:[smgVAWFHJNTSlL]|Pa|Hz|mol|Sv|Gy|bar)(?![a-zA-Zα-ω]))", "µ"),
    (r"(?<=\d)\s?º\s?(?=[CF]\b)", "°"),
    (r"°\s(?=[CF]\b)", "°"),
    (r"(?<=\d)\s?deg\s?(?=[CF]\b)", "°"),
    (r"\bu(?=(?:s|m|g|V|A|F|H|L|l)\b)(?<=\d u)", "µ"),
    (
        r"(\d+)\s?°\s?(\d+)\s?[′']\s?(?:(\d+(?:\.\d+)?)\s?[″\"])?",
        lambda m: f"{m[1]} degrees {m[2]} minutes" + (f" {m[3]} seconds" if m[3] else "") + " ",
    ),
    (
        r"(?<![\w.,])(\d+) ?h ?(\d{1,2}) ?m(?:in)?\b",
        lambda m: f"{_count(m[1], 'hour')} {_count(m[2], 'minute')}",
    ),
    (
        r"(?<![\w.,])(\d+) ?m(?:in)? ?(\d{1,2}) ?s\b",
        lambda m: f"{_count(m[1], 'minute')} {_count(m[2], 'second')}",
    ),
    (
        r"(?<![\w.,])(\d{1,2})[′'’](1[2-9]|[2-5]\d)(?:[″\"”]|'')",
        lambda m: f"{_count(m[1], 'minute')} {m[2]} seconds",
    ),
    (
        r"(?<![\w.,])(\d{1,2})[′'’] ?(\d{1,2})(?:[″\"”]|''|(?=\s|[.,;]|$))",
        lambda m: f"{m[1]} {'foot' if m[1] == '1' else 'feet'} {m[2]}",
    ),
    (r"(?<![\w.,/])(\d* ?[½¼¾⅛⅜⅝⅞]|\d+/\d+) ?(?:″|\"(?=[ )\].,;]|$))", r"\1 inch"),
    (r"(?<![\w.])[-−–]inf\b", "minus infinity"),
    (r"(?<![\w.,])(\d+(?:\.\d+)?)″", lambda m: f"{m[1]} inch{'' if m[1] == '1' else 'es'}"),
    (r"(?<=\d)\s?°\s(?=(?:turn|angle|rotation|phase|arc|field|view|bend)s?\b)", " degree "),
    (
        rf"(?<![\w.,])([-−–+])?∞\s?({_ANY_ALONE})(?![\w²³⁻/°])",
        lambda m: f"{'minus ' if m[1] and m[1] in '-−–' else ''}infinity {unit_name(m[2], False)}",
    ),
    (r"(?<![\w.,/])1/(\d{1,5}) ?(?:s|sec|second)\b", lambda m: f"{_part(m[1])} of a second"),
    (rf"/\(((?:{_SYMBOL}|K)[²³]?)[·⋅ ]((?:{_SYMBOL}|K)[²³]?)\)", r"/\1/\2"),
    (r"(?<=/m²)[·⋅ ]?K(?!\w)", "/K"),
    (rf"(?<![\w.,])(\d{{1,3}}),(\d{{1,2}})(?=\s?(?:{_SYMBOL}|%)(?![\w²³]))", r"\1.\2"),  # a decimal comma
    (rf"(?<=\d)(\s?(?:{_UNIT}|[½¼¾]))\s?[–—]\s?(?=[-−+]?\d)", r"\1 to "),
    (r"(?<=[⁰¹²³⁴-⁹])\s?[–—]\s?(?=\d)", " to "),
    (
        rf"(?<!\w){_SIGNED}(?P<number>{NUMBER}(?:{_TIMES_TEN})?|10[⁰¹²³⁴-⁹⁻]{{1,4}}|\d*[{_VULGAR}])"
        rf"(?P<joint>[ -]?)(?P<unit>{_UNIT})(?![\w°²³⁻]|/(?!{_PER}\b)[a-zA-Z]|\.[a-z]\.)",
        _quantity,
    ),
    (
        rf"(?<![\w/°])(?:{_ANY_ALONE})(?![\w²³⁻/°])",
        lambda m: unit_name(m[0], False),
    ),
    (rf"(?<![\w/°])(?:{_COMPOUND})(?![\w²³⁻/°(])", lambda m: unit_name(m[0], False)),
    (rf"({NUMBER}) K(?=[.,;:)]|$| \(| (?:to|and|or)\b)", r"\1 kelvin"),
    (
        r"(?<=\bin )(?:kg|cm|mm|km|ms|ns|mg|mV|mA|GB|MB|kB|mg/dL|mg/mL|mm/s|cm/s)\b",
        lambda m: unit_name(m[0], False),
    ),
    (r"(?<=[a-z])/(?:s|sec)\b", " per second"),
    (r"(?<=[a-z])/(?:min|minute)\b", " per minute"),
    (r"(?<=[a-z])/(?:h|hr|hour)\b", " per hour"),
    (rf"(?<=[a-z])/({_PER})\b", r" per \1"),
    (r"(?<=\d feet )(\d{1,2}(?:\.\d)?) in\b\.?", r"\1 inches"),
    (rf"({NUMBER})\s?%", r"\1 percent"),
    (rf"({NUMBER})\s?‰", r"\1 per mille"),
    (r"(?<=π) ?rad\b", " radians"),
    (r"(?<=\d)\s?°(?=([NSEW]?))", lambda m: " degrees" + (" " if m[1] else "")),
    (r"\bA4(?= paper)", "A 4"),
)


def say(text: str) -> str:
    return apply(_RULES, text)
