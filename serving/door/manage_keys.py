"""Make, list and revoke the API keys of a server. A running server reads the file again on SIGHUP.

python -m serving.door.manage_keys keys.json add alice --days 90 --requests-at-once 8
python -m serving.door.manage_keys keys.json revoke alice
python -m serving.door.manage_keys keys.json list
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from serving.door.api_keys import ApiKey, KeyFile, KeyFileError, hashed, new_key, utc_now


def main() -> int:
    given = _parser().parse_args()
    try:
        keys = KeyFile.read(given.file) if given.file.exists() or given.action != "add" else KeyFile()
        return int(given.run(keys, given))
    except KeyFileError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{given.file}: {error.strerror}", file=sys.stderr)
    return 1


def _add(keys: KeyFile, given: argparse.Namespace) -> int:
    if keys.find(given.name) is not None:
        print(f"there is a key '{given.name}' already; revoke it, and choose another name", file=sys.stderr)
        return 1
    key = new_key()
    try:
        made = ApiKey(
            name=given.name,
            sha256=hashed(key),
            expires=None if given.days is None else utc_now() + timedelta(days=given.days),
            requests_at_once=given.requests_at_once,
            requests_per_minute=given.requests_per_minute,
            audio_seconds_per_minute=given.audio_seconds_per_minute,
        )
    except (ValidationError, OverflowError) as error:
        print(f"--{_reason(error)}", file=sys.stderr)
        return 1
    keys.with_key(made).write(given.file)
    print(key)
    print(
        f"This is shown once; {given.file} holds its hash. SIGHUP lets a running server know.",
        file=sys.stderr,
    )
    return 0


def _reason(error: ValidationError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return f"days: {error}"
    first = error.errors()[0]
    return f"{str(first['loc'][0]).replace('_', '-')}: {first['msg']}"


def _revoke(keys: KeyFile, given: argparse.Namespace) -> int:
    found = keys.find(given.name)
    if found is None:
        print(f"there is no key '{given.name}' in {given.file}", file=sys.stderr)
        return 1
    keys.with_key(found.model_copy(update={"revoked": True})).write(given.file)
    print(f"{given.name} is revoked once the server has had a SIGHUP")
    return 0


def _list(keys: KeyFile, given: argparse.Namespace) -> int:
    for key in keys.keys:
        state = "revoked" if key.revoked else "expired" if key.expired(utc_now()) else "valid"
        limits = [
            f"{value:g} {what}"
            for value, what in (
                (key.requests_at_once, "requests at once"),
                (key.requests_per_minute, "requests a minute"),
                (key.audio_seconds_per_minute, "seconds of audio a minute"),
            )
            if value is not None
        ]
        until = "for ever" if key.expires is None else f"until {key.expires:%Y-%m-%d %H:%M %Z}"
        print(f"{key.name}: {state}, {until}, {', '.join(limits) or 'no limits'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="make a key, and show it once")
    add.add_argument("name", help="stands in the journal and in metrics")
    add.add_argument("--days", type=float, help="until it expires (default: never)")
    add.add_argument("--requests-at-once", type=int)
    add.add_argument("--requests-per-minute", type=float)
    add.add_argument("--audio-seconds-per-minute", type=float)
    add.set_defaults(run=_add)
    revoke = actions.add_parser("revoke", help="let a key in no more")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)
    actions.add_parser("list", help="all keys, their state and their limits").set_defaults(run=_list)
    return parser


if __name__ == "__main__":
    sys.exit(main())
