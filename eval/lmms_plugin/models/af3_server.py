"""A model of lmms-eval that asks a server over the OpenAI API, and fails where a sample's sound cannot be sent."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.api.registry import register_model
from openai import OpenAI

MAX_TOKENS = 1024


@register_model("af3_server")
class Af3Server(lmms):
    """`model`: as /v1/models lists it; `think`: it reasons first; `text_only`: samples without sound are allowed."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000/v1",
        model: str = "audio_flamingo",
        api_key: str = "none",
        concurrency: int = 8,
        think: bool = False,
        text_only: bool = False,
        **_: Any,  # batch_size, device and the like, which every model of lmms-eval is given
    ):
        super().__init__()
        self._client = OpenAI(base_url=base_url, api_key=api_key, timeout=600)
        self._model = model
        self._concurrency = int(concurrency)
        self._think = bool(think)
        self._text_only = bool(text_only)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self._ask, requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("the server gives no log probabilities; take a task of generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("take a task of one round")

    def _ask(self, request: Instance) -> str:
        text, options, doc_to_visual, doc_id, task, split = request.args
        clips = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        if not clips and not self._text_only:
            raise ValueError(f"{task}/{split}/{doc_id}: no sound; text_only=True allows that")
        content: list[dict[str, Any]] = [
            {
                "type": "input_audio",
                "input_audio": {"data": base64.b64encode(wav(clip)).decode(), "format": "wav"},
            }
            for clip in clips
        ]
        options = dict(options)
        until = options.get("until") or None
        reply = self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": [*content, {"type": "text", "text": text}]}],  # type: ignore[list-item, misc]
            max_tokens=min(int(options.get("max_new_tokens", MAX_TOKENS)), MAX_TOKENS),
            temperature=float(options.get("temperature") or 0.0),
            stop=until,
            extra_body={"think": True} if self._think else None,
        )
        answer = reply.choices[0].message.content or ""
        details = reply.usage.prompt_tokens_details if reply.usage else None
        if clips and not (details and details.audio_tokens):
            raise ValueError(f"{task}/{split}/{doc_id}: the server heard nothing of {len(clips)} clip(s)")
        return answer


def wav(clip: Any) -> bytes:
    """A whole file of a clip as data sets hold it: a path, {"array", "sampling_rate"}, {"bytes"}, or a decoder of
    torchcodec. Samples keep their rate, channels and values. Raises ValueError for anything else.
    """
    if isinstance(clip, str | Path):
        return Path(clip).read_bytes()
    if hasattr(clip, "get_all_samples"):
        samples = clip.get_all_samples()
        return _file(np.asarray(samples.data).T, samples.sample_rate)
    if isinstance(clip, dict) and clip.get("array") is not None:
        return _file(np.asarray(clip["array"]), int(clip["sampling_rate"]))
    if isinstance(clip, dict) and clip.get("bytes"):
        return bytes(clip["bytes"])
    raise ValueError(f"a clip of type {type(clip).__name__} cannot be sent")


def _file(samples: np.ndarray, hz: int) -> bytes:
    """[n] or [n, channels]; float32 keeps every value."""
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), hz, format="WAV", subtype="FLOAT")
    return file.getvalue()
