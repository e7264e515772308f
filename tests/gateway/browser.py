"""A headless Chromium, told what to do through its debugging protocol."""

import base64
import itertools
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.waiting import eventually


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        """What the page's script, or its policy, complained about."""
        self._tell("Runtime.enable")
        self._tell("Log.enable")

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is there."""
        self._tell("Page.navigate", url=url)
        eventually(lambda: self.run("document.readyState") == "complete", f"{url} is there", 20)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self._tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def text(self, element_id: str) -> str:
        """What an element shows."""
        return self.run(f"document.getElementById({element_id!r}).innerText")

    def type(self, element_id: str, text: str) -> None:
        """Click into a field, and type."""
        self.run(f"document.getElementById({element_id!r}).focus()")
        self._tell("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click what a selector finds."""
        self.run(f"document.querySelector({selector!r}).click()")

    def picture(self, file: Path, width: int, height: int) -> None:
        """What it looks like."""
        self._tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        file.write_bytes(base64.b64decode(self._tell("Page.captureScreenshot", format="png")["data"]))

    def _tell(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("method") == "Runtime.exceptionThrown":
                self.problems.append(told["params"]["exceptionDetails"]["text"])
            if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["source"] == "security":
                self.problems.append(told["params"]["entry"]["text"])
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                return told["result"]


@contextmanager
def browsing(binary: str, profile: Path) -> Iterator[Page]:
    """A browser with one page."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [binary, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        port = eventually(lambda: port_file.is_file() and port_file.read_text().split("\n")[0], "Chromium runs", 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            [target] = [target for target in json.load(answer) if target["type"] == "page"]
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Page(socket)
    finally:
        browser.terminate()
        browser.wait(20)
