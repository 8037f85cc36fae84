"""af3-tiny's tokenizer and chat template."""

import pytest

from training import export, train_tokenizer
from training.dialogs import SYSTEM, Turn, spans
from training.scenes import Clip


@pytest.fixture(scope="module")
def processor(words):
    return export.processor(words)


@pytest.mark.parametrize(
    "text", ['He said "three seven one".', "Ünï 漢字 \U0001f3b5", " two  spaces\n\nlines ", "{}<>|"]
)
def test_text_survives_the_tokenizer(words, text: str) -> None:
    assert words.decode(words.encode(text)) == text


def test_the_tokenizer_is_the_same_every_time(words) -> None:
    assert train_tokenizer.build().get_vocab() == words.get_vocab()


def test_digits_and_special_tokens_are_single_tokens(words) -> None:
    assert all(len(words.encode(f" {digit}")) == 1 for digit in ("zero", "three", "nine"))
    assert all(len(words.encode(token)) == 1 for token in train_tokenizer.SPECIAL)


def rendered(processor, messages: list[dict]) -> str:
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_template_adds_the_default_system_prompt_only_where_none_is(processor) -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    own = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    turn = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(processor, [user]) == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n{turn}"
    assert rendered(processor, [own, user]) == f"<|im_start|>system\nBe brief.<|im_end|>\n{turn}"


def test_the_one_clip_of_a_message_comes_before_its_texts_joined_without_a_newline(processor) -> None:
    content = [{"type": "text", "text": "What "}, {"type": "audio"}, {"type": "text", "text": "is this?"}]
    text = rendered(processor, [{"role": "user", "content": content}])
    assert "<|im_start|>user\n<sound>What is this?<|im_end|>\n" in text


def test_training_renders_a_conversation_as_the_template_does(processor) -> None:
    clip = Clip(None, "", "", "", (), (), {})  # type: ignore[arg-type]
    turns = [Turn((clip, "Which?"), "A bell.", ""), Turn(("Loud?",), "Yes.", "")]
    trained = "".join(piece if isinstance(piece, str) else "<sound>" for piece, _ in spans(turns))
    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "Which?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A bell."}]},
        {"role": "user", "content": [{"type": "text", "text": "Loud?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
    ]
    expected = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    assert trained + "\n" == expected


def test_only_what_the_assistant_says_is_trained_on() -> None:
    pieces = spans([Turn(("Which?",), "A bell.", ""), Turn(("Loud?",), "Yes.", "")])
    assert [piece for piece, trained in pieces if trained] == ["A bell.<|im_end|>", "Yes.<|im_end|>"]
