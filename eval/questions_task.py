"""Our own question set as a task of inspect-ai: exact answers, by kind of question.

  python -m training.evaluate make .cache/eval
  pip install inspect-ai openai
  OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none \\
    inspect eval eval/questions_task.py -T folder=.cache/eval --model openai/audio_flamingo -M responses_api=false

`python -m eval.heard_guard --folder .cache/eval -- inspect eval …` fails when sound was dropped.
"""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    Content,
    ContentAudio,
    ContentText,
    GenerateConfig,
)
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, grouped, scorer, stderr
from inspect_ai.solver import TaskState, generate

MAX_TOKENS = 64


@task
def questions(folder: str = ".cache/eval") -> Task:
    """`folder`: made by `python -m training.evaluate make`."""
    return Task(
        dataset=MemoryDataset(samples(Path(folder)), name="questions"),
        solver=generate(),
        scorer=exact(),
        config=GenerateConfig(temperature=0.0, max_tokens=MAX_TOKENS),
    )


def samples(folder: Path) -> list[Sample]:
    """One of every line of questions.jsonl; its clips stay where they are in their turns."""
    expected = {line["id"]: line for line in _lines(folder / "expected.jsonl")}
    found = []
    for line in _lines(folder / "questions.jsonl"):
        clips = iter(folder / clip for clip in line["audio"])
        messages: list[ChatMessage] = []
        for message in line["messages"]:
            content: list[Content] = [
                ContentText(text=part["text"])
                if part["type"] == "text"
                else ContentAudio(audio=str(next(clips).absolute()), format="wav")
                for part in message["content"]
            ]
            kind = ChatMessageUser if message["role"] == "user" else ChatMessageAssistant
            messages.append(kind(content=content))
        if next(clips, None) is not None:
            raise ValueError(f"{line['id']}: a clip has no place in its messages")
        right = expected[line["id"]]
        found.append(
            Sample(input=messages, target=right["answer"], id=line["id"], metadata={"task": right["task"]})
        )
    return found


@scorer(metrics=[grouped(accuracy(), "task"), accuracy(), stderr()])
def exact() -> Scorer:
    """The whole answer, as `training.evaluate score` judges it."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion.strip()
        return Score(value=CORRECT if answer == target.text else INCORRECT, answer=answer)

    return score


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
