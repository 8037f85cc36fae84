"""The parts of af3-tiny's training: the optimizer, what the encoder is taught to say, the batches."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import tiny_model
from training.data import Phase, Stream, batched, encode_dialog
from training.dialogs import about_one_clip, pair, training_dialog
from training.espeak_process import ESPEAK_HZ, Utterance
from training.espeak_voices import Speaker
from training.mixes import PEOPLE, SYNTHETIC, Mix
from training.muon import Muon, orthogonal
from training.natural_clips import NaturalClips
from training.scenes import DIGITS, LABELS, PEAKS, REPEATING_SHARE, SCENES, Studio, digit_string, digit_words
from training.signals import INSTRUMENTS, SAMPLE_RATE
from training.train import Run, mean_of_ends
from training.unknown import HONEST


class Tone:
    """Stands in for espeak-ng: half a second of a tone, then half a second of silence, for any text."""

    def say(self, utterance: Utterance) -> np.ndarray:
        half = np.sin(np.arange(ESPEAK_HZ // 2, dtype=np.float32) / 8)
        return np.concatenate([half, np.zeros_like(half)])


def silent_studio(seed: int) -> Studio:
    return Studio(np.random.default_rng(seed), None, held_out=False)


@pytest.mark.parametrize("shape", [(3, 20, 64), (2, 64, 20), (1, 32, 32)])
def test_an_orthogonal_step_has_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_fits_a_linear_map() -> None:
    torch.manual_seed(0)
    wanted, found = torch.randn(8, 12), torch.zeros(8, 12, requires_grad=True)
    optimizer = Muon([found], lr=0.1)
    for step in range(200):
        x = torch.randn(12, 64)
        optimizer.zero_grad()
        (found @ x - wanted @ x).square().mean().backward()
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        optimizer.step()
    assert (found - wanted).abs().max() < 0.05


def test_every_label_has_an_id_of_its_own_and_a_row_of_the_vocabulary(label_ids: list[int], words) -> None:
    assert len(set(label_ids)) == len(LABELS) + 1
    assert max(label_ids) < tiny_model.VOCABULARY
    assert words.decode([label_ids[LABELS.index("three") + 1]]) == " three"


def test_every_scene_can_be_read_without_being_recorded(label_ids: list[int], words) -> None:
    for seed, scene in enumerate(SCENES):
        studio = silent_studio(seed)
        turns = about_one_clip(studio, scene)
        example = encode_dialog(turns, words, studio.rng, label_ids)
        assert not example.mels
        told = {i for i, read in zip(example.ids, example.read, strict=True) if read}
        clip = next(part for part in turns[0].parts if not isinstance(part, str))
        assert told - {label_ids[0]} == {label_ids[LABELS.index(label) + 1] for label in clip.labels}


def test_pools_of_a_phase_are_the_same_again_and_differ_between_processes(words) -> None:
    phase = Phase("read", pools=3, dialogs=4, batches=2, peak_lr=1, last_lr=0)

    def pool(rank: int, first: int) -> list[torch.Tensor]:
        return [batch.ids for batch in next(iter(Stream(words, phase, (1, 0), rank, first)))]

    def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    later = [batch.ids for batch in [*Stream(words, phase, (1, 0), 0, 0)][2]]
    assert equal(pool(0, 2), later)
    assert not equal(pool(0, 2), pool(1, 2))


def test_likely_labels_are_those_near_the_embedding() -> None:
    torch.manual_seed(0)
    names = torch.randn(5, 16)
    heard = names[[0, 3, 0, 1]]
    batch = tiny_model.Batch(
        mels=torch.zeros(1),
        frames=torch.tensor([8]),
        offsets=torch.zeros(1),
        ids=torch.zeros(1),
        labels=torch.zeros(1),
        positions=torch.zeros(1),
        mask=torch.zeros(1),
        read=torch.zeros(1),
        ctc_labels=torch.tensor([3, 1]),
        ctc_lengths=torch.tensor([2]),
        clip_windows=torch.tensor([1]),
    )
    assert tiny_model.ctc_loss(names, heard, batch) < 0.01
    assert tiny_model.ctc_loss(names, heard.flip(0), batch) > 5
    assert tiny_model.ctc_loss(names, 3 * heard, batch) > 5  # the nearest label, but nowhere near it


def test_each_phase_trains_its_own_weights(words) -> None:
    phases = tuple(Phase(name, 1, 1, 1, 1e-3, 0) for name in ("read", "listen", "answer", "people"))
    run = Run(words, phases)
    counts = []
    for number in range(4):
        run.enter(number)
        counts.append(sum(weight.numel() for weight in run.trained))
        assert len({id(w) for o in run.optimizers for g in o.param_groups for w in g["params"]}) == len(
            run.trained
        )
    assert counts[0] + counts[1] == counts[2] == counts[3]


def test_a_conversation_about_a_clip_that_is_read_is_learned(words, label_ids: list[int]) -> None:
    """A few steps on one batch bring the loss down: gradients reach what the phase trains."""
    studio = silent_studio(5)
    dialogs = [
        encode_dialog(training_dialog(studio, SYNTHETIC), words, studio.rng, label_ids) for _ in range(4)
    ]
    (batch,) = batched(dialogs, words.pad_token_id, 1)
    run = Run(words, (Phase("read", 10, 4, 1, 2e-3, 0),))
    losses = []
    for _ in range(8):
        answer, _ = run.losses(batch)
        for optimizer in run.optimizers:
            optimizer.zero_grad()
        answer.backward()
        for optimizer in run.optimizers:
            optimizer.step()
        losses.append(answer.item())
    assert losses[-1] < 0.7 * losses[0]


def test_notes_that_a_pair_compares_never_have_the_same_label() -> None:
    for seed in range(40):
        low, high, _ = pair(silent_studio(seed), "higher")
        assert set(low.labels) & set(high.labels) <= {*PEAKS, *INSTRUMENTS}


@pytest.mark.parametrize("held_out", [True, False])
def test_only_voices_of_the_training_are_played_at_other_speeds(held_out: bool) -> None:
    rng = np.random.default_rng(0)
    lengths = {len(Speaker(rng, Tone(), held_out).say("one")) for _ in range(20)}
    assert len(lengths) == 1 if held_out else len(lengths) > 10
    assert all(0.47 < length / SAMPLE_RATE - 0.04 < 0.53 for length in lengths)  # 0.04 s are left behind it


def test_silence_is_read_before_and_after_a_clip_that_is_heard(words, label_ids: list[int]) -> None:
    studio = Studio(np.random.default_rng(3), Tone(), held_out=False)
    turns = about_one_clip(studio, "one_sound", most_turns=1)
    example = encode_dialog(turns, words, studio.rng, nothing_id=label_ids[0])
    audio_id = words.convert_tokens_to_ids("<sound>")
    heard = [i for i, token in enumerate(example.ids) if token == audio_id]
    read = [i for i, token in enumerate(example.ids) if token == label_ids[0]]
    assert len(heard) == example.frames[0] // 2
    assert [i for i, silent in enumerate(example.read) if silent] == read
    assert min(read) < min(heard) <= max(heard) < max(read)
    assert all(example.labels[i] < 0 for i in heard + read)


def test_what_is_read_beside_the_last_phases_compares_clips_and_counts(words) -> None:
    studio = silent_studio(2)
    studio.natural = NaturalClips({"unknown": [("hello there", np.zeros(1, np.int16))]})
    phase = Phase("people", pools=1, dialogs=0, batches=1, peak_lr=1, last_lr=0, read_dialogs=40, mix=PEOPLE)
    batches = Stream(words, phase, (1, 3), 0, 0)._read(studio)
    assert not any(batch.heard for batch in batches)
    asked = [words.decode(ids) for batch in batches for ids in batch.ids]
    assert len(asked) == 40
    assert sum("clip" in text or "the two" in text or "them" in text for text in asked) >= 10
    answers = [words.decode(row[row >= 0]) for batch in batches for row in batch.labels]
    assert sum(sum(word in DIGITS for word in re.findall("[a-z]+", text)) > 1 for text in answers) >= 5


def test_the_weights_are_the_mean_of_those_at_the_ends_of_phases(tmp_path: Path) -> None:
    for number, weight in ((6, 1.0), (7, 2.0)):
        torch.save({"w": torch.tensor([weight, 0.0])}, tmp_path / f"end-{number}.pt")
    assert torch.equal(mean_of_ends(tmp_path, (6, 7))["w"], torch.tensor([1.5, 0.0]))


def test_natural_digits_are_joined_to_strings_that_nobody_said() -> None:
    clips = NaturalClips(
        {
            "1 digit": [("one", np.ones(900, np.int16))],
            "2 digits": [("two two", np.ones(1700, np.int16))],
            "3 digits": [("three three three", np.ones(2500, np.int16))],
        }
    )
    studio = Studio(np.random.default_rng(0), Tone(), held_out=False, natural=clips)
    texts = Counter(str(digit_string(studio, 3).traits["text"]) for _ in range(300))
    assert texts["three three three"] > 60
    assert 15 < texts["one two two"] < 80
    assert 15 < texts["two two one"] < 80


def test_where_strings_are_drawn_evenly_natural_ones_repeat_a_digit_less_often() -> None:
    clips = NaturalClips(
        {"2 digits": [("two two", np.ones(9, np.int16)), ("two one", np.ones(9, np.int16))]}
        | {"1 digit": [("nine", np.ones(9, np.int16))]}
    )

    def repeated(repeating: float) -> int:
        studio = Studio(np.random.default_rng(0), Tone(), False, natural=clips, repeating=repeating)
        return sum(digit_string(studio, 2).traits["text"] == "two two" for _ in range(400))

    assert 0.2 < repeated(0.0) / repeated(0.5) < 0.7


def test_half_of_the_strings_that_are_trained_on_repeat_a_few_digits(words) -> None:
    studio = replace(silent_studio(6), repeating=REPEATING_SHARE)
    texts = [str(studio.record("recital").traits["text"]).split() for _ in range(400)]
    long = [words for words in texts if len(words) >= 5]
    assert 0.45 < np.mean([len({*words}) <= 3 for words in long]) < 0.75


def test_strings_of_the_evaluation_are_drawn_evenly() -> None:
    text = digit_words(np.random.default_rng(8), 2000)
    assert digit_words(np.random.default_rng(8), 2000, 0.0) == text
    assert min(Counter(text.split()).values()) > 140


def test_asked_which_of_two_clips_has_a_sound_the_answer_says_what_each_has() -> None:
    first, second, question = pair(silent_studio(1), "which")
    assert (
        question.answer
        == f"In the first clip I hear {first.heard}, in the second clip I hear {second.heard}."
    )
    assert question.gaps["thing"] in (first.heard, second.heard)


def test_what_is_not_known_is_a_part_of_the_last_phase_alone() -> None:
    def answers(mix: Mix) -> Counter[str]:
        studio = silent_studio(4)
        return Counter(turn.answer for _ in range(600) for turn in training_dialog(studio, mix))

    assert answers(PEOPLE)[HONEST] > 60
    assert answers(SYNTHETIC)[HONEST] < 20  # the key of a melody


def test_natural_clips_are_what_most_speech_is_drawn_from() -> None:
    clips = NaturalClips({"command": [("stop", np.full(800, 1000, np.int16))]})
    studio = Studio(np.random.default_rng(0), Tone(), held_out=False, natural=clips)
    lengths = Counter(studio.record("command").traits["text"] for _ in range(60))
    assert 25 < lengths["stop"] < 55
    studio.natural = None
    assert Counter(studio.record("command").traits["text"] for _ in range(60))["stop"] < 15
