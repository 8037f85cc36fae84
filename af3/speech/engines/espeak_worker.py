"""Runs eSpeak NG as a separate program: JSON lines in, PCM or phonemes out. The server never imports this.

eSpeak NG is under the GPL, so the server starts this file as a separate process and talks to it over two pipes. It uses
only the standard library; run it as


    python espeak_worker.py LIBESPEAK_NG ESPEAK_NG_DATA

At start it writes its sample rate as one uint32. For each line `{"voice": name, "words_per_minute": int, "text": str}`
on stdin it writes blocks of int16 PCM, each preceded by its length in bytes (uint32, native order); a length of 0 ends
the text. After each block it waits for one byte on stdin: `+` asks for more, anything else ends the text. So it never
runs ahead of its reader, and a caller that hangs up costs one block. It exits when stdin closes, also when the server
was killed.

The reply to a line `{"voice": name, "phonemes": str}` is one block: the IPA of the text in UTF-8, with `^` between the
letters of a phoneme that has several.
"""

import ctypes
import json
import struct
import sys

SYNCHRONOUS_OUTPUT, BLOCK_MS = 2, 100
RATE_PARAMETER, UTF8 = 1, 1
TIED_IPA = 0x02 | 0x80 | ord("^") << 8
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def phonemes(espeak: ctypes.CDLL, text: str) -> str:
    """Return the IPA of `text`; eSpeak NG reads it clause by clause."""
    to_phonemes = espeak.espeak_TextToPhonemes
    to_phonemes.restype = ctypes.c_char_p
    to_phonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    left, clauses = ctypes.c_char_p(text.encode()), []
    while left.value is not None:
        clauses.append(to_phonemes(ctypes.byref(left), UTF8, TIED_IPA).decode())
    return " ".join(clauses)


def main(library: str, data: str) -> None:
    """Serve until stdin closes."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    espeak = ctypes.CDLL(library)
    hz = espeak.espeak_Initialize(SYNCHRONOUS_OUTPUT, BLOCK_MS, data.encode(), 0)
    if hz <= 0:
        raise SystemExit(f"eSpeak NG found no data in {data}")

    def on_audio(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if not samples or count <= 0:
            return 0
        replies.write(struct.pack("=I", 2 * count) + ctypes.string_at(samples, 2 * count))
        replies.flush()
        return 0 if requests.read(1) == b"+" else 1

    callback = CALLBACK(on_audio)  # keep a reference: eSpeak NG holds none
    espeak.espeak_SetSynthCallback(callback)
    replies.write(struct.pack("=I", hz))
    replies.flush()
    for line in requests:
        request = json.loads(line)
        if espeak.espeak_SetVoiceByName(request["voice"].encode()) != 0:
            raise SystemExit(f"eSpeak NG has no voice {request['voice']!r}")
        if "phonemes" in request:
            found = phonemes(espeak, request["phonemes"]).encode()
            replies.write(struct.pack("=I", len(found)) + found)
            replies.flush()
            continue
        espeak.espeak_SetParameter(RATE_PARAMETER, request["words_per_minute"], 0)
        text = request["text"].encode()
        espeak.espeak_Synth(text, len(text) + 1, 0, 0, 0, UTF8, None, None)
        replies.write(struct.pack("=I", 0))
        replies.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
