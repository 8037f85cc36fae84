"""The page and the real server: af3-tiny hears the microphone and the files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from clients import AudioFlamingo
from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key
from serving.door.door import Door
from serving.host.triton import Server
from tests.support.tiny_server import tiny_door, tiny_triton
from tests.web.conftest import ANOTHER_HOST, Open, until
from tests.web.test_page_ask import SAMPLES, drop
from tests.web.test_page_talk import interruption

PARIS = "The capital of France is Paris."  # to checkpoints/samples/question.wav


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_triton(tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture(scope="module")
def live(triton: Server) -> Iterator[Door]:
    with tiny_door(triton) as door:
        yield door


@pytest.fixture
def url(live: Door) -> str:
    return f"http://127.0.0.1:{live.ports.http}"


@pytest.fixture
def flamingo(live: Door) -> Iterator[AudioFlamingo]:
    with AudioFlamingo(live.url) as connected:
        yield connected


def frames(page: Page) -> dict[str, list[dict[str, Any]]]:
    """Events of the conversation, both ways, as they come."""
    seen: dict[str, list[dict[str, Any]]] = {"sent": [], "received": []}

    def watch(socket: Any) -> None:
        socket.on("framesent", lambda payload: seen["sent"].append(json.loads(payload)))
        socket.on("framereceived", lambda payload: seen["received"].append(json.loads(payload)))

    page.on("websocket", watch)
    return seen


def test_a_spoken_question_gets_a_spoken_answer(open_page: Open, url: str, screenshot):
    page = open_page(url, 1.0, "question.wav", 30.0)
    page.get_by_role("button", name="Start").click()
    answer = page.locator(".turn.assistant")
    expect(answer).to_contain_text(PARIS)
    expect(page.locator("#talk-figures")).to_contain_text("first sound")
    screenshot(page, "live-talk")
    expect(page.locator("#phase")).to_have_text("Listening")  # all of it was played
    expect(answer.locator("i")).to_have_text("")  # and nothing is left unspoken
    loudness = np.sqrt(np.mean(np.square(page.evaluate("sound.loudspeaker"))))
    assert loudness > 0.005
    expect(page.locator(".turn.user")).not_to_contain_text("…")


def test_speaking_up_stops_the_answer_and_both_sides_know_what_was_heard(
    open_page: Open, url: str, screenshot
):
    # The pauses differ, so that some question falls into an answer whatever the load.
    parts = [part for pause in (1.4, 1.8, 2.2, 2.6, 3.2, 4.0) for part in ("question.wav", pause)]
    page = open_page(url, 1.0, *parts, 30.0)
    seen = frames(page)
    page.get_by_role("button", name="Start").click()
    cut = page.locator(".turn.assistant[data-state=cut]:has(del:not(:empty))").first
    expect(cut).to_be_visible(timeout=40_000)
    silence_ms, heard_ms = interruption(page)
    expect(page.locator("#phase")).to_have_text("Listening", timeout=40_000)
    screenshot(page, "live-interrupted")
    print(f"silent {silence_ms:.0f} ms after speech began; {heard_ms:.0f} ms were heard")
    assert silence_ms <= 100
    truncated = next(event for event in seen["sent"] if event["type"] == "conversation.item.truncate")
    assert truncated["audio_end_ms"] == pytest.approx(heard_ms, abs=60)
    kept = next(event for event in seen["received"] if event["type"] == "conversation.item.retrieved")
    spoken = cut.locator("span").evaluate("(span) => span.firstChild.textContent")
    assert spoken == kept["item"]["content"][0]["transcript"]
    assert PARIS.startswith(spoken)
    assert spoken != PARIS


def test_a_button_is_held_to_ask_about_sound_that_is_no_speech(open_page: Open, url: str):
    page = open_page(url, 0.3, "siren.wav", 30.0)
    page.get_by_label("Push to talk").check()
    page.get_by_role("button", name="Start").click()
    hold = page.locator("#hold")
    expect(hold).to_be_enabled()
    hold.hover()
    page.mouse.down()
    until(page, "sound.microphone.length > 2.8 * sound.rate")
    page.mouse.up()
    expect(page.locator(".turn.assistant")).to_contain_text(re.compile(r"\w+"))
    expect(page.locator("#phase")).to_have_text("Hold the button and speak")


def test_a_typed_question_needs_no_microphone(open_page: Open, url: str):
    page = open_page(url, permissions=[], denied=True)
    page.get_by_label("Type instead of speaking").fill("What is the capital of France?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant")).to_contain_text(re.compile(r"\w+"))


@pytest.mark.parametrize("sample", ["siren.wav", "trumpet.flac", "command.mp3"])
def test_a_clip_is_asked_about(open_page: Open, url: str, sample):
    known = {entry["file"]: entry for entry in json.loads((SAMPLES / "samples.json").read_text())}[sample]
    page = open_page(f"{url}/#ask")
    drop(page, SAMPLES / sample)
    page.locator("#question").fill(known["question"])
    page.keyboard.press("Enter")
    expect(page.locator(".answer .words")).to_have_text(known["answer"])


def test_two_clips_then_a_second_question_are_answered_as_over_grpc(
    open_page: Open, url: str, flamingo: AudioFlamingo, screenshot
):
    page = open_page(f"{url}/#ask")
    clips = [SAMPLES / "siren.wav", SAMPLES / "trumpet.flac"]
    drop(page, *clips)
    questions = ["Which instrument is playing?", "What do you hear?"]
    for number, question in enumerate(questions):
        page.locator("#question").fill(question)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".answer").nth(number)).to_have_attribute("aria-busy", "false")
    screenshot(page, "live-files")
    shown = page.locator(".answer .words").all_text_contents()
    sounds = [{"type": "audio"} for _ in clips]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [*sounds, {"type": "text", "text": questions[0]}]}
    ]
    for number, answer in enumerate(shown):
        assert "".join(delta.text for delta in flamingo.chat(messages, clips)) == answer
        if number + 1 < len(questions):
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": questions[number + 1]},
            ]


def test_an_answer_is_spoken(open_page: Open, url: str, live: Door):
    page = open_page(f"{url}/#ask")
    drop(page, SAMPLES / "siren.wav")
    page.get_by_label("Spoken answer").check()
    page.locator("#question").fill("What do you hear?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .words")).to_have_text("I hear a siren.")
    expect(page.locator(".answer .figures")).to_contain_text("first sound")
    loudness = np.sqrt(np.mean(np.square(page.evaluate("sound.loudspeaker"))))
    assert loudness > 0.005


def test_think_first_reaches_the_model(open_page: Open, url: str, flamingo: AudioFlamingo):
    """af3-tiny has learnt no thoughts, but is asked otherwise: the answer is the one that it gives to `think`."""
    question = "What is the capital of France?"
    page = open_page(f"{url}/#ask")
    page.get_by_label("Think first").check()
    page.locator("#question").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
    shown = page.locator(".answer .words").text_content()
    plain, thinking = (
        "".join(delta.text for delta in flamingo.ask([], question, think=think)) for think in (False, True)
    )
    assert shown == thinking
    assert plain != thinking  # or this test could not fail


def test_a_clip_that_is_too_short_is_refused_in_words(open_page: Open, url: str, tmp_path: Path, screenshot):
    import soundfile

    soundfile.write(tmp_path / "click.wav", np.zeros(160), 16000)
    page = open_page(f"{url}/#ask")
    page.locator("#files").set_input_files(tmp_path / "click.wav")
    page.locator("#question").fill("What do you hear?")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-trouble")).to_contain_text("click.wav: 10 ms is too short to hear")
    screenshot(page, "live-refused")


@pytest.mark.parametrize("kind", ["curl", "Python"])
def test_the_copied_question_gives_the_same_answer(open_page: Open, url: str, kind):
    page = open_page(f"{url}/#ask")
    drop(page, SAMPLES / "siren.wav")
    page.locator("#question").fill("What do you hear?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .words")).to_have_text("I hear a siren.")
    page.get_by_role("button", name=f"Copy as {kind}").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    command = ["bash", "-c", copied] if kind == "curl" else [sys.executable, "-c", copied]
    # What stands in the environment of who tests must not reach a server elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(command, cwd=SAMPLES, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    said = (
        json.loads(done.stdout)["choices"][0]["message"]["content"] if kind == "curl" else done.stdout.strip()
    )
    assert said == "I hear a siren."


def test_a_server_with_keys_is_used_after_one_is_given(open_page: Open, triton: Server, tmp_path: Path):
    key = new_key()
    KeyFile().with_key(ApiKey(name="page", sha256=hashed(key))).write(tmp_path / "keys.json")
    with tiny_door(triton, tmp_path / "keys.json") as door:
        page = open_page(f"http://127.0.0.1:{door.ports.http}", 4.0, "question.wav", 30.0)
        expect(page.get_by_role("dialog")).to_be_visible()
        page.locator("#key-field").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_text("audio_flamingo")
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".turn.assistant")).to_contain_text(PARIS)
        page.get_by_role("tab", name="Ask about files").click()
        drop(page, SAMPLES / "siren.wav")
        page.locator("#question").fill("What do you hear?")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .words")).to_have_text("I hear a siren.")


def test_a_page_of_another_host_name_is_refused_with_the_option_that_allows_it(open_page: Open, live: Door):
    page = open_page(f"http://{ANOTHER_HOST}:{live.ports.http}/#ask")
    page.locator("#question").fill("What do you hear?")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-trouble")).to_contain_text("start it with --allow-origin")
