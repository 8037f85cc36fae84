"""The gRPC server in the door's event loop, and its limits."""

from __future__ import annotations

import asyncio
import logging

import grpc
import grpc.aio

from serving.address import probe_address
from serving.door.gatekeeper import Gatekeeper
from serving.door.grpc_connections import GrpcConnections, GrpcTraffic
from serving.door.grpc_guard import GrpcGuard
from serving.door.grpc_service import GrpcService
from serving.door.memory_guard import MemoryGuard
from serving.door.relay import Relay
from serving.door.stall_watch import StallWatch

STREAMS_PER_CONNECTION = 256
CLOSE_S = 0.5
LOOK_EVERY_S = 0.5

log = logging.getLogger("af3.door")


class GrpcServer:
    """Serves a relay at one address, until `close`."""

    def __init__(
        self,
        relay: Relay,
        watch: StallWatch,
        gatekeeper: Gatekeeper,
        url: str,
        credentials: grpc.ServerCredentials | None,
        connections: int,
    ):
        limits = relay.admission.limits
        port, traffic = int(url.rpartition(":")[2]), GrpcTraffic()
        of_address = limits.connections_of_address or max(1, connections // 2)
        self._connections = GrpcConnections(port, connections, of_address, traffic)
        self._memory = MemoryGuard(limits.upload_bytes, relay.known_bytes)
        self._keeping: asyncio.Task[None] | None = None
        common = (
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", 10_000),
        )
        guard = (GrpcGuard(gatekeeper, traffic),)
        self._server = grpc.aio.server(
            interceptors=guard,
            options=(
                *common,
                ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
                ("grpc.max_allowed_incoming_connections", connections),
                # Drop clients that vanished, and connections without a call.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.max_connection_idle_ms", 300_000),
                ("grpc.max_connection_age_ms", 3_600_000),
                ("grpc.max_connection_age_grace_ms", int(1000 * limits.timeout_s)),
                # Clients may ping as often as ten times a second, with or without a call.
                ("grpc.http2.min_ping_interval_without_data_ms", 100),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        self.service = GrpcService(relay, watch, traffic)
        self._server.add_generic_rpc_handlers((self.service,))
        if credentials is None:
            self._server.add_insecure_port(url)
        else:
            self._server.add_secure_port(url, credentials)
        # A separate socket, so that this machine's probes are answered while clients hold all connections of the port.
        self._for_probes = grpc.aio.server(interceptors=guard, options=common)
        self._for_probes.add_generic_rpc_handlers((self.service,))
        lane = probe_address(port)
        if lane is not None:
            self._for_probes.add_insecure_port(lane)

    async def start(self) -> None:
        await self._server.start()
        await self._for_probes.start()
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Make room among the connections, and end those on which messages pile up that never come whole."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._connections.may_be_crowded:
                    await asyncio.to_thread(self._connections.make_room)
                if (excess_bytes := self._memory.excess_bytes) > 0:
                    await asyncio.to_thread(
                        self._connections.close_heaviest, self._memory.most_bytes, excess_bytes
                    )
            except OSError:
                log.warning("connections could not be looked at", exc_info=True)

    async def close(self) -> None:
        """Stop listening, then end what is left."""
        if self._keeping is not None:
            self._keeping.cancel()
        await asyncio.gather(self._server.stop(grace=CLOSE_S), self._for_probes.stop(grace=CLOSE_S))
