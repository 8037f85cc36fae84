"""Make af3-tiny: `python -m checkpoints.train`. Synthesis, training, export, evaluation and samples, one command.

It can be stopped at any time and goes on where it was when started again. On two cores one trains and one
synthesises. Everything that is not the result lies in .cache/af3-tiny/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AudioFlamingo3ForConditionalGeneration, PreTrainedTokenizerBase

from checkpoints import card, dialogs, evaluate, evaluation_set, export, model, samples, tokenizer
from checkpoints.answer import answer_all
from checkpoints.data import Batch, Stream, batched, encode_dialog
from checkpoints.espeak import Espeak
from checkpoints.scenes import LABELS, Studio

CHECKPOINT = Path(__file__).parent / "af3-tiny"
WORK = Path(".cache/af3-tiny")

SEED = 20261123
POOLS = 1300  # of 128 conversations
LISTEN_POOLS = 120  # at first the encoder alone learns to name what happens when (CTC)
WARMUP_STEPS = 150
DECAY_SHARE = 0.5  # the last part of the run in which the learning rate falls to zero
PEAK_LR = 6e-4
CTC_WEIGHT = 0.3
AVERAGE_DECAY = 0.998  # of the running average of the weights, which is what is exported
SAVE_EVERY_POOLS = 20


class Run:
    """The state of a training run: all of it is saved, and a resumed run continues as if never stopped."""

    def __init__(self, words: PreTrainedTokenizerBase, pools: int) -> None:
        audio_id = words.convert_tokens_to_ids("<sound>")
        self.net = model.fresh(model.config(audio_id, words.eos_token_id, words.pad_token_id), SEED)
        model.use_training_attention(self.net)
        self.head = nn.Linear(self.net.config.audio_config.hidden_size, len(LABELS) + 1)
        self.trained = [p for p in [*self.net.parameters(), *self.head.parameters()] if p.requires_grad]
        self.average = [p.detach().clone() for p in self.trained]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.trained if p.ndim > 1], "weight_decay": 0.05},
                {"params": [p for p in self.trained if p.ndim == 1], "weight_decay": 0.0},
            ],
            lr=PEAK_LR,
            betas=(0.9, 0.98),
        )
        self.pools, self.pool, self.step = pools, 0, 0

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        left = (self.pools - self.pool) / (DECAY_SHARE * self.pools)
        return PEAK_LR * warm * min(1.0, left)

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step. Returns the answer loss (nan while only the encoder learns) and the CTC loss."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_fast_bfloat16()):
            rows = model.encode(self.net, batch.mels, batch.frames, batch.offsets)
            ctc = model.ctc_loss(self.head, rows, batch)
            if self.pool < LISTEN_POOLS:
                loss, answer = ctc, torch.tensor(torch.nan)
            else:
                logits, targets = model.answer_logits(self.net, rows, batch)
                answer = nn.functional.cross_entropy(logits.float(), targets)
                loss = answer + CTC_WEIGHT * ctc
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        self.step += 1
        decay = min(AVERAGE_DECAY, self.step / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.trained], 1 - decay)
        return answer.item(), ctc.item()

    def averaged(self) -> AudioFlamingo3ForConditionalGeneration:
        """A copy of the model with the averaged weights."""
        copy = AudioFlamingo3ForConditionalGeneration(self.net.config)
        copy.load_state_dict(self.net.state_dict())
        for target, source in zip(
            (p for p in copy.parameters() if p.requires_grad), self.average, strict=False
        ):
            target.data.copy_(source)
        model.use_training_attention(copy)
        return copy.eval()

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "head": self.head.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "pool": self.pool,
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.head.load_state_dict(state["head"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.pool, self.step = state["pool"], state["step"]


def _fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; without, float32 is faster."""
    return torch.cpu._is_avx512_bf16_supported()


def check_batches(words: PreTrainedTokenizerBase) -> list[tuple[str, Batch]]:
    """A small held-out set of first-turn questions by kind, to watch the training by."""
    espeak = Espeak()
    studio = Studio(np.random.default_rng([SEED, 10**9]), espeak, held_out=True)
    by_task: dict[str, list] = {}
    for layout, count in ((dialogs.SHORT, 320), (dialogs.PADDED, 40)):
        for i in range(count):
            studio.layout = layout
            scene = [*dialogs.SCENE_WEIGHTS][i % len(dialogs.SCENE_WEIGHTS)]
            turns = dialogs.about_one_clip(studio, scene, most_turns=1)
            name = scene if layout is dialogs.SHORT else "padded"
            by_task.setdefault(name, []).append(encode_dialog(turns, words))
    studio.layout = dialogs.SHORT
    for i in range(48):
        key = dialogs.PAIR_KEYS[i % len(dialogs.PAIR_KEYS)]
        by_task.setdefault("pair", []).append(
            encode_dialog(dialogs.about_two_clips(studio, key, False, True), words)
        )
    espeak.close()
    return [(task, b) for task, examples in by_task.items() for b in batched(examples, words.pad_token_id)]


@torch.no_grad()
def check(net: AudioFlamingo3ForConditionalGeneration, batches: list[tuple[str, Batch]]) -> dict[str, float]:
    """Share of wholly right answers by scene (greedy and teacher-forced agree on 'wholly right')."""
    right, asked = Counter(), Counter()
    for task, batch in batches:
        rows = model.encode(net, batch.mels, batch.frames, batch.offsets)
        logits, targets = model.answer_logits(net, rows, batch)
        conversation = (batch.labels[:, 1:] >= 0).nonzero()[:, 0]
        wrong = torch.zeros(len(batch.ids)).index_add(0, conversation, (logits.argmax(-1) != targets).float())
        right[task] += int((wrong == 0).sum())
        asked[task] += len(batch.ids)
    return {task: round(right[task] / asked[task], 3) for task in asked}


def train(run: Run, words: PreTrainedTokenizerBase, work: Path) -> None:
    """Train from where the run is to its end."""
    if run.pool >= run.pools:
        return
    held_out = check_batches(words)
    stream = DataLoader(
        Stream(words, SEED, run.pool, run.pools), batch_size=None, num_workers=1, prefetch_factor=4
    )
    bar = tqdm(stream, initial=run.pool, total=run.pools, unit="pool", smoothing=0.02)
    for batches in bar:
        losses = np.array([run.learn(batch) for batch in batches]).mean(0)
        run.pool += 1
        bar.set_postfix_str(f"answer {losses[0]:.3f} ctc {losses[1]:.3f}")
        if run.pool % SAVE_EVERY_POOLS and run.pool != run.pools:
            continue
        run.save(work / "state.pt")
        figures = check(run.averaged(), held_out)
        line = {
            "time": time.time(),
            "pool": run.pool,
            "step": run.step,
            "answer": losses[0],
            "ctc": losses[1],
        }
        with (work / "log.jsonl").open("a") as log:
            log.write(json.dumps(line | figures) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=CHECKPOINT, help="the checkpoint's folder")
    parser.add_argument("--work", type=Path, default=WORK, help="where the run's state is kept")
    parser.add_argument(
        "--pools", type=int, default=POOLS, help="length of the run, in pools of 128 conversations"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of the training; synthesis takes one more core"
    )
    parser.add_argument("--export-now", action="store_true", help="no training: only what follows it")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    words = tokenizer.build()
    run = Run(words, arguments.pools)
    if (arguments.work / "state.pt").exists():
        run.load(arguments.work / "state.pt")
    if not arguments.export_now:
        train(run, words, arguments.work)
    export.save(run.averaged(), words, arguments.output)
    samples.write(samples.FOLDER)
    evaluate_and_describe(arguments.output, arguments.work / "evaluation")


def evaluate_and_describe(checkpoint: Path, folder: Path) -> None:
    """Ask Transformers everything, print the table, and write it into the model card."""
    evaluation_set.write(folder)
    answers = folder / "transformers.jsonl"
    answer_all(checkpoint, folder, answers)
    scores = evaluate.scored(evaluate.read_lines(folder / "expected.jsonl"), evaluate.read_lines(answers))
    print(evaluate.table(scores))
    card.write(checkpoint, scores, evaluation_set.LENGTH_SHARE)


if __name__ == "__main__":
    main()
