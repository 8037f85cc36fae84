"""The page in a real Chromium, whose microphone hears a WAV file.

After every test: no error in a script, no request to anywhere else, nothing that the content security policy refused.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.support import spoken_wav
from tests.support.page_stand_in import StandIn
from tests.support.spoken_wav import Part

SCREENSHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
ANOTHER_HOST = "box.test"  # this machine, by a name that a browser does not know to be this machine
GRANT = "--use-fake-ui-for-media-stream"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    GRANT,
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    f"--host-resolver-rules=MAP {ANOTHER_HOST} 127.0.0.1",
]
# Before the page's own code: what the policy refused, and both sides of the sound, the peak of every 6 ms.
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (e) =>
  violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
window.sound = { rate: 0, microphone: [], loudspeaker: [] };
const connect = AudioNode.prototype.connect;
let recorder = null;
AudioNode.prototype.connect = function (target, ...rest) {
  const context = this.context;
  if (context instanceof AudioContext && !recorder) {
    const merger = context.createChannelMerger(2);
    const tap = context.createScriptProcessor(256, 2, 1);
    sound.rate = context.sampleRate / tap.bufferSize;
    const peak = (samples) => samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    tap.onaudioprocess = ({ inputBuffer }) => {
      sound.microphone.push(peak(inputBuffer.getChannelData(0)));
      sound.loudspeaker.push(peak(inputBuffer.getChannelData(1)));
    };
    connect.call(merger, tap);
    connect.call(tap, context.destination);
    recorder = merger;
  }
  if (recorder && this instanceof MediaStreamAudioSourceNode) connect.call(this, recorder, 0, 0);
  if (recorder && target === context.destination) connect.call(this, recorder, 0, 1);
  return connect.call(this, target, ...rest);
};
"""

Open = Callable[..., Page]
expect.set_options(timeout=20_000)


def chromium() -> str | None:
    """An installed Chromium; None: Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(
        (found for name in names if (found := shutil.which(name))), None
    )


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn().running() as server:
        yield server


@pytest.fixture
def open_page(playwright: Playwright, tmp_path: Path) -> Iterator[Open]:
    """`open_page(url, *microphone, **context)`: the page, hearing these parts once."""
    browsers: list[Browser] = []
    faults: list[str] = []

    def opened(url: str, *microphone: Part, denied: bool = False, **context: object) -> Page:
        wav = spoken_wav.write(tmp_path / "microphone.wav", *(microphone or (30.0,)))
        hears = f"--use-file-for-fake-audio-capture={wav}%noloop"
        flags = [flag for flag in FLAGS if not (denied and flag == GRANT)]
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*flags, hears])
        browsers.append(browser)
        granted = {"permissions": ["microphone", "clipboard-read", "clipboard-write"], **context}
        page = browser.new_context(**granted).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(20_000)
        page.add_init_script(WATCH)
        origin = url.split("#")[0].rstrip("/")
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((origin, f"blob:{origin}", "data:"))
                else faults.append(f"request to {request.url}")
            ),
        )
        page.goto(url)
        return page

    yield opened
    for browser in browsers:
        for page in (page for context in browser.contexts for page in context.pages):
            faults += page.evaluate("window.violations")
        browser.close()
    assert faults == []


def until(page: Page, expression: str) -> None:
    """Waits for a JavaScript expression. `page.wait_for_function` would evaluate a string, which the page forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    """Keeps what the page looks like, for people."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)  # type: ignore[return-value]
