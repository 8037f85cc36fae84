"""The offline voices by our names. A file of its own: the launcher names them, and need not import what speaks."""

# Our name → eSpeak NG's: a language, then a speaker variant.
VOICES = {
    "en-us": "en-us",
    "en-us-female": "en-us+f3",
    "en-us-low": "en-us+m3",
    "en-gb": "en-gb-x-rp",
    "en-gb-female": "en-gb-x-rp+f2",
}
