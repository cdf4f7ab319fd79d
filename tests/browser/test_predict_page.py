"""The page of `serve-model` in a real Chromium: a photograph is dropped, reasoning and map appear,
nothing escapes.

With GEOAGENT_MODEL (a trained checkpoint) the answers are its own, for the documentation's picture.
"""

import base64
import os
import threading
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import expect

from geoagent_rl.data import manifest
from geoagent_rl.network import listen
from geoagent_rl.prediction.locator import Locator
from geoagent_rl.prediction.server import Server
from geoagent_rl.tiny import scenes

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
STAGES = [
    {
        "clues": ["white plates", EVIL],
        "reasoning": f"Because of {EVIL}",
        "conclusion": name,
        "uncertainty": "Low",
    }
    for name in ("Germany", "Bayern", "München")
]
ROW = {
    "text": EVIL, "problem": "", "stages": STAGES, "answer": f"Germany; Bayern; {EVIL}", "lat": 48.137, "lon": 11.575,
    "level": "place", "name": "Munich", "admin1": "Bavaria", "country_code": "DE", "provider": "gazetteer",
}  # fmt: skip


@pytest.fixture(scope="module")
def address():
    model = os.environ.get("GEOAGENT_MODEL", "")
    locate = Locator(Path(model)).locate if model else lambda picture: ROW
    name = "/".join(Path(model).parts[-2:]) or "a made-up model"
    server = Server(locate, name, max_bytes=1_000_000, max_megapixels=10)
    listening = listen("127.0.0.1", 0)
    running = uvicorn.Server(uvicorn.Config(server.app(("127.0.0.1",)), log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    running.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    (sample, *_) = manifest.read(scenes.make(tmp_path_factory.mktemp("scene"), 1, 5, "heldout"))
    return Path(sample.image)


def drop(page, data: bytes) -> None:
    """Lets go of a file over the drop zone, as a person does with a mouse."""
    page.evaluate(
        """text => {
            const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "photo.jpg", {type: "image/jpeg"}));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
        }""",
        base64.b64encode(data).decode(),
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_dropped_photograph_is_located_and_shown_with_reasons_and_map(
    page, errors, address, photo, photograph, faults, narrow, theme
):
    page.emulate_media(color_scheme=theme)
    page.goto(address)
    assert faults(page) == []
    drop(page, photo.read_bytes())
    expect(page.locator(".answer")).to_be_visible(timeout=60_000)
    expect(page.locator(".stage")).to_have_count(3)
    assert page.locator(".rollout img").evaluate("img => img.naturalWidth") == 168
    drawn = page.locator(".world svg")
    assert drawn.locator(".guess").bounding_box()["width"] > 2
    whole = drawn.get_attribute("viewBox")
    page.get_by_role("button", name="zoom in").click()
    expect(drawn).not_to_have_attribute("viewBox", whole)
    assert page.title().startswith("GeoAgent-RL") and len(page.locator("script").all()) == 1
    assert faults(page) == [] and errors == []
    if theme == "light":
        page.set_viewport_size({"width": 1000, "height": 1370})
        page.evaluate("scrollTo(0, 0)")
        photograph(page, "predict.png")
    assert narrow(page)


def test_what_is_no_photograph_is_refused_on_the_page(page, address):
    page.goto(address)
    drop(page, b"no image")
    expect(page.get_by_role("alert")).to_contain_text("not a readable image")
    expect(page.locator("#photo")).to_be_attached()  # another can be tried at once
