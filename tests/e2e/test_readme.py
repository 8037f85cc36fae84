"""What the README shows, typed as it stands there into a fresh shell with an empty home.

The environment carries the server's address; curl, which knows no such variable, gets the port of the test's server.
"""

import re
import subprocess
from pathlib import Path

import pytest

from serving.door.door import Door
from serving.host.triton import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^(\.venv/bin/audio-flamingo .*?)(?: +#.*)?$", README, re.MULTILINE)
MICROPHONE = re.compile(r"no recording program is installed|ended with code \d+ .*connect a recording device")


class Shell:
    """A shell as a newcomer opens it: nothing in the environment, nothing in the home."""

    def __init__(self, server: Door, home: Path):
        self.home = home
        self._environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "AUDIO_FLAMINGO_URL": server.url}

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", line],
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def shell(server: Door, tmp_path: Path) -> Shell:
    return Shell(server, tmp_path)


def command(word: str) -> str:
    (found,) = (line for line in COMMANDS if f"audio-flamingo {word} " in line and "--mic" not in line)
    return found


def test_ask_as_typed(shell: Shell) -> None:
    done = shell.type(command("ask"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_chat_as_typed(shell: Shell) -> None:
    done = shell.type(f"echo 'What is it?' | {command('chat')}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_batch_as_typed(shell: Shell) -> None:
    done = shell.type(command("batch"))
    assert done.returncode == 0, done.stderr
    clips = [
        path
        for path in (REPOSITORY / "checkpoints" / "samples").iterdir()
        if path.suffix in (".wav", ".mp3", ".flac", ".ogg")
    ]
    assert len((shell.home / "answers.jsonl").read_text().splitlines()) == len(clips)


def test_talk_as_typed(shell: Shell) -> None:
    done = shell.type(command("talk"))
    assert done.returncode == 0, done.stderr
    assert (shell.home / "reply.wav").stat().st_size > 44


def test_talk_by_microphone_as_typed_on_a_machine_without_one(shell: Shell) -> None:
    (line,) = (line for line in COMMANDS if "--mic" in line)
    done = shell.type(line)
    assert done.returncode == 1
    assert MICROPHONE.search(" ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr


def test_python_as_typed(shell: Shell) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = shell.type(f".venv/bin/python - <<'END'\n{code}\nEND")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_curl_as_typed(shell: Shell, server: Door) -> None:
    (block,) = (block for block in BLOCKS if block.startswith("echo"))
    done = shell.type(block.replace("127.0.0.1:8000", f"127.0.0.1:{server.ports.http}"))
    assert done.returncode == 0, done.stderr
    assert '"text"' in done.stdout
    assert "error" not in done.stdout.lower()


def test_every_command_of_the_readme_is_tested_above() -> None:
    words = {line.split()[1] for line in COMMANDS}
    assert words == {"ask", "chat", "batch", "talk"}


def test_every_target_of_the_readme_is_one_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_limit_of_the_readme_is_the_one_in_the_code() -> None:
    from af3 import contract, parameters
    from af3.inputs import mono

    assert f"| {parameters.Parameters().max_tokens} |" in README
    assert f"at most {contract.MAX_CLIP_SECONDS} s" in README
    assert f"at most {mono.MAX_CHANNELS} channels" in README
    assert f"{contract.MAX_TEXT_TOKENS:,} tokens".replace(",", " ") in README
    assert f"at most {contract.MAX_REQUEST_ID} characters" in README
    assert f"list of up to {parameters.MAX_STOP_STRINGS}" in README
