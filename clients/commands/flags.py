"""Flags that every command line of the clients has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from ..errors import AudioFlamingoError
from ..request import DEFAULT_TIMEOUT_S, DEFAULT_URL, LONGEST_TIMEOUT_S, Parameters, deadline_s
from ..tls import Tls

EXIT_STOPPED = 130  # 128 + SIGINT, as shells have it
EXIT_CODES = "Exit code: 0 answered, 1 an error (told on stderr), 2 wrong usage, 130 stopped by Ctrl-C."

_HELP = {
    "max_tokens": (int, "N", "longest answer in tokens, up to the model's limit (server's default: 256)"),
    "temperature": (float, "T", "above 0: sample instead of taking the likeliest token"),
    "top_p": (float, "P", "sample from the likeliest tokens that make up probability P"),
    "top_k": (int, "K", "sample from the K likeliest tokens"),
    "repetition_penalty": (float, "R", "above 1: avoid repeating tokens"),
    "seed": (int, "N", "makes sampling repeatable"),
}


def add_connection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", default=DEFAULT_URL, help="gRPC address (default: %(default)s)")
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="longest time for one answer (default: %(default)g)",
    )
    group.add_argument(
        "--by-hash",
        action="store_true",
        help="name clips of 64 KB and more by their SHA-256, and send only those that the server does not have",
    )
    group.add_argument("--tls", action="store_true", help="encrypt; implied by the next three")
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="who signed the server's certificate (PEM)"
    )
    group.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="our certificate, if the server asks (PEM)"
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        deadline_s(seconds)
    except (ValueError, AudioFlamingoError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time to wait; give seconds above 0, at most {LONGEST_TIMEOUT_S:g}"
        ) from None
    return seconds


def tls(arguments: argparse.Namespace) -> Tls | None:
    """The TLS files; None without encryption."""
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    return Tls(*files) if arguments.tls or any(file is not None for file in files) else None


def add_parameters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to answer")
    for name, (kind, metavar, text) in _HELP.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    group.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; can be repeated"
    )
    group.add_argument("--think", action="store_true", default=None, help="reason before answering")


def parameters(arguments: argparse.Namespace) -> Parameters:
    """The request parameters that were given."""
    given = {name: getattr(arguments, name) for name in (*_HELP, "stop", "think")}
    return cast(Parameters, {name: value for name, value in given.items() if value is not None})
