"""Asking about files."""

from __future__ import annotations

import base64
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.page_stand_in import StandIn
from tests.web.conftest import Open, until

SAMPLES = Path(__file__).parents[2] / "checkpoints" / "samples"


def drop(page: Page, *paths: Path) -> None:
    """As a file manager drops them."""
    files = [{"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    page.evaluate(
        """(files) => {
          const transfer = new DataTransfer();
          for (const { name, data } of files)
            transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          for (const kind of ["dragover", "drop"])
            document.getElementById("ask-panel").dispatchEvent(
              new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        files,
    )


def test_two_dropped_clips_are_drawn_and_asked_about(open_page: Open, stand_in: StandIn, screenshot):
    page = open_page(f"{stand_in.url}/#ask")
    drop(page, SAMPLES / "trumpet.flac", SAMPLES / "command.mp3")
    cards = page.locator("#clips .clip")
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_contain_text("2.9 s")
    expect(cards.nth(1)).to_contain_text("0.9 s")
    page.locator("#question").fill("Which instrument is playing?")
    screenshot(page, "files")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.locator(".answer")
    expect(answer).to_have_attribute("aria-busy", "false")
    expect(answer.locator(".words")).to_contain_text("I hear a long low tone")
    expect(answer.locator(".figures")).to_contain_text("first text")
    [body] = stand_in.faults.bodies
    first, second, text = body["messages"][0]["content"]
    assert base64.b64decode(first["input_audio"]["data"]) == (SAMPLES / "trumpet.flac").read_bytes()
    assert first["input_audio"]["format"] == "flac"
    assert second["input_audio"]["format"] == "mp3"
    assert text == {"type": "text", "text": "Which instrument is playing?"}
    screenshot(page, "answer")


def test_a_spoken_answer_in_a_chosen_voice_is_heard(open_page: Open, stand_in: StandIn):
    page = open_page(f"{stand_in.url}/#ask")
    page.get_by_label("Voice").select_option("second")
    page.get_by_label("Spoken answer").check()
    page.locator("#question").fill("What is it?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .figures")).to_contain_text("first sound")
    until(page, "sound.loudspeaker.filter((sample) => Math.abs(sample) > 0.1).length > 0.5 * sound.rate")
    [body] = stand_in.faults.bodies
    assert body["audio"] == {"format": "pcm16", "voice": "second"}
    page.get_by_label("Voice").select_option("first")  # the server's own: it need not be named
    page.locator("#question").fill("And now?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_count(2)
    until(page, "document.querySelectorAll('.answer')[1].ariaBusy === 'false'")
    assert stand_in.faults.bodies[1]["audio"] == {"format": "pcm16"}


def test_later_questions_go_on_with_the_same_clips(open_page: Open, stand_in: StandIn):
    page = open_page(f"{stand_in.url}/#ask")
    for place, (sample, question) in enumerate([("siren.wav", "What is it?"), ("command.mp3", "And this?")]):
        drop(page, SAMPLES / sample)
        page.locator("#question").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator(".answer").nth(place)).to_have_attribute("aria-busy", "false")
    first, second = (body["messages"] for body in stand_in.faults.bodies)
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[0] == first[0]
    assert second[1]["content"] == page.locator(".answer .words").first.text_content()
    assert second[2]["content"][0]["input_audio"]["format"] == "mp3"
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".answer")).to_have_count(0)
    page.locator("#question").fill("What is it?")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.answer')?.ariaBusy === 'false'")
    assert len(stand_in.faults.bodies[2]["messages"]) == 1


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(open_page: Open, stand_in: StandIn):
    stand_in.faults.slow_s = 0.3
    page = open_page(f"{stand_in.url}/#ask")
    page.locator("#question").fill("What is it?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .words")).to_contain_text("I hear")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".answer .figures")).to_contain_text("stopped")
    expect(page.locator(".answer .words")).not_to_contain_text("says stop")
    expect(page.locator("#ask-trouble")).to_be_hidden()
