"""What goes wrong, in plain words, and the way on from there."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.support.page_stand_in import StandIn
from tests.web.conftest import ANOTHER_HOST, Open
from tests.web.test_page_ask import SAMPLES, drop


def ask(page: Page, question: str = "What do you hear?") -> None:
    page.locator("#question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def test_a_server_that_is_away_is_waited_for(open_page: Open, stand_in: StandIn, screenshot):
    page = open_page(f"{stand_in.url}/#ask")
    expect(page.locator("#model")).to_have_text("stand-in")
    stand_in.stop()
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text("cannot be reached. Is it running?")
    expect(page.locator("#question")).to_have_value("What do you hear?")  # nothing typed is lost
    screenshot(page, "away")
    page.get_by_role("tab", name="Talk").click()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#talk-trouble")).to_contain_text("cannot be reached")
    with StandIn(stand_in.port).running():
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#phase")).to_have_text("Listening")
        expect(page.locator("#talk-trouble")).to_be_hidden()


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (
            (429, "64 requests are in flight", {"retry-after": "3"}),
            "The server is busy: 64 requests are in flight.",
        ),
        ((400, "audio[0]: 15 ms of sound is too short", {}), "siren.wav: 15 ms of sound is too short."),
        ((413, "the request has more than 128 MB", {}), "more than 128 MB. Send fewer or shorter ones."),
        ((503, "the server is starting", {}), "The server is not ready: the server is starting. Try again"),
    ],
)
def test_a_refusal_is_shown_and_the_question_stays(open_page: Open, stand_in: StandIn, refused, words):
    stand_in.faults.refuse = refused
    page = open_page(f"{stand_in.url}/#ask")
    drop(page, SAMPLES / "siren.wav")
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text(words)
    expect(page.locator("#clips .clip")).to_have_count(1)
    expect(page.locator(".answer")).to_have_count(0)
    stand_in.faults.refuse = None
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".answer .words")).to_contain_text("until somebody says stop.")
    expect(page.locator("#ask-trouble")).to_be_hidden()


def test_an_answer_that_breaks_off_keeps_what_came(open_page: Open, stand_in: StandIn):
    stand_in.faults.break_off = True
    page = open_page(f"{stand_in.url}/#ask")
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text("before the answer was complete. Ask again.")
    expect(page.locator(".answer .words")).to_contain_text("I hear a long")
    expect(page.locator(".answer .figures")).to_contain_text("broken off")


def test_an_error_in_the_middle_of_an_answer_is_shown(open_page: Open, stand_in: StandIn):
    stand_in.faults.fail_late = "the decoder died; ask again"
    page = open_page(f"{stand_in.url}/#ask")
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text("the decoder died; ask again")


def test_a_key_is_asked_for_and_sent_and_kept_for_the_tab_alone(
    open_page: Open, stand_in: StandIn, screenshot
):
    stand_in.faults.key = "sesame"
    page = open_page(f"{stand_in.url}/#ask")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#key-field")).to_be_focused()
    screenshot(page, "key")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.locator("#key-field").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_text("stand-in")
    ask(page)
    expect(page.locator(".answer .words")).to_contain_text("until somebody says stop.")
    page.get_by_role("tab", name="Talk").click()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#phase")).to_have_text("Listening")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_a_denied_microphone_says_what_to_do(open_page: Open, stand_in: StandIn, screenshot):
    page = open_page(stand_in.url, permissions=[], denied=True)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#talk-trouble")).to_contain_text("was not allowed to use the microphone")
    screenshot(page, "denied")
    page.get_by_label("Type instead of speaking").fill("Hello")  # which needs none
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant")).to_contain_text("I hear a long low tone")


def test_sound_from_an_insecure_address_says_which_address_to_use(
    open_page: Open, stand_in: StandIn, screenshot
):
    page = open_page(f"http://{ANOTHER_HOST}:{stand_in.port}")
    page.get_by_role("button", name="Start").click()
    words = f"Open the page as http://127.0.0.1:{stand_in.port}"
    expect(page.locator("#talk-trouble")).to_contain_text(words)
    screenshot(page, "insecure")
    page.get_by_role("tab", name="Ask about files").click()
    ask(page)  # text needs no more than HTTP
    expect(page.locator(".answer .words")).to_contain_text("until somebody says stop.")
    page.get_by_role(
        "button", name="Copy as curl"
    ).click()  # nor does a command, which is shown to be copied by hand
    expect(page.locator(".snippet")).to_have_value(re.compile("^printf"))
    page.get_by_label("Spoken answer").check()
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text(words)


def test_a_file_that_is_no_file_is_named(open_page: Open, stand_in: StandIn, tmp_path):
    page = open_page(f"{stand_in.url}/#ask")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "odd.amr").write_bytes(b"#!AMR\n" + bytes(100))
    page.locator("#files").set_input_files([tmp_path / "empty.wav", tmp_path / "odd.amr"])
    expect(page.locator("#ask-trouble")).to_contain_text("empty.wav is empty.")
    [card] = page.locator("#clips .clip").all()  # the other one can still be asked about
    expect(card).to_contain_text("this browser cannot draw it; the server may still read it")


def test_a_file_that_vanished_is_named(open_page: Open, stand_in: StandIn, tmp_path):
    page = open_page(f"{stand_in.url}/#ask")
    gone = tmp_path / "gone.wav"
    gone.write_bytes((SAMPLES / "siren.wav").read_bytes())
    page.locator("#files").set_input_files(gone)
    expect(page.locator("#clips .clip")).to_contain_text("2.3 s")
    gone.unlink()
    ask(page)
    expect(page.locator("#ask-trouble")).to_contain_text("gone.wav cannot be read.")


@pytest.mark.parametrize(
    ("close", "words"),
    [
        ((1001, "draining"), "The server is stopping (draining). Press Start when it is back."),
        ((1008, "the session has lasted an hour"), "closed the conversation: the session has lasted an hour"),
        ((1011, ""), "The connection to the server was lost."),
    ],
)
def test_a_conversation_that_ends_says_why(open_page: Open, stand_in: StandIn, close, words):
    stand_in.faults.close = close
    page = open_page(stand_in.url)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#talk-trouble")).to_contain_text(words)
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
