"""Makes af3-tiny: `python -m training.train` trains, exports and evaluates it, and makes the sample clips.

The command can be stopped at any time and resumes where it stopped. Two processes train on two cores, each on its own
conversations, and average their gradients. Everything but the result is in .cache/af3-tiny/.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AudioFlamingo3ForConditionalGeneration, PreTrainedTokenizerBase

from training import (
    card,
    evaluate,
    evaluation_set,
    export,
    natural_clips,
    progress,
    sample_clips,
    tiny_model,
    train_tokenizer,
)
from training.answer_questions import answer_all
from training.data import Batch, Phase, Stream
from training.muon import Muon
from training.phases import AVERAGED, PHASES

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "af3-tiny"
WORK = Path(".cache/af3-tiny")

SEED = 20261125
WARMUP_STEPS = 60
DECAY_SHARE = 0.7  # the learning rate falls over this last share of a phase
WEIGHT_DECAY = 0.02
PROCESSES = 2
SAVE_EVERY_POOLS = 25
CHECK_EVERY_POOLS = 50


class Run:
    """The whole state of a training run; a run loaded from it continues as if it had never stopped."""

    def __init__(self, words: PreTrainedTokenizerBase, phases: tuple[Phase, ...]) -> None:
        audio_id = words.convert_tokens_to_ids("<sound>")
        self.net = tiny_model.fresh(tiny_model.config(audio_id, words.eos_token_id, words.pad_token_id), SEED)
        self.label_ids = torch.tensor(train_tokenizer.label_ids(words))
        self.phases = phases
        self.enter(0)

    def enter(self, number: int) -> None:
        """Begin a phase: select its weights and make fresh optimizers."""
        self.number, self.phase, self.pool, self.step = number, self.phases[number], 0, 0
        encoder = nn.ModuleList([self.net.model.audio_tower, self.net.model.multi_modal_projector])
        llm = nn.ModuleList([self.net.model.language_model, self.net.lm_head])
        parts = {"read": [llm], "listen": [encoder]}.get(self.phase.name, [encoder, llm])
        self.trained = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
        tables = {self.net.lm_head.weight, self.net.get_input_embeddings().weight}
        matrices = [weight for weight in self.trained if weight.ndim > 1 and weight not in tables]
        others = [weight for weight in self.trained if weight.ndim == 1 or weight in tables]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, self.phase.peak_lr, WEIGHT_DECAY),
            torch.optim.AdamW(others, self.phase.peak_lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def learning_rate(self) -> float:
        done = (self.pool + self.step % self.phase.batches / self.phase.batches) / self.phase.pools
        left = min(1.0, max(0.0, 1 - done) / DECAY_SHARE)
        rate = self.phase.last_lr + (self.phase.peak_lr - self.phase.last_lr) * left
        return rate * min(1.0, (self.step + 1) / WARMUP_STEPS)

    def losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the answer loss and the CTC loss; a loss that the phase does not use is zero."""
        answer = ctc = torch.zeros(())
        audio = tiny_model.projected(self.net, batch) if batch.heard else None
        if audio is not None:
            names = self.net.get_input_embeddings().weight[self.label_ids].detach()
            ctc = tiny_model.ctc_loss(names, audio, batch)
        if self.phase.name != "listen":
            logits, targets = tiny_model.answer_logits(self.net, batch, audio)
            answer = nn.functional.cross_entropy(logits, targets)
        return answer, ctc

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Take one step together with the other processes, on a batch of our own; return our losses."""
        answer, ctc = self.losses(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (answer + ctc).backward()
        _share_gradients(self.trained)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        rate = self.learning_rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.step += 1
        return answer.item(), ctc.item()

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "at": (self.number, self.pool, self.step),
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        number, pool, step = state["at"]
        self.enter(number)
        self.pool, self.step = pool, step
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _share_gradients(weights: list[nn.Parameter]) -> None:
    """Average every gradient over all processes; a weight without a gradient counts as zero."""
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for weight, mean in zip(weights, together.split([w.numel() for w in weights]), strict=True):
        weight.grad = mean.view_as(weight)


def train(run: Run, words: PreTrainedTokenizerBase, work: Path, rank: int) -> None:
    """Train from the run's position to its end; process 0 saves, checks and shows the progress."""
    first, parent = rank == 0, os.getppid()
    for number in range(run.number, len(run.phases)):
        if number != run.number:
            run.enter(number)
        phase = run.phase
        held_out = progress.check_batches(words, phase, SEED) if first else []
        stream = DataLoader(
            Stream(words, phase, (SEED, number), rank, run.pool),
            batch_size=None,
            num_workers=1,
            prefetch_factor=2,
        )
        bar = tqdm(
            stream,
            initial=run.pool,
            total=phase.pools,
            unit="pool",
            desc=phase.name,
            smoothing=0.02,
            disable=not first,
        )
        for batches in bar:
            if os.getppid() != parent:  # the command was killed
                return
            losses = np.array([run.learn(batch) for batch in batches]).mean(0)
            run.pool += 1
            bar.set_postfix_str(f"answer {losses[0]:.3f} ctc {losses[1]:.3f}")
            done = run.pool == phase.pools
            if first and done:
                torch.save(run.net.state_dict(), _end(work, number))
            if first and (done or run.pool % SAVE_EVERY_POOLS == 0):
                run.save(work / "state.pt")
            if first and (done or run.pool % CHECK_EVERY_POOLS == 0):
                line = {"time": time.time(), "phase": phase.name, "pool": run.pool, "step": run.step}
                line |= {"answer": round(losses[0], 4), "ctc": round(losses[1], 4)}
                figures = progress.check(run.net, held_out)
                with (work / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line | figures) + "\n")


def _end(work: Path, number: int) -> Path:
    """The weights at the end of a phase."""
    return work / f"end-{number}.pt"


def mean_of_ends(work: Path, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
    """The mean of the weights at the ends of these phases."""
    ends = [torch.load(_end(work, number), weights_only=True) for number in numbers]
    return {name: torch.stack([end[name] for end in ends]).mean(0) for name in ends[0]}


def _process(rank: int, rendezvous: str, work: Path, phases: tuple[Phase, ...]) -> None:
    """Run one of the training processes; `rendezvous` is the file through which they find each other."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.manual_seed(SEED + rank)
    init_method = f"file://{rendezvous}"
    distributed.init_process_group("gloo", init_method=init_method, rank=rank, world_size=PROCESSES)
    words = train_tokenizer.build()
    run = Run(words, phases)
    if (work / "state.pt").exists():
        run.load(work / "state.pt")
    distributed.barrier()  # no process saves before all have loaded
    train(run, words, work, rank)
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=CHECKPOINT, help="the checkpoint's folder")
    parser.add_argument("--work", type=Path, default=WORK, help="where the run's state is kept")
    parser.add_argument(
        "--length",
        type=float,
        default=1.0,
        help="scales the training: 1 takes over three hours on two cores with AMX, longer without",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with its weights, in the first phase with natural voices or in that of --phase",
    )
    parser.add_argument(
        "--phase", type=int, metavar="N", help="the phase of PHASES that --weights begins with, from 0"
    )
    parser.add_argument("--export-now", action="store_true", help="skip the training: export the saved state")
    arguments = parser.parse_args()

    arguments.work.mkdir(parents=True, exist_ok=True)
    phases = tuple(replace(phase, pools=round(arguments.length * phase.pools)) for phase in PHASES)
    if arguments.weights and not (arguments.work / "state.pt").exists():
        run = Run(train_tokenizer.build(), phases)
        run.net.load_state_dict(
            AudioFlamingo3ForConditionalGeneration.from_pretrained(
                arguments.weights, dtype="float32"
            ).state_dict()
        )
        people = [phase.name for phase in phases].index("people")
        run.enter(people if arguments.phase is None else arguments.phase)
        run.save(arguments.work / "state.pt")
    if not arguments.export_now:
        natural_clips.make()
        # By default glibc returns every large tensor to the system; a tenth of the time would go into fresh pages.
        os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(
                _process, (f"{folder}/rendezvous", arguments.work.absolute(), phases), nprocs=PROCESSES
            )
    words = train_tokenizer.build()
    run = Run(words, phases)
    run.load(arguments.work / "state.pt")
    if not arguments.export_now:
        run.net.load_state_dict(mean_of_ends(arguments.work, range(len(phases))[-AVERAGED:]))
    export.save(run.net, words, arguments.output)
    sample_clips.write(sample_clips.FOLDER)
    evaluate_and_describe(arguments.output, arguments.work / "evaluation")


def evaluate_and_describe(checkpoint: Path, folder: Path) -> None:
    """Evaluate the checkpoint with Transformers, print the table and write it into the model card."""
    evaluation_set.write(folder)
    answers = folder / "transformers.jsonl"
    answer_all(checkpoint, folder, answers)
    scores = evaluate.scored(evaluate.read_lines(folder / "expected.jsonl"), evaluate.read_lines(answers))
    print(evaluate.table(scores))
    card.write(checkpoint, scores, evaluation_set.LENGTH_SHARE)


if __name__ == "__main__":
    main()
