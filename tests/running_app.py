"""The demo as a process of its own, and what its clients send: shared by the tests of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio
import httpx

ROOT = Path(__file__).parents[1]
MODEL = "resnet18.tiny_imagenet"
UNIFORM = "uniform, at this budget"
LION = Path(gradio.__file__).parent / "media_assets" / "images" / "lion.jpg"


@dataclass(frozen=True)
class Server:
    """A running `python app/app.py`.

    Attributes:
        first_page_cpu_s: seconds of CPU that the process took to its first page, however busy the machine is.
        log: what it writes.
        folder: where it keeps what visitors upload.
    """

    url: str
    process: subprocess.Popen
    first_page_cpu_s: float
    log: Path
    folder: Path

    def megabytes(self, what: str = "VmRSS") -> float:
        """Return the memory that the process has in use, or for "VmHWM" the most since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) / 1024

    def forget_peak(self) -> None:
        """Start the peak of the memory anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def wait_until_idle(self) -> None:
        """Return once it has done nothing for two seconds: after its start it loads networks in the background."""
        used, before = self.cpu_seconds(), None
        deadline = time.monotonic() + 180
        while before is None or used - before > 0.2:
            assert time.monotonic() < deadline, "it is at work without end"
            time.sleep(2)
            before, used = used, self.cpu_seconds()

    def cpu_seconds(self) -> float:
        """Return the seconds of CPU that the process has taken since its start."""
        return cpu_seconds(self.process.pid)


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process has taken since its start, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started_app(folder: Path, bundled: Path | None = None, hub: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run the demo; whatever it asked of another machine would fail.

    Args:
        bundled: the folder of the entries that ship with the package, in place of its own.
        hub: the environment of a process that talks to a Hub on this machine.
    """
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead, files = "http://127.0.0.1:9", folder / "files"
    environment = dict(hub or os.environ) | {"GRADIO_TEMP_DIR": str(files), "NO_PROXY": "127.0.0.1,localhost"}
    environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), dead) | {"OMP_NUM_THREADS": "1"}
    if bundled is not None:
        # Python imports it when it starts.
        (folder / "sitecustomize.py").write_text(
            f"import pathlib, limpq_hub.zoo.catalog\nlimpq_hub.zoo.catalog.BUNDLED = pathlib.Path({str(bundled)!r})\n"
        )
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        environment |= {"PYTHONPATH": os.pathsep.join(paths)}
    url, log, began = f"http://127.0.0.1:{port}", folder / "log.txt", time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "app/app.py", "--port", str(port)], cwd=ROOT, stdout=file, stderr=file, env=environment
        )
    try:
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - began < 120, log.read_text()
            time.sleep(0.05)
        yield Server(url, process, cpu_seconds(process.pid), log, files)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def controls(bitops: float, size: float | None = 0, alpha: float = 16.0, pins: str = "") -> tuple:
    """The controls, as an endpoint takes them."""
    return MODEL, bitops, size, alpha, pins


def upload(page: httpx.Client, path: Path = LION) -> dict:
    """Upload a picture, and return it as an endpoint takes it."""
    answer = page.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes(), "image/jpeg")})
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def event_stream(page: httpx.Client, endpoint: str, data: list) -> str:
    """Call an endpoint, and return all that the server says until it has answered."""
    call = page.post(f"/gradio_api/call/{endpoint}", json={"data": data})
    return page.get(f"/gradio_api/call/{endpoint}/{call.json()['event_id']}").text


def classify(page: httpx.Client, picture: dict, bitops: float) -> list:
    """Return what the server says of a picture."""
    stream = event_stream(page, "classify", [picture, UNIFORM, *controls(bitops)])
    complete = re.search(r"^event: complete\ndata: (.*)$", stream, re.MULTILINE)
    assert complete, stream
    return json.loads(complete[1])
