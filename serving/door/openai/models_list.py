"""/v1/models: what may be asked under which name."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.door.openai.openai_errors import model_not_found


class ModelsList:
    def __init__(self, names: tuple[str, ...]):
        self._names = names
        self._since_s = int(time.time())

    async def all(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._names]})

    async def one(self, request: Request) -> Response:
        """Raises RequestError for a model that is not served."""
        name = request.path_params["model"]
        if name not in self._names:
            raise model_not_found(name, self._names)
        return JSONResponse(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._since_s, "owned_by": "audio-flamingo"}
