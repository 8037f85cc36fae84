"""The file of API keys: who holds one, until when, and how much each may ask. It holds hashes, never a key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

PREFIX = "af3-"
LONGEST_KEY = 256  # characters
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class KeyFileError(Exception):
    """A file of keys that cannot be used; the sentence says which and why."""


class ApiKey(BaseModel):
    """One key. `sha256` is enough of a hash: a key is 256 random bits, which nobody guesses. None: no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    expires: AwareDatetime | None = None
    revoked: bool = False
    requests_at_once: int | None = Field(None, ge=1)
    requests_per_minute: float | None = Field(None, gt=0)
    audio_seconds_per_minute: float | None = Field(None, gt=0)

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class KeyFile(BaseModel):
    """All keys, names and hashes unique."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[ApiKey, ...] = ()

    @classmethod
    def read(cls, file: Path) -> KeyFile:
        """Raises KeyFileError."""
        try:
            found = cls.model_validate_json(file.read_bytes())
            mode = file.stat().st_mode
        except OSError as error:
            raise KeyFileError(f"{file}: {error.strerror}; make one with serving.door.manage_keys") from None
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise KeyFileError(f"{file}: {where}: {first['msg']}") from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise KeyFileError(f"{file}: others may write it, and give themselves a key; chmod 600 {file}")
        for what, values in (
            ("name", [key.name for key in found.keys]),
            ("hash", [key.sha256 for key in found.keys]),
        ):
            if len(set(values)) < len(values):
                raise KeyFileError(f"{file}: two keys have one {what}; every key needs its own")
        return found

    def write(self, file: Path) -> None:
        """Whole or not at all, for its owner alone. Raises OSError."""
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        with os.fdopen(handle, "w") as output:
            output.write(self.model_dump_json(indent=2, exclude_none=True) + "\n")
        Path(name).replace(file)

    def find(self, name: str) -> ApiKey | None:
        return next((key for key in self.keys if key.name == name), None)

    def with_key(self, changed: ApiKey) -> KeyFile:
        """`changed` in the place of the key of its name, or at the end."""
        others = [changed if key.name == changed.name else key for key in self.keys]
        return KeyFile(keys=tuple(others if changed in others else [*others, changed]))


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def matching(given: str, keys: Iterable[ApiKey]) -> ApiKey | None:
    """The key that was given. Takes as long whichever it is, or whether it is any."""
    digest = hashed(given[: LONGEST_KEY + 1])
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def utc_now() -> datetime:
    return datetime.now(timezone.utc)
