"""Identifies callers by their API key or address, for all protocols."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import unquote
from weakref import WeakValueDictionary

from af3.errors import RequestError
from serving import journal
from serving.door.api_keys import KeyFile, matching
from serving.door.caller import Caller, refuse_ended
from serving.door.metrics import DoorMetrics
from serving.door.rate_limit import Bucket

log = logging.getLogger("af3.door")
JOURNALLED_PER_MINUTE = 120.0  # refusals of strangers, who must not fill the disk
BEARER = "bearer "


class Gatekeeper:
    """With `key_file` every caller needs a key of it; without, callers are told apart by address."""

    def __init__(self, key_file: Path | None, metrics: DoorMetrics):
        """Raises KeyFileError."""
        self._file = key_file
        self._metrics = metrics
        self._holders: dict[str, Caller] = {}
        self._addresses: WeakValueDictionary[str, Caller] = WeakValueDictionary()
        self._keys = KeyFile()
        self._lines = Bucket(JOURNALLED_PER_MINUTE, time.monotonic())
        self.reload()

    def reload(self) -> None:
        """Read the file again; a key that is gone from it is revoked. Raises KeyFileError, and changes nothing."""
        if self._file is None:
            return
        self._keys = KeyFile.read(self._file)
        now_s = time.monotonic()
        for key in self._keys.keys:
            self._holders.setdefault(key.name, Caller()).change(key, now_s)
        for name in self._holders.keys() - {key.name for key in self._keys.keys}:
            gone = self._holders.pop(name)
            if gone.key is not None:
                gone.change(gone.key.model_copy(update={"revoked": True}), now_s)
        self._metrics.name_keys(list(self._holders))

    def identify(self, protocol: str, authorization: list[str], address: str) -> Caller:
        """authorization: all values of that header. Raises RequestError UNAUTHENTICATED."""
        if self._file is None:
            return self.of_address(address)
        try:
            return self._holder(authorization)
        except RequestError as error:
            self._note(protocol, address, error)
            raise

    def of_address(self, address: str) -> Caller:
        """For what is open to all."""
        caller = self._addresses.get(address)
        if caller is None:
            caller = self._addresses[address] = Caller()
        return caller

    def _holder(self, authorization: list[str]) -> Caller:
        if len(authorization) != 1 or not authorization[0].lower().startswith(BEARER):
            raise Refusal("no key", "this server asks for an API key; send `authorization: Bearer KEY`")
        key = matching(authorization[0][len(BEARER) :].strip(), self._keys.keys)
        if key is None:
            raise Refusal(
                "wrong key", "this API key is not known here; check it, or ask the operator for one"
            )
        try:
            refuse_ended(key)
        except RequestError as error:
            raise Refusal("revoked" if key.revoked else "expired", error.message, key.name) from None
        return self._holders[key.name]

    def _note(self, protocol: str, address: str, error: RequestError) -> None:
        why, name = (error.why, error.name) if isinstance(error, Refusal) else ("wrong key", "")
        self._metrics.callers_refused.add(why)
        now_s = time.monotonic()
        if not self._lines.wait_s(1, now_s):
            self._lines.take(1, now_s)
            journal.write("unauthenticated", protocol=protocol, address=address, why=why, key=name)


class Refusal(RequestError):
    """`why`: a label of the metrics; `name`: that of the key, where there is one."""

    def __init__(self, why: str, message: str, name: str = ""):
        super().__init__("UNAUTHENTICATED", message)
        self.why = why
        self.name = name


def address_of(host: str) -> str:
    """The address of one client: for IPv4 the address, for IPv6 its /64 network."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(found) >> 64 << 64))
    return str(found)


def address_of_peer(peer: str) -> str:
    """gRPC's peer: ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000, unix:…"""
    kind, _, rest = unquote(peer).partition(":")
    return address_of(rest.rpartition(":")[0].strip("[]")) if kind in ("ipv4", "ipv6") else kind


def header_values(headers: Mapping[str, str] | list[tuple[str, str]], name: str) -> list[str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [value for key, value in pairs if key.lower() == name]
