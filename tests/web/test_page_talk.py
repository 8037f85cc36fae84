"""Talking: a spoken question, an interruption, push-to-talk, typing."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.support import spoken_wav
from tests.support.page_stand_in import StandIn
from tests.web.conftest import Open, until


def test_a_spoken_question_is_answered(open_page: Open, stand_in: StandIn, screenshot):
    stand_in.faults.answer_s = 1.0
    page = open_page(stand_in.url, 1.0, "question.wav", 20.0)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#phase")).to_have_text("Speaking")
    screenshot(page, "talk")
    expect(page.locator(".turn.user")).to_contain_text("question 1")
    expect(page.locator(".turn.assistant")).to_contain_text("I hear a long low tone")
    expect(page.locator("#phase")).to_have_text("Listening")
    expect(page.locator("#talk-figures")).to_contain_text("first sound")


def test_speaking_up_silences_the_answer_within_100_ms(open_page: Open, stand_in: StandIn, screenshot):
    page = open_page(stand_in.url, 1.0, "question.wav", 3.0, "question.wav", 20.0)
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".turn.assistant[data-state=cut]")).to_be_visible()
    expect(page.locator(".turn.assistant")).to_have_count(2)
    screenshot(page, "interrupted")
    silence_ms, heard_ms = interruption(page)
    print(f"silent {silence_ms:.0f} ms after speech began; {heard_ms:.0f} ms were heard")
    assert silence_ms <= 100
    [truncated] = [event for event in stand_in.faults.events if event["type"] == "conversation.item.truncate"]
    assert truncated["item_id"] == "answer-1"
    # What was heard is what came out of the loudspeaker before it fell silent.
    assert truncated["audio_end_ms"] == pytest.approx(heard_ms, abs=60)
    told = page.locator(".turn.assistant").first
    expect(told.locator("del")).to_contain_text("stop")


def test_a_noise_that_is_no_speech_pauses_the_answer_and_loses_nothing_of_it(
    open_page: Open, stand_in: StandIn
):
    stand_in.faults.answer_s = 4.0
    noise = 0.02 * np.sin(
        2 * np.pi * 500 * np.arange(spoken_wav.HZ // 10) / spoken_wav.HZ
    )  # too soft for the server
    page = open_page(stand_in.url, 1.0, "question.wav", 2.0, noise, 30.0)
    page.get_by_role("button", name="Start").click()
    answer = page.locator(".turn.assistant")
    expect(answer.locator("i")).to_have_text("", timeout=30_000)
    expect(page.locator("#phase")).to_have_text("Listening")
    sound = page.evaluate("sound")
    playing = np.flatnonzero(np.abs(np.array(sound["loudspeaker"])) > 1e-3) / sound["rate"]
    [pause] = np.diff(playing)[np.diff(playing) > 0.2]
    assert pause == pytest.approx(0.6, abs=0.15)
    assert playing[-1] - playing[0] - pause == pytest.approx(4.0, abs=0.1)
    assert "conversation.item.truncate" not in [event["type"] for event in stand_in.faults.events]


def interruption(page: Page) -> tuple[float, float]:
    """ms from the second speech in the microphone to silence, and ms of sound before it."""
    sound = page.evaluate("sound")
    hz = sound["rate"]
    microphone, loudspeaker = np.array(sound["microphone"]), np.array(sound["loudspeaker"])
    playing = np.flatnonzero(np.abs(loudspeaker) > 1e-3)
    pauses = np.flatnonzero(np.diff(playing) > 0.2 * hz)
    first, last = playing[0], playing[pauses[0]] if len(pauses) else playing[-1]
    speech = np.flatnonzero(np.abs(microphone) > 0.02)
    second = speech[speech > first + 0.3 * hz][0]
    return 1000 * (last - second) / hz, 1000 * (last - first) / hz


def test_a_button_held_down_asks_when_it_is_let_go(open_page: Open, stand_in: StandIn):
    stand_in.faults.answer_s = 0.5
    page = open_page(stand_in.url, 0.2, "question.wav", 0.2, "question.wav", 20.0)
    page.get_by_label("Push to talk").check()
    page.get_by_role("button", name="Start").click()
    hold = page.locator("#hold")
    expect(hold).to_be_enabled()
    hold.focus()
    page.keyboard.down("Space")
    expect(page.locator("#phase")).to_have_text("Hearing you")
    until(page, "sound.microphone.length > 2 * sound.rate")
    assert [event["type"] for event in stand_in.faults.events][-1] == "input_audio_buffer.clear"
    page.keyboard.up("Space")
    expect(page.locator(".turn.assistant")).to_contain_text("I hear a long low tone")
    kinds = [event["type"] for event in stand_in.faults.events]
    assert kinds[-2:] == ["input_audio_buffer.commit", "response.create"]
    detection = stand_in.faults.events[0]["session"]["audio"]["input"]["turn_detection"]
    assert detection is None


def test_typing_interrupts_and_asks(open_page: Open, stand_in: StandIn):
    page = open_page(stand_in.url, 1.0, "question.wav", 30.0)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#phase")).to_have_text("Speaking")
    page.get_by_label("Type instead of speaking").fill("And now?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.user").nth(1)).to_contain_text("And now?")
    kinds = [event["type"] for event in stand_in.faults.events]
    assert kinds[-5:] == [
        "response.cancel",
        "conversation.item.truncate",
        "conversation.item.retrieve",
        "conversation.item.create",
        "response.create",
    ]


def test_the_stop_button_cancels(open_page: Open, stand_in: StandIn):
    page = open_page(stand_in.url, 1.0, "question.wav", 30.0)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#phase")).to_have_text("Speaking")
    page.get_by_role("button", name="Stop speaking").click()
    expect(page.locator("#phase")).to_have_text("Listening")
    expect(page.locator(".turn.assistant")).to_contain_text("interrupted")
