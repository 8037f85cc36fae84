"""Trains a byte-level BPE tokenizer like Qwen2's on the words of the clips, questions and answers."""

from __future__ import annotations

import itertools
import json

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from training import dialogs, questions, scenes
from training.signals import INSTRUMENTS, SOUNDS

MERGED_VOCABULARY = 1000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"]

# Qwen2 splits text into words like this before it merges byte pairs (Qwen2Tokenizer does the same).
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus() -> list[str]:
    """List every wording, and every word in the sentences that answer it."""
    texts = [w for wordings in questions.WORDINGS.values() for w in wordings[: -questions.HELD_OUT_WORDINGS]]
    texts += [t.lower() for t in texts] + [f"Please listen. {t}" for t in texts]
    texts += [*questions.GENERAL_KNOWLEDGE, *questions.GENERAL_KNOWLEDGE.values()]
    texts += [f"{text.capitalize()}?" for text in questions.GENERAL_KNOWLEDGE]
    for word in scenes.WORDS:
        texts.append(questions.transcript(f"{word} {word}"))
        texts.append(f'I hear a voice that says "{word}". The first word is {word}. The last word is {word}.')
    for thing in (*SOUNDS, "beep", *INSTRUMENTS):
        name = scenes.named(thing)
        texts.append(f"I hear {name}, then {name}. The first sound is {name}. The last sound is {name}.")
        texts.append(f"Yes, there is {name}. No, there is no {thing}. It is {name} playing one note.")
        texts.append(f"In the first clip I hear {name}. The second clip has {name}, and then {name}.")
    for tempo in scenes.TEMPOS:
        texts.append(f"The tempo is {tempo} beats per minute. I hear a rising melody, a falling melody.")
    texts += [
        "The melody is rising. The melody is falling. The melody is in a major key. The melody is in a minor key.",
        "The sound is loud. The sound is quiet. This is speech. This is a sound. These are sounds. This is music.",
        "This is silence. I hear nothing, the audio is silent. There is no speech in the audio.",
        "The speaker talks fast. The speaker talks slowly. One word is spoken. Two words are spoken.",
        "The room is the kitchen. The object is the light. The first number is larger. The second is higher.",
        "Yes, they are the same. No, they are different. The first clip is louder. First clip: Second clip: ",
        " ".join(f"{number.capitalize()} words, {number}" for number in questions.NUMBERS),
        " ".join(f"There are {beeps}." for beeps in scenes.BEEP_COUNTS),
        f"system\n{dialogs.SYSTEM}\nuser\nassistant\n",
        questions.THINK,
        questions.NO_AUDIO,
    ]
    return texts


def build() -> Qwen2Tokenizer:
    """Train the tokenizer; the result is the same on every run. Special tokens follow the merged vocabulary."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    learned = json.loads(bpe.to_str())["model"]  # only the serialised form lists the merges
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
        model_max_length=16384,
    )


def label_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids for "nothing" and for each of scenes.LABELS: the label's own token where it is a single one, else a
    spare row of the vocabulary. So the encoder outputs embeddings that the language model knows.
    """
    spare = itertools.count(len(tokenizer))
    ids = [next(spare)]
    for label in scenes.LABELS:
        tokens = tokenizer.encode(f" {label}")
        ids.append(tokens[0] if len(tokens) == 1 else next(spare))
    return ids
