"""A page in a real Chromium, driven over the DevTools protocol: open, wait for a condition, type,
click, photograph.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import connect

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--mute-audio", "--remote-debugging-port=0", "--remote-allow-origins=*",
    # so that a frame of another site is a target of its own, which tests can look into
    "--site-per-process",
)  # fmt: skip
START_S, ANSWER_S, PAINT_S = 60.0, 30.0, 0.5
KEYS = {
    "Enter": 13,
    "Escape": 27,
    "Home": 36,
    "End": 35,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "Tab": 9,
}


class Browser:
    """One Chromium process with an empty profile in `profile`; `stop` ends it."""

    def __init__(self, path: str, profile: Path) -> None:
        command = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        note, stop = profile / "DevToolsActivePort", time.monotonic() + START_S
        while not note.exists() or not note.read_text().count("\n"):
            if self.process.poll() is not None or time.monotonic() > stop:
                raise AssertionError(f"Chromium did not start: exit code {self.process.poll()}")
            time.sleep(0.05)
        self.port = int(note.read_text().splitlines()[0])

    def page(self, width: int = 1280, height: int = 800) -> Page:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return Page(json.load(answer)["webSocketDebuggerUrl"], (width, height))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Page:
    """One tab. `errors` collects what the page's scripts threw and what its content policy
    refused.
    """

    def __init__(self, address: str, size: tuple[int, int] | None = None) -> None:
        self.origin = "http://" + address.split("/")[2]
        self.stack = contextlib.ExitStack()
        self.socket = self.stack.enter_context(
            connect(address, max_size=None, open_timeout=ANSWER_S)
        )
        self.numbers, self.errors = itertools.count(1), []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        if size:
            width, height = size
            self.send("Page.bringToFront")  # a page in the background does not look for news
            self.send(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=False,
            )

    def send(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=ANSWER_S))
            self.note(message)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:500])
        if message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(
                f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}"
            )

    def frame(self, part: str, seconds: float = 15.0) -> Page:
        """The frame of this page whose address has `part` in it; another site's frame is a page of
        its own.
        """
        stop = time.monotonic() + seconds
        while True:
            for target in self.targets():
                if target["type"] == "iframe" and part in target["url"]:
                    return Page(target["webSocketDebuggerUrl"])
            assert time.monotonic() < stop, (
                f"no frame {part} in {seconds} s: {[t['url'] for t in self.targets()]}"
            )
            time.sleep(0.1)

    def targets(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self.origin}/json/list", timeout=ANSWER_S) as answer:
            return json.load(answer)

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, (
            f"{expression}: {json.dumps(found['exceptionDetails'])[:500]}"
        )
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 15.0) -> Any:
        """The first true value of a JavaScript expression (an element counts as one), looked at
        every frame or so.
        """
        test = f"(() => {{ try {{ const v = {condition}; return v instanceof Node || v }} catch {{ return null }} }})()"
        stop = time.monotonic() + seconds
        while not (value := self.run(test)):
            seen = self.run("document.body?.innerText.slice(0, 600)")
            assert time.monotonic() < stop, (
                f"not true in {seconds} s: {condition}; the page says: {seen}; {self.errors}"
            )
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str) -> None:
        code = KEYS.get(key)
        what = {"key": key} | ({"windowsVirtualKeyCode": code} if code else {"text": key})
        what |= {"text": "\r"} if key == "Enter" else {}  # what presses a button
        self.send("Input.dispatchKeyEvent", type="keyDown", **what)
        self.send(
            "Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in what.items() if k != "text"}
        )

    def photograph(self, path: Path, colours: int = 200) -> None:
        """A PNG of what is seen, with few colours so that it is small."""
        time.sleep(PAINT_S)  # frames of other sites are painted on their own time
        data = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)

    def close(self) -> None:
        self.send("Page.close")
        self.stack.close()
