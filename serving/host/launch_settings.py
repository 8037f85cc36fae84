"""The settings of the launcher: options of its command line, or variables of its environment (AF3_GRPC_PORT=…)."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from af3.contract import MAX_CLIP_SECONDS
from serving.door.admission import DEFAULT_LIMITS, Limits

PREFIX = "AF3_"
Port = Annotated[int, Field(ge=0, le=65535)]


class LaunchSettings(BaseSettings):
    """Checked, and frozen. A field is an option (`grpc_port` is --grpc-port) and a variable (AF3_GRPC_PORT); the
    option wins. Construct it from nothing to read the environment alone. Raises pydantic's ValidationError.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    target: str = Field("cpu", description="which engines/<target> to serve", min_length=1)
    llm: Literal["vllm"] | None = Field(None, description="serve the LLM with vLLM: vllm")
    mps: bool = Field(
        False, description="on a GPU: true starts CUDA's MPS, so that encoder and LLM use it at the same time"
    )
    folder: Path = Field(Path(), description="folder that holds engines/ (default: here)")
    host: str = Field("127.0.0.1", description="address to listen on", min_length=1)
    grpc_port: Port = Field(8001, description="0 takes a free one")
    http_port: Port = Field(8000, description="0 takes a free one")
    metrics_port: Port = Field(8002, description="0 takes a free one")
    tls_cert: Path | None = Field(None, description="PEM file of the server's certificate: TLS")
    tls_key: Path | None = Field(None, description="PEM file of its key")
    tls_ca: Path | None = Field(None, description="PEM file of who signs clients: mutual TLS")
    api_keys: Path | None = Field(
        None, description="file of API keys, one of which every client needs; read again on SIGHUP"
    )
    max_in_flight: int = Field(DEFAULT_LIMITS.in_flight, ge=1, description="requests at once")
    max_at_triton: int | None = Field(
        None,
        ge=1,
        description="requests that Triton has at once; the others wait in the door, each client in a queue of its own"
        " (default: by the LLM's slots, see docs/operations.md)",
    )
    max_connections_of_address: int | None = Field(
        None,
        ge=1,
        description="connections of one address, HTTP and gRPC each (default: half of all there may be)",
    )
    max_timeout: float = Field(
        DEFAULT_LIMITS.timeout_s, gt=0, allow_inf_nan=False, description="longest time for one request, in s"
    )
    max_message_mb: int = Field(
        DEFAULT_LIMITS.message_bytes >> 20,
        ge=1,
        le=2047,
        description="largest request, in MiB; 128 for each ten minutes that the model hears of a clip",
    )
    max_upload_mb: int = Field(
        DEFAULT_LIMITS.upload_bytes >> 20, ge=1, description="all requests that are being received, in MiB"
    )
    clip_store_mb: int = Field(
        DEFAULT_LIMITS.clip_store_bytes >> 20,
        ge=0,
        description="clips that clients have kept here to name them later, in MiB; 0 keeps none",
    )
    metrics_host: str | None = Field(None, description="address for /metrics (default: --host)", min_length=1)
    allow_origin: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="web pages of this origin may call, such as https://voice.example; may be given several times"
        f" (in {PREFIX}ALLOW_ORIGIN with commas between)",
    )
    access_log: Path | None = Field(None, description="file for one line per HTTP request")
    log: Path | None = Field(None, description="file for the server's output (default: a temporary file)")
    journal: Path | None = Field(None, description="file for one JSON line per request and stage")
    trace_url: str | None = Field(
        None, description="OTLP/HTTP collector of OpenTelemetry traces, http://HOST:4318/v1/traces"
    )

    @field_validator("allow_origin", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _coupled(self) -> LaunchSettings:
        if self.max_upload_mb < self.max_message_mb:
            raise ValueError(
                f"--max-upload-mb {self.max_upload_mb} leaves no room for one request of --max-message-mb"
                f" {self.max_message_mb}; raise the one or lower the other"
            )
        ports = [port for port in (self.grpc_port, self.http_port, self.metrics_port) if port]
        if len(set(ports)) < len(ports):
            raise ValueError(
                f"--grpc-port {self.grpc_port}, --http-port {self.http_port} and --metrics-port"
                f" {self.metrics_port} must differ"
            )
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_ca and self.tls_cert is None):
            raise ValueError("TLS needs both --tls-cert and --tls-key; --tls-ca alone protects nothing")
        return self

    @property
    def limits(self) -> Limits:
        return Limits(
            self.max_in_flight,
            self.max_timeout,
            self.max_message_mb << 20,
            self.max_upload_mb << 20,
            self.max_at_triton,
            self.max_connections_of_address,
            self.clip_store_mb << 20,
        )

    def hearing(self, limits: Limits, clip_seconds: int) -> Limits:
        """`limits` for a model that hears so much of a clip: the largest request, unless it was given, holds
        that in 48 kHz stereo (ten minutes: 115 MB).
        """
        if "max_message_mb" in self.model_fields_set:
            return limits
        message_bytes = limits.message_bytes * math.ceil(clip_seconds / MAX_CLIP_SECONDS)
        upload_bytes = max(limits.upload_bytes, message_bytes)
        return replace(limits, message_bytes=message_bytes, upload_bytes=upload_bytes)

    @property
    def engines(self) -> Path:
        return self.folder / "engines" / self.target

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, by name."""
        fields = type(self).model_fields
        return {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}


def from_command_line(description: str, words: Sequence[str] | None = None) -> LaunchSettings:
    """Ends the program with code 2 and a sentence where a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog=None if sys.argv[0].startswith("audio-flamingo") else "python -m serving.host.launch",
        description=description,
        epilog=f"Each option is a variable of the environment too: {PREFIX}GRPC_PORT is --grpc-port.",
    )
    for name, field in LaunchSettings.model_fields.items():
        default = "" if field.default in (None, (), Path()) else f" (default: {field.default})"
        several = {"action": "append"} if name == "allow_origin" else {}
        parser.add_argument(
            option_of(name),
            metavar=name.rpartition("_")[2].upper(),
            default=argparse.SUPPRESS,
            help=f"{field.description}{default}",
            **several,  # type: ignore[arg-type]
        )
    given = vars(parser.parse_args(words))
    try:
        return LaunchSettings(**given)
    except ValidationError as error:
        parser.error("; ".join(_sentence(problem, given) for problem in error.errors()))


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _sentence(problem: Any, given: dict[str, Any]) -> str:
    if not problem["loc"]:
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0])
    where = option_of(name) if name in given else f"{PREFIX}{name.upper()}"
    message = problem["msg"]
    return f"{where} is {problem['input']!r}: {message[:1].lower()}{message[1:]}"
