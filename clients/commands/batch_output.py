"""The answers of a batch: a JSONL file that a killed run leaves usable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from .answer_record import Record
from .batch_input import BadInput, Id, Item


class AnswersFile:
    """One line per answered item, in the order in which they were done, each written at once.

    Opening it drops a broken last line (the run was killed while writing it), and with `retry_errors` the
    lines of items that failed. Raises BadInput when the file holds something else or cannot be written.
    """

    def __init__(self, path: Path, retry_errors: bool):
        self._path = path
        self._done: dict[Id, str | None] = {}  # id → fingerprint of the question
        self.errors = 0
        try:
            if path.exists():
                self._keep_good_lines(path, retry_errors)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"--out {path}: {error.strerror}") from None

    def left(self, items: Sequence[Item]) -> list[Item]:
        """The items that have no answer yet. Raises BadInput for an answer to another question."""
        for item in items:
            if self._done.get(item.id) not in (None, item.asked):
                raise BadInput(
                    f"{self._path}: holds the answer of {item.id!r} to another question (another --prompt or"
                    " another line); give another --out"
                )
        return [item for item in items if item.id not in self._done]

    def write(self, item: Item, record: Record) -> None:
        self.errors += record.error is not None
        line = json.dumps({"id": item.id, **record.fields(), "asked": item.asked}, ensure_ascii=False)
        self._file.write(line + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _keep_good_lines(self, path: Path, retry_errors: bool) -> None:
        kept = []
        for line, item_id, asked, failed in _complete_lines(path):
            if failed and retry_errors:
                continue
            kept.append(line)
            self._done[item_id] = asked
            self.errors += failed
        # Beside it and renamed, so that no moment has fewer answers than before.
        fresh = path.with_name(path.name + ".tmp")
        fresh.write_text("".join(kept), encoding="utf-8")
        fresh.replace(path)


def _complete_lines(path: Path) -> Iterator[tuple[str, Id, str | None, bool]]:
    """Each line with its end, its id, the fingerprint of its question if it has one, whether it is an error."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                fields = json.loads(line)
                item_id, asked, failed = fields["id"], fields.get("asked"), fields["error"] is not None
                hash(item_id)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise BadInput(f"{path}:{number}: not an answer of a batch; give another --out") from None
            yield line, item_id, asked, failed
