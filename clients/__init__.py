"""Python client of the server: ask about sounds, read the answer while it is written.

>>> from audio_flamingo import AudioFlamingo
>>> with AudioFlamingo() as flamingo:
...     for delta in flamingo.ask("dog.wav", "What do you hear?"):
...         print(delta.text, end="", flush=True)
"""

from .aio import AsyncAnswer, AsyncAudioFlamingo
from .answer import Delta
from .client import Answer, AudioFlamingo
from .errors import AudioFlamingoError, ServerNotReachable
from .request import DEFAULT_URL, Parameters
from .sound.samples import Samples
from .tls import Tls
from .version import VERSION as __version__

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
    "__version__",
]
