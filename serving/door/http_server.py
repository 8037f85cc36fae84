"""uvicorn in the door's event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from serving.door.body_receiver import BLOCK_BYTES
from serving.door.body_thread import BodyThread
from serving.door.http_connection import Connection
from serving.door.websocket_connection import MESSAGE_BYTES, PING_S, WebSocketConnection

KEEP_ALIVE_S = 75
CLOSE_S = 2


class HttpServer:
    """Serves one application on one socket, until `close`."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        connections: int,
        of_address: int | None = None,
        tls: ssl.SSLContext | None = None,
    ):
        """connections: how many may be open at once; of_address: how many of one address, half of all by default."""
        self._bodies = BodyThread()
        own = {
            "most": connections,
            "most_of_address": of_address or max(1, connections // 2),
            "blocks": bytearray(BLOCK_BYTES),
            "bodies": self._bodies,
        }
        limited = type("LimitedConnection", (Connection,), own)
        config = uvicorn.Config(
            app,
            http=limited,
            ws=WebSocketConnection,
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # a small frame may unpack to a large one
            lifespan="off",
            log_config=None,
            access_log=True,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CLOSE_S,
        )
        config.load()
        config.ssl = tls
        # Warnings are about bytes that are not HTTP: their client is told, strangers do not write on the terminal.
        for name in ("uvicorn.error", "python_multipart"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
            if self._task.done():
                self._task.result()
                raise OSError("the HTTP server did not start")

    async def close(self) -> None:
        """Stop listening; answers that are not complete have two seconds."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._bodies.close)


def open_access_log(path: Path) -> None:
    """One line per HTTP request: client, method and path, status. Raises OSError."""
    handler = logging.FileHandler(path)
    handler.addFilter(_without_query)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("uvicorn.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _without_query(record: logging.LogRecord) -> bool:
    """Some clients put their key behind the path."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            value.partition("?")[0] if isinstance(value, str) else value for value in record.args
        )
    return True
