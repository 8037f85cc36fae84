"""The tokenizer of af3-tiny, and the ids of the labels that the encoder is taught to say."""

import pytest

from training import train_tokenizer


@pytest.fixture(scope="module")
def words():
    return train_tokenizer.build()


@pytest.fixture(scope="module")
def label_ids(words) -> list[int]:
    return train_tokenizer.label_ids(words)
