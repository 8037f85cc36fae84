"""What FP8 costs the trained checkpoint: its answers on held-out questions, simulated on a CPU."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import clip_windows
from af3.inputs import chat_messages
from af3.inputs.prompt import PromptBuilder
from af3.manifest import Manifest
from af3.tokenizer import Tokenizer
from build_engines.llm import fp8, qwen
from build_engines.source.checkpoint import open_checkpoint
from tests.support.engines import CACHE, build_cpu_engines

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
CALIBRATED_ON, ASKED = 48, 48
LONGEST_ANSWER = 48


class Examiner:
    """Questions about synthetic clips, laid out and embedded as the server does it."""

    def __init__(self, engines: Path):
        self.manifest = Manifest.read(engines)
        self.encoder = AudioEncoder.load(engines / "audio_encoder", threads=1)
        self.words = RawTokenizer.from_file(str(engines / "tokenizer" / "tokenizer.json"))
        tokenizer = Tokenizer.load(engines / "tokenizer")
        self.builder = PromptBuilder(tokenizer, self.manifest.model, self.manifest.limits, engine_identity="")

    def questions(self, seed: int, count: int, held_out: bool) -> list[tuple[fp8.Sample, str]]:
        """(sample, right answer); `held_out`: voices and wordings that training never heard."""
        from training.dialogs import about_one_clip
        from training.espeak_process import Espeak
        from training.scenes import SCENES, Studio

        studio = Studio(np.random.default_rng(seed), Espeak(), held_out)
        scenes = list(SCENES)
        turns = [
            about_one_clip(studio, scenes[place % len(scenes)], most_turns=1)[0] for place in range(count)
        ]
        return [(self._sample(turn.parts), turn.answer) for turn in turns]

    def answers(self, model: PreTrainedModel, samples: Sequence[fp8.Sample]) -> list[str]:
        """Greedy answers, one after the other."""
        facts = self.manifest.model
        said = []
        for sample in samples:
            with torch.inference_mode():
                ids = model.generate(
                    inputs_embeds=fp8.embed(model, *sample),
                    max_new_tokens=LONGEST_ANSWER,
                    do_sample=False,
                    eos_token_id=list(facts.stop_token_ids),
                    pad_token_id=facts.pad_token_id,
                )[0]
            said.append(self.words.decode(ids.tolist(), skip_special_tokens=True))
        return said

    def _sample(self, parts: Sequence[object]) -> fp8.Sample:
        text = "".join(part for part in parts if isinstance(part, str))
        [clip] = [part for part in parts if not isinstance(part, str)]
        pcm = np.asarray(clip.pcm, np.float32)
        ids = self.builder.build(
            chat_messages.from_prompt(text, clips=1), [pcm], max_tokens=1, think=False
        ).input_ids
        table = np.concatenate(self.encoder.encode(clip_windows(pcm)))
        return torch.from_numpy(ids), torch.from_numpy(table)


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    if not CHECKPOINT.exists():
        pytest.skip("checkpoints/af3-tiny is not there")
    engines = CACHE / "engines-af3-tiny" / "cpu"
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", engines)
    return Examiner(engines)


def test_fp8_answers_held_out_questions_as_full_precision_does(examiner, tmp_path):
    torch.set_num_threads(1)
    qwen.build(open_checkpoint(str(CHECKPOINT)), None, tmp_path)
    exam = examiner.questions(seed=2, count=ASKED, held_out=True)
    samples, right = [sample for sample, _ in exam], [answer for _, answer in exam]

    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    full = examiner.answers(model, samples)
    prompts = [fp8.answered(model, fp8.embed(model, *sample)) for sample in samples]
    full_logits = [fp8.answer_logits(model, prompt) for prompt in prompts]
    heard = examiner.questions(seed=1, count=CALIBRATED_ON, held_out=False)
    seen = [fp8.answered(model, fp8.embed(model, *sample)) for sample, _ in heard]
    fp8.simulate(model, fp8.find_ranges(model, seen))
    quantised = examiner.answers(model, samples)
    figures = fp8.compare(full_logits, [fp8.answer_logits(model, prompt) for prompt in prompts])

    def share_right(answers: list[str]) -> float:
        return float(np.mean([said == wanted for said, wanted in zip(answers, right, strict=True)]))

    same = float(np.mean([before == after for before, after in zip(full, quantised, strict=True)]))
    print(
        f"right: {share_right(full):.3f} → {share_right(quantised):.3f}, same answer: {same:.3f}",
        file=sys.stderr,
    )
    assert share_right(full) > 0.7
    assert share_right(quantised) >= share_right(full) - 2.5 / ASKED  # two answers of 48
    assert same >= 0.9
    assert figures["kl_nats"] < 0.02
    assert figures["disagreement"] < fp8.DISAGREEMENT_BOUND
