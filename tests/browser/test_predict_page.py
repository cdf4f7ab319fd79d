"""The page of `serve-model` in a real Chromium: a photograph is dropped, reasoning and map appear,
nothing escapes.

With GEOAGENT_MODEL (a trained checkpoint) the answers are its own, for the documentation's picture.
"""

import base64
import json
import os
import threading
from pathlib import Path

import pytest
import uvicorn

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
    page.run(
        f"""(() => {{
            const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(data).decode())}), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "photo.jpg", {{type: "image/jpeg"}}));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {{dataTransfer: carried, bubbles: true, cancelable: true}}));
        }})()"""
    )


def test_a_dropped_photograph_is_located_and_shown_with_reasons_and_map(
    page, address, photo, screenshots
):
    page.open(address)
    page.wait("document.querySelector('#drop') !== null")
    drop(page, photo.read_bytes())
    page.wait("document.querySelector('.answer') !== null", 60)
    assert page.run("document.querySelectorAll('.stage').length") == 3
    assert (
        page.wait("document.querySelector('.rollout img').naturalWidth") == 168
    )  # the photograph itself
    mark = page.run("document.querySelector('svg .guess').getBoundingClientRect().width")
    assert mark > 2 and page.run("document.title").startswith("GeoAgent-RL")
    assert page.run("[...document.scripts].length") == 1 and page.errors == []
    page.send(
        "Emulation.setDeviceMetricsOverride",
        width=1180,
        height=1345,
        deviceScaleFactor=1,
        mobile=False,
    )
    page.photograph(screenshots / "predict.png")


def test_what_is_no_photograph_is_refused_on_the_page(page, address):
    page.open(address)
    page.wait("document.querySelector('#drop') !== null")
    drop(page, b"no image")
    assert "not a readable image" in page.wait("document.querySelector('[role=alert]')?.innerText")
    assert page.run("document.querySelector('#photo') !== null")  # another can be tried at once
