"""eSpeak NG as a program of its own: JSON lines in, PCM or phonemes out. Never imported by the server.

eSpeak NG is licensed under the GPL, so the server does not load it: it starts this file as a separate
process and talks to it over two pipes. Standard library only; run as

    python espeak_worker.py LIBESPEAK_NG ESPEAK_NG_DATA

At start it writes its sample rate as one uint32. Then, per line
`{"voice": name, "words_per_minute": int, "text": str}` on stdin, it writes blocks of int16 PCM, each
behind its length in bytes (uint32, native order); a length of 0 ends the text. After each block it waits
for one byte on stdin: `+` asks for more, anything else ends the text. So it never runs ahead of its
reader, and a caller that hangs up costs one block. It leaves when stdin closes, also when the server
was killed.

A line `{"voice": name, "phonemes": str}` is answered with one block instead, the IPA of the text in UTF-8, with `^`
between the letters of a phoneme that has several.
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
    """The IPA of `text`, whose clauses eSpeak NG reads one by one."""
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

    callback = CALLBACK(on_audio)  # kept in a name: eSpeak holds no reference to it
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
