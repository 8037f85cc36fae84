"""Asking about files."""

from __future__ import annotations

import base64
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.page_stand_in import StandIn
from tests.web.conftest import Open

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
