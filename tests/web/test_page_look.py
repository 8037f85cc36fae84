"""Phone width, dark, keyboard alone, and what axe finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.page_stand_in import StandIn
from tests.web.conftest import Open
from tests.web.test_page_ask import SAMPLES, drop

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}
WIDTHS = {"desk": {"width": 1280, "height": 800}, "phone": PHONE}


def faults(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{rule['impact']} {rule['id']}: {node['html']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def too_wide(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_can_be_used_by_everybody(open_page: Open, stand_in: StandIn, screenshot, scheme, width):
    stand_in.faults.thoughts = "First I listen, then I answer."
    page = open_page(
        stand_in.url,
        0.5,
        "question.wav",
        2.0,
        "question.wav",
        9.0,
        viewport=WIDTHS[width],
        color_scheme=scheme,
    )
    assert faults(page) == []
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".turn.assistant[data-state=cut]")).to_be_visible()
    expect(page.locator("#phase")).to_have_text("Speaking")
    assert faults(page) == []
    assert not too_wide(page)
    screenshot(page, f"talk-{width}-{scheme}")
    page.get_by_role("tab", name="Ask about files").click()
    screenshot(page, f"ask-empty-{width}-{scheme}")
    assert faults(page) == []
    drop(page, SAMPLES / "melody.wav", SAMPLES / "late_bell.ogg")
    page.get_by_label("Think first").check()
    page.locator("#question").fill("Which of the two clips has a bell in it?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".answer .clip")).to_have_count(2)
    drop(page, SAMPLES / "command.mp3")
    expect(page.locator("#clips .clip")).to_contain_text("0.9 s")
    page.get_by_role("button", name="Ask", exact=True).focus()
    assert faults(page) == []
    assert not too_wide(page)
    screenshot(page, f"ask-{width}-{scheme}")


def test_everything_is_done_from_the_keyboard(open_page: Open, stand_in: StandIn):
    page = open_page(stand_in.url)
    expect(page.get_by_label("Voice")).to_be_visible()  # once the server has listed its voices
    page.keyboard.press("Tab")
    expect(page.get_by_label("Voice")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Talk")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Ask about files")).to_be_focused()
    expect(page.locator("#ask-panel")).to_be_visible()
    drop(page, SAMPLES / "melody.wav")
    expect(page.locator("#clips .clip")).to_contain_text("2.9 s")
    slider = page.get_by_role("slider", name="Position in melody.wav")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "0.1")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "2.9 s of 2.9 s")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Remove melody.wav")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#clips .clip")).to_have_count(0)
    expect(page.get_by_role("button", name="Add clips")).to_be_focused()
    page.locator("#question").focus()
    page.keyboard.type("What is it?")
    page.keyboard.press("Enter")
    expect(page.locator("#announcement")).to_contain_text("until somebody says stop.")


def test_the_playhead_moves_with_the_sound(open_page: Open, stand_in: StandIn):
    page = open_page(f"{stand_in.url}/#ask")
    drop(page, SAMPLES / "command.mp3")
    page.get_by_role("button", name="Play command.mp3").click()
    expect(page.get_by_role("button", name="Pause command.mp3")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "0.9")
    expect(page.get_by_role("button", name="Play command.mp3")).to_be_visible()
    assert page.locator(".head").evaluate("(head) => parseFloat(head.style.left)") > 95
