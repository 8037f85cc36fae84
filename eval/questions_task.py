"""Our question set as a task of inspect-ai: the share of exact answers by kind of question.

  python -m training.evaluate make .cache/eval
  pip install inspect-ai openai
  OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none \\
    inspect eval eval/questions_task.py -T folder=.cache/eval --model openai/audio_flamingo -M responses_api=false

`python -m eval.heard_guard --folder .cache/eval -- inspect eval …` fails when the harness drops audio.
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
    """Ask every question in `folder`, which `python -m training.evaluate make` wrote."""
    return Task(
        dataset=MemoryDataset(samples(Path(folder)), name="questions"),
        solver=generate(),
        scorer=exact(),
        config=GenerateConfig(temperature=0.0, max_tokens=MAX_TOKENS),
    )


def samples(folder: Path) -> list[Sample]:
    """Read one sample per line of questions.jsonl; clips keep their places in their turns."""
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
            raise ValueError(f"{line['id']}: there are more clips than audio parts in its messages")
        right = expected[line["id"]]
        found.append(
            Sample(input=messages, target=right["answer"], id=line["id"], metadata={"task": right["task"]})
        )
    return found


@scorer(metrics=[grouped(accuracy(), "task"), accuracy(), stderr()])
def exact() -> Scorer:
    """Compare the whole answer, as `training.evaluate score` does."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion.strip()
        return Score(value=CORRECT if answer == target.text else INCORRECT, answer=answer)

    return score


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
