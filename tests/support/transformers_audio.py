"""Samples as Transformers reads them: the newest reads by itself, the last for Python 3.10 borrows librosa."""

import sys
from functools import partial

from transformers.audio_utils import load_audio

read = partial(load_audio, backend="soundfile" if sys.version_info >= (3, 11) else "librosa")
