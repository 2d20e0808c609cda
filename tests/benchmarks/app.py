"""Time of the demo's search endpoint beside the bare search, and from `python app/app.py` to its first page.

    python tests/benchmarks/app.py                # medians of 20

The endpoint is timed as the page calls it: from the request over HTTP, on this machine, to the whole answer with its
figures. Beside it, in turns: the same work without a server, and the search alone. Goals: 50 ms, 15 s.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

import limpq_hub

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "app"))
MODEL = "resnet18.tiny_imagenet"
FIRST_PAGE_GOAL_S, ENDPOINT_GOAL_MS = 15, 50


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20, help="how often each row runs")
    parser.add_argument("--starts", type=int, default=3, help="how often the server starts")
    options = parser.parse_args()
    starts, times = [], {}
    for start in range(options.starts):
        began, port = time.perf_counter(), _free_port()
        server = subprocess.Popen(
            [sys.executable, "app/app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as page:
                _wait_for(page, server)
                starts.append(time.perf_counter() - began)
                if start == options.starts - 1:
                    times = _times(page, options.turns)
        finally:
            server.terminate()
            server.wait()
    table = Table(title=f"medians of {options.turns}, starts of {options.starts}")
    for heading in ("what", "median", "worst", "goal"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    goals = {"search endpoint, over HTTP": f"<= {ENDPOINT_GOAL_MS} ms"}
    for name, taken in times.items():
        table.add_row(name, f"{statistics.median(taken):.1f} ms", f"{max(taken):.1f} ms", goals.get(name, ""))
    first = (f"{statistics.median(starts):.1f} s", f"{max(starts):.1f} s", f"<= {FIRST_PAGE_GOAL_S} s")
    table.add_row("python app/app.py to its first page", *first)
    Console(width=110).print(table)


def _times(page: httpx.Client, turns: int) -> dict[str, list[float]]:
    """Return milliseconds by row, the rows taking turns."""
    from _actions import find_bits
    from _request import Request

    endpoints = page.get("/config").json()["dependencies"]
    search = next(endpoint["id"] for endpoint in endpoints if endpoint["api_name"] == "search")
    indicators = limpq_hub.Indicators.load(
        Path(limpq_hub.__file__).parent / "zoo" / "bundled" / MODEL / "indicators.json"
    )

    def call(budget: float) -> None:
        data = [MODEL, budget, 0, indicators.alpha, ""]
        body = {"fn_index": search, "data": data, "session_hash": "benchmark"}
        page.post("/gradio_api/run/predict", json=body).raise_for_status()

    rows: dict[str, Callable[[float], object]] = {
        "search endpoint, over HTTP": call,
        "the same without a server: search, baselines, figures": lambda budget: find_bits(Request(MODEL, budget)),
        "the bare search": lambda budget: limpq_hub.search(indicators, bitops=f"{budget:.2f}G"),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(turns + 1):  # the first is not counted: it fills caches
        for name, work in rows.items():
            began = time.perf_counter()
            work(round(1.5 + 0.1 * turn % 4, 2))
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: taken[1:] for name, taken in times.items()}


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(page: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if page.get("/").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit("the server ended before its first page")


if __name__ == "__main__":
    main()
