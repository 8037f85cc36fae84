"""Finds the answers that a client may stop by its own id for them: those that its session began."""

from __future__ import annotations

from collections.abc import Hashable

from serving.door.relayed_answer import Answer


class SessionAnswers:
    """Answers in flight by session (a connection, a WebSocket) and by the id that the client gave."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Hashable, str], list[Answer]] = {}

    def add(self, session: Hashable, client_id: str, answer: Answer) -> None:
        """Until the answer is closed. One session may use an id for several answers at once."""
        key = session, client_id
        self._answers.setdefault(key, []).append(answer)

        def forget(closed: Answer) -> None:
            self._answers[key].remove(closed)
            if not self._answers[key]:
                del self._answers[key]

        answer.on_closed(forget)

    def find(self, session: Hashable, client_id: str) -> list[Answer]:
        """Those of the session that has begun them; nobody else finds them."""
        return list(self._answers.get((session, client_id), ()))
