"""A real browser without a network: what a page asks for, what it complains of, how it looks."""

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
HIGHEST = 16_000  # pixels that Chromium draws at once
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@dataclass
class Visit:
    """What came of opening a page: addresses asked for, complaints, its text, its picture."""

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    text: str = ""
    overflow: int = 0  # pixels that the page is wider than its window
    png: bytes = b""


def visit(page: Path, *, wide: int = 1000, dark: bool = False, upto: str = "") -> Visit:
    """Open a file as a person does by a double click, offline; pictured `upto` an element's id."""
    from websockets.sync.client import connect

    seen = Visit()
    with _running() as address, connect(address, max_size=None) as socket:
        call = _Calls(socket, seen)
        for domain in ("Network", "Log", "Runtime", "Page"):
            call(f"{domain}.enable")
        call("Network.emulateNetworkConditions", offline=True, latency=0,
             downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        call("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": wide, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        call("Emulation.setDeviceMetricsOverride", **size)
        call("Page.navigate", url=page.resolve().as_uri())
        call.until("Page.loadEventFired")
        time.sleep(0.3)
        high = call.value(f"document.getElementById({upto!r})?.getBoundingClientRect().top ?? "
                          "document.documentElement.scrollHeight")  # fmt: skip
        seen.text = call.value("document.body.innerText")
        seen.overflow = call.value("document.documentElement.scrollWidth") - wide
        clip = {"x": 0, "y": 0, "width": wide, "height": min(high, HIGHEST), "scale": 1}
        shot = call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        seen.png = base64.b64decode(shot["data"])
    return seen


class _Calls:
    """The browser's debugging protocol over one socket."""

    def __init__(self, socket: Any, seen: Visit) -> None:
        self._socket, self._seen, self._numbers = socket, seen, itertools.count(1)
        self._events: list[str] = []

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    def until(self, event: str) -> None:
        while event not in self._events:
            self._next()

    def value(self, expression: str) -> Any:
        return self("Runtime.evaluate", expression=expression)["result"]["value"]

    def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
        params = told.get("params", {})
        match told.get("method"):
            case "Network.requestWillBeSent":
                self._seen.asked.append(params["request"]["url"])
            case "Log.entryAdded":
                self._seen.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self._seen.complaints.append(json.dumps(params))
            case str(event):
                self._events.append(event)
        return told


@contextmanager
def _running() -> Iterator[str]:
    """A browser with a profile of its own; the address of its first tab."""
    import httpx

    assert PROGRAM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            told = Path(profile) / "DevToolsActivePort"
            for _ in range(300):
                if told.exists() and "\n" in told.read_text():
                    break
                time.sleep(0.1)
            port = told.read_text().split()[0]
            tabs = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            yield next(t["webSocketDebuggerUrl"] for t in tabs if t["type"] == "page")
        finally:
            process.terminate()
            process.wait(20)
