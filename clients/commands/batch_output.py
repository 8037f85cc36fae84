"""The answers of a batch: a JSONL file that a killed run leaves usable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from clients.commands.answer_record import Record
from clients.commands.batch_input import BadInput, Id


class AnswersFile:
    """One line per answered item, in the order in which they were done, each written at once.

    Opening it drops a broken last line (the run was killed while writing it), and with `retry_errors` the
    lines of items that failed. Raises BadInput when the file holds something else.
    """

    def __init__(self, path: Path, retry_errors: bool):
        self.done: set[Id] = set()
        self.errors = 0
        if path.exists():
            self._keep_good_lines(path, retry_errors)
        self._file = path.open("a", encoding="utf-8")

    def write(self, item_id: Id, record: Record) -> None:
        self.errors += record.error is not None
        line = json.dumps({"id": item_id, **asdict(record)}, ensure_ascii=False)
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
        for line, item_id, failed in _complete_lines(path):
            if failed and retry_errors:
                continue
            kept.append(line)
            self.done.add(item_id)
            self.errors += failed
        # Beside it and renamed, so that no moment has fewer answers than before.
        fresh = path.with_name(path.name + ".tmp")
        fresh.write_text("".join(kept), encoding="utf-8")
        fresh.replace(path)


def _complete_lines(path: Path) -> Iterator[tuple[str, Id, bool]]:
    """Each line with its end, its id, and whether it is an error."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                fields = json.loads(line)
                yield line, fields["id"], fields["error"] is not None
            except (json.JSONDecodeError, KeyError, TypeError):
                raise BadInput(f"{path}:{number}: not an answer of a batch; give another --out") from None
