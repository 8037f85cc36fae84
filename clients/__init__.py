"""Python client of the server: ask about sounds, read the answer while it is written.

>>> from clients import AudioFlamingo
>>> with AudioFlamingo() as flamingo:
...     for delta in flamingo.ask("dog.wav", "What do you hear?"):
...         print(delta.text, end="", flush=True)
"""

from clients.aio import AsyncAnswer, AsyncAudioFlamingo
from clients.answer import Delta
from clients.client import Answer, AudioFlamingo
from clients.errors import AudioFlamingoError, ServerNotReachable
from clients.request import DEFAULT_URL, Parameters
from clients.sound.samples import Samples
from clients.tls import Tls

__all__ = [
    "DEFAULT_URL",
    "Answer",
    "AsyncAnswer",
    "AsyncAudioFlamingo",
    "AudioFlamingo",
    "AudioFlamingoError",
    "Delta",
    "Parameters",
    "Samples",
    "ServerNotReachable",
    "Tls",
]
