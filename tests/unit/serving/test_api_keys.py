"""The file of API keys and the command that keeps it."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from serving.door.api_keys import ApiKey, KeyFile, KeyFileError, hashed, matching, new_key, utc_now


def command(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.door.manage_keys", str(file), *words], capture_output=True, text=True
    )


def test_a_key_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = command(file, "add", "alice", "--days", "1", "--requests-at-once", "2")
    key = made.stdout.strip()
    assert made.returncode == 0
    assert key not in file.read_text()
    assert hashed(key) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    found = matching(key, KeyFile.read(file).keys)
    assert found is not None
    assert (found.name, found.requests_at_once) == ("alice", 2)
    assert not found.expired(utc_now())
    assert found.expired(utc_now() + timedelta(days=1.01))
    listed = command(file, "list").stdout
    assert "alice: valid" in listed
    assert "2 requests at once" in listed


def test_a_name_is_given_once_and_a_revoked_key_stays_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    command(file, "add", "alice")
    assert "there is a key 'alice' already" in command(file, "add", "alice").stderr
    assert command(file, "revoke", "alice").returncode == 0
    assert "alice: revoked" in command(file, "list").stdout
    assert "no key 'bob'" in command(file, "revoke", "bob").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "two words"], "name"),
        (
            ["add", "a", "--requests-at-once", "0"],
            "--requests-at-once: Input should be greater than or equal to 1",
        ),
        (["add", "a", "--days", "1e12"], "--days"),
        (["list"], "No such file"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(words: list[str], said: str, tmp_path: Path) -> None:
    done = command(tmp_path / "keys.json", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ('{"keys": [{"name": "a", "sha256": "12"}]}', "keys.0.sha256"),
        ('{"keys": [{"name": "a", "sha256": "' + "0" * 64 + '", "limit": 3}]}', "keys.0.limit"),
        (
            '{"keys": [{"name": "a", "sha256": "' + "0" * 64 + '", "expires": "2030-01-01T00:00:00"}]}',
            "expires",
        ),
    ],
)
def test_a_file_that_is_wrong_says_where(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(KeyFileError, match=said):
        KeyFile.read(file)


def test_a_file_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    KeyFile(keys=(ApiKey(name="a", sha256=hashed(new_key())),)).write(file)
    file.chmod(0o620)
    with pytest.raises(KeyFileError, match="others may write it"):
        KeyFile.read(file)


def test_two_keys_of_one_name_or_one_hash_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    one, same = hashed("one"), [("a", hashed("one")), ("a", hashed("two")), ("b", hashed("one"))]
    for second in same[1:]:
        KeyFile(keys=tuple(ApiKey(name=n, sha256=h) for n, h in (("a", one), second))).write(file)
        with pytest.raises(KeyFileError, match="two keys have one"):
            KeyFile.read(file)
