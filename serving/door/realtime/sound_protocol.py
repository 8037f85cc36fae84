"""Messages between the door and its sound process. Imports nothing heavy, because the door imports it.

A message is HEAD (bytes of the payload, number of the stream, kind) and the payload. The process answers every message
of sound with one of the same stream, in order.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<IIB")
RATES = struct.Struct("<II")  # payload of OPEN_*: the rate of the sound, and the rate to convert to
# Kinds. SOUND, LAST: the payload is little-endian int16.
OPEN_DETECTOR, OPEN_CONVERTER, SOUND, LAST, CLOSE = range(5)
