"""`/v1/audio/voices`: the voices that an answer may be spoken with.

OpenAI's API has no such list; servers of other voices serve it at this path in this shape.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serving.door import generate_request

PATH = "/v1/audio/voices"


class VoicesList:
    """`voices`: their names, the default first."""

    prefix = PATH
    error_body = staticmethod(generate_request.error_json)

    def __init__(self, voices: Sequence[str]):
        self._voices = list(voices)
        self.routes: list[BaseRoute] = [Route(PATH, self._all, methods=["GET"])]

    async def _all(self, request: Request) -> Response:
        return JSONResponse({"voices": self._voices})
