"""The page hears the natural voice: a digit or a command at a time, spoken as the server speaks it.

The microphone is a file of Chromium's, which it plays once; so each word has a browser of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from af3.speech.built_voice import available_voices
from af3.speech.engines.kokoro import KokoroSynthesizer
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from tests.support import spoken_wav
from tests.support.natural_server import VOICE, WORDS, natural_server, said
from tests.web.conftest import Open
from training.questions import transcript

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KokoroSynthesizer]]:
    """The page's address, and the voice of its server."""
    folder = tmp_path_factory.mktemp("natural")
    with natural_server(folder) as triton:
        engines = folder / "engines" / "cpu"
        voices = KokoroSynthesizer.load(engines / "voice", threads=1)
        ports = claim(Ports(0, 0, 0), HOST)
        with Door(TritonAddress(triton.ports, ""), HOST, ports, voices=available_voices(engines)) as door:
            door.admission.ready = True
            yield f"http://{HOST}:{door.ports.http}", voices
        voices.close()


@pytest.mark.timeout(1200)
def test_the_page_hears_the_voice_that_its_server_speaks_with(
    natural: tuple[str, KokoroSynthesizer], open_page: Open
) -> None:
    url, voices = natural
    wrong = []
    for word in WORDS:
        page = open_page(url, 0.5, said(voices, VOICE, f"{word.capitalize()}.", spoken_wav.HZ), 20.0)
        page.get_by_role("button", name="Start").click()
        answer = page.locator(".turn.assistant")
        expect(answer).to_contain_text(".")
        expect(page.locator("#phase")).to_have_text("Listening")  # all of it was spoken
        if transcript(word) not in answer.inner_text():
            wrong.append((word, answer.inner_text()))
        page.context.browser.close()
    print(f"page: {len(WORDS) - len(wrong)} of {len(WORDS)}; {wrong}")
    assert len(wrong) <= 0.05 * len(WORDS)
