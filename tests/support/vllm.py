"""Engines for vLLM, vLLM itself without Triton, and an adapter to think with."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from af3 import contract
from af3.adapters import adapter_of
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import windows_of
from af3.inputs.prepare import Preprocessor
from af3.llm.choose import load_engine
from af3.llm.generation import generation
from af3.llm.interface import EngineStats
from af3.llm.vllm_engine import REPOSITORY, VllmEngine
from af3.manifest import Manifest
from build_engines import stage
from build_engines.source.checkpoint import canonical_name
from build_engines.source.packed import linear_shape, open_for_vllm
from build_engines.source.think import CONFIG, WEIGHTS, Adapter
from build_engines.targets import any as any_gpu
from serving.steps.settings import LlmSettings

PYTHON = REPOSITORY / ".venv-vllm" / "bin" / "python"
START_TIMEOUT_S = 600  # of a busy machine; half a minute on an idle one
ANSWER_TIMEOUT_S = 200
RANK = 4
SLOTS, QUEUE = 16, 64


def write_adapter(checkpoint: Path, folder: Path) -> None:
    """A random LoRA on every projection of the LLM, strong enough to change answers."""
    torch.manual_seed(7)
    source = open_for_vllm(str(checkpoint))
    weights: dict[str, torch.Tensor] = {}
    for name in sorted(source.weights):
        if not (name.startswith("language_model.layers.") and name.endswith("_proj.weight")):
            continue
        layer = name.removeprefix("language_model.").removesuffix(".weight")
        rows, columns = linear_shape(source.text_config, layer)
        weights[f"base_model.model.model.{layer}.lora_A.weight"] = torch.randn(RANK, columns) / columns**0.5
        weights[f"base_model.model.model.{layer}.lora_B.weight"] = 0.3 * torch.randn(rows, RANK)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"r": RANK, "lora_alpha": 2 * RANK, "use_rslora": False}))


def build(
    checkpoint: Path, output: Path, adapters: dict[str, Path], precision: str | None = None
) -> dict[str, Adapter]:
    """What `make engines GPU=cpu LLM=vllm` does, in this process."""
    source = open_for_vllm(str(checkpoint))
    opened = any_gpu.open_adapters(source, False, [f"{name}={folder}" for name, folder in adapters.items()])
    sources = any_gpu.Sources(source, opened)
    stamps = stage.run(any_gpu.stages(sources), output)
    served = any_gpu.precision_of("cpu", precision, source.quantisation)
    any_gpu.write_manifest(sources, "cpu", served, stamps, output)
    return opened


class Answer:
    """`af3.llm.sequence.Listener`: waits for the end of one answer."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.gone = False
        self.first, self.done = threading.Event(), threading.Event()

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        self.ids.extend(ids)
        self.first.set()
        if final:
            self.done.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.first.set()
        self.done.set()

    def cancelled(self) -> bool:
        return self.gone

    def wait(self) -> list[int]:
        assert self.done.wait(ANSWER_TIMEOUT_S), "no end of the answer"
        if self.error is not None:
            raise self.error
        return self.ids


class Observed:
    """`af3.llm.interface.Observer` that remembers."""

    def __init__(self) -> None:
        self.running = self.waiting = 0
        self.last = EngineStats(0.0, 0, 0, 0)
        self.was_lost = threading.Event()

    def counts(self, running: int, waiting: int) -> None:
        self.running, self.waiting = running, waiting

    def turned(self, busy: bool) -> None:
        pass

    def stats(self, stats: EngineStats) -> None:
        self.last = stats

    def lost(self) -> None:
        self.was_lost.set()


class Leaf:
    """The steps preprocess, audio_encoder and llm, without Triton."""

    def __init__(self, engines: Path, kv_cache_gib: float = 1):
        self.engines = engines
        self.manifest = Manifest.read(engines)
        self.observed = Observed()
        self._preprocessor = Preprocessor.load(engines)
        self._encoder = AudioEncoder.load(engines / "audio_encoder", threads=1)
        engine = load_engine(
            LlmSettings(
                engine_dir=engines,
                engine="vllm",
                slots=SLOTS,
                max_queue=QUEUE,
                prefill_tokens=2048,
                threads=2,
                kv_cache_gib=kv_cache_gib,
            ),
            self.observed,
        )
        assert isinstance(engine, VllmEngine)
        self.engine = engine

    def submit(
        self,
        request_id: str,
        question: str,
        clips: Sequence[bytes] = (),
        timeout_s: float = 0,
        endless: bool = False,
        **parameters: Any,
    ) -> Answer:
        """endless: no token ends the answer, only max_tokens."""
        tensors: dict[str, Any] = self._preprocessor.prepare(request_id, parameters, clips, question, None)
        windows_tensors = (contract.PCM, contract.PCM_LENGTHS, contract.WINDOW_INDEX)
        pcm, lengths, index = (tensors[tensor.name][0] for tensor in windows_tensors)
        windows = windows_of(pcm, lengths, index, self.manifest.limits)
        embeddings = self._encoder.encode(windows)
        tensors[contract.PROMPT_EMBEDDING_TABLE.name] = self._encoder.join(embeddings) if windows else None
        tensors = {tensor.name: tensors.get(tensor.name) for tensor in contract.LLM.inputs}
        if endless:
            tensors[contract.END_ID.name] = tensors[contract.STOP_WORDS_LIST.name] = None
        lora = adapter_of(parameters, self.manifest.adapters)
        answer = Answer()
        self.engine.submit(generation(request_id, tensors, int(timeout_s * 1e6), lora), answer)
        return answer

    def ask(
        self, request_id: str, question: str, clips: Sequence[bytes] = (), **parameters: Any
    ) -> list[int]:
        return self.submit(request_id, question, clips, **parameters).wait()


def merged_state(adapter: Adapter, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights with the adapter in them: what Transformers answers with then."""
    state = model.state_dict()
    return {name: adapter.merged(canonical_name(name), weight) for name, weight in state.items()}
