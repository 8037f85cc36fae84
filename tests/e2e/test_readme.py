"""What the README shows is run as it stands there; only the ports are those of the test's server."""

import re
import subprocess
import sys

import pytest

from serving.door.door import Door
from serving.host.triton import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
EXAMPLES = {
    "python": re.search(r"```python\n(.*?)```", README, re.DOTALL),
    "command line": re.search(r"^(python -m clients\.commands\.ask .*?) +#", README, re.MULTILINE),
    "curl": re.search(r"```bash\n(echo .*?)```", README, re.DOTALL),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_readme_prints_an_answer(name: str, server: Door) -> None:
    found = EXAMPLES[name]
    assert found is not None
    code = (
        found[1]
        .replace("127.0.0.1:8001", server.url)
        .replace("127.0.0.1:8000", f"127.0.0.1:{server.ports.http}")
    )
    if name == "command line":
        code = code.replace("clients.commands.ask", f"clients.commands.ask --url {server.url}")
        code = code.replace("python ", f"{sys.executable} ", 1)
    command = [sys.executable, "-c", code] if name == "python" else ["bash", "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "error" not in done.stdout.lower()


def test_every_target_of_the_readme_is_one_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_limit_of_the_readme_is_the_one_in_the_code() -> None:
    from af3 import contract, parameters
    from af3.inputs import decoding

    assert f"| {parameters.Parameters().max_tokens} |" in README
    assert f"at most {contract.MAX_CLIP_SECONDS} s" in README
    assert f"at most {decoding.MAX_CHANNELS} channels" in README
    assert f"{contract.MAX_TEXT_TOKENS:,} tokens".replace(",", " ") in README
    assert f"at most {contract.MAX_REQUEST_ID} characters" in README
    assert f"list of up to {parameters.MAX_STOP_STRINGS}" in README
