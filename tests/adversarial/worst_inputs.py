"""The worst input of each kind: what becomes of it, in how many seconds and in how much memory, as a Markdown table.

    PYTHONPATH=.:tests:tests/train python tests/adversarial/worst_inputs.py

Each input is given to a command in a process of its own, beside an ordinary input that is given to the same command.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import pickle
import platform
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from adversarial.test_pictures import jpeg_of_many_scans, png, tiff_of_large_tiles
from adversarial.test_search_limits import many_layers
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.folder_copy import copy_verified, replaced_folder
from limpq_hub.zoo.seal import sealed

LIMPQ = [sys.executable, "-m", "limpq_hub"]
TRAIN = [sys.executable, "-m", "limpq_hub.train.pretrain", "--model", "test_resnet", "--input-size", "32"]
TRAIN += ["--batch-size", "4", "--workers", "0", "--threads", "1", "--max-steps", "1"]
AT_3G = ["--bitops", "3G"]
PATIENCE_S = 200


@dataclass(frozen=True)
class Worst:
    """An input of one kind.

    Attributes:
        kind: what reads it.
        what: the input, in words.
        command: makes it in a folder, and returns the command that reads it.
        usual: the same for an ordinary one.
    """

    kind: str
    what: str
    command: Callable[[Path], list[str]]
    usual: Callable[[Path], list[str]]


def predicted(name: str, content: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    def command(root: Path) -> list[str]:
        (root / name).write_bytes(content())
        return [*LIMPQ, "predict", str(root / name), "--model", "resnet18", *AT_3G]

    return command


def searched(name: str, content: Callable[[], bytes], *options: str) -> Callable[[Path], list[str]]:
    def command(root: Path) -> list[str]:
        (root / name).write_bytes(content())
        return [*LIMPQ, "search", str(root / name), *(options or AT_3G)]

    return command


def typed(*words: str) -> Callable[[Path], list[str]]:
    return lambda root: [*LIMPQ, *words]


def bundled_indicators() -> bytes:
    return find_entry("resnet18").folder.read("indicators.json")


def layers_of(count: int) -> bytes:
    return json.dumps(many_layers(count).to_json()).encode()


def entry(root: Path, files: dict[str, bytes], *, without: Sequence[str] = (), **changes: object) -> str:
    """Return the name of a copy of the bundled entry with other files and another config.json, sealed."""
    folder = root / "entry"
    with replaced_folder(folder) as building:
        copy_verified(find_entry("resnet18").folder, building)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    config = json.loads((folder / "config.json").read_text()) | changes
    config["files"] |= {name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()}
    for name in without:
        config["files"].pop(name, None)
    (folder / "config.json").write_bytes(
        sealed({key: value for key, value in config.items() if key != "config_sha256"})
    )
    return f"local-dir:{folder}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def loaded(name: str) -> list[str]:
    return [sys.executable, "-c", f"import limpq_hub; limpq_hub.load({name!r}, bitops='3G', weights='joint')"]


def usual_load(root: Path) -> list[str]:
    return loaded("resnet18")


def giant(root: Path) -> list[str]:
    return loaded(entry(root, {}, architecture="eva_giant_patch14_560", input_size=560, num_classes=1000))


def many_tensors(root: Path) -> list[str]:
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{number}": tensor for number in range(300_000)}).encode()
    return loaded(entry(root, {"supernet.safetensors": struct.pack("<Q", len(header)) + header}))


def with_float(content: Callable[[], bytes] | None) -> Callable[[Path], list[str]]:
    def command(root: Path) -> list[str]:
        files = {} if content is None else {"float.safetensors.gz": content()}
        # A gzipped float network is read where no other one is.
        without = () if content is None else ("float.safetensors",)
        code = "import sys; from limpq_hub.zoo.catalog import find_entry; from limpq_hub.zoo.entry_folder import *\n"
        code += "load_float_network(find_entry(sys.argv[1]).folder)"
        return [sys.executable, "-c", code, entry(root, files, without=without)]

    return command


def trained(change: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """A short training on eight pictures after `change(root)`, with the options that it returns."""

    def command(root: Path) -> list[str]:
        for split in ("train", "val"):
            for label in range(2):
                (root / split / str(label)).mkdir(parents=True)
                for number in range(2):
                    picture = Image.new("RGB", (32, 32), (100 * label, 50 * number, 0))
                    picture.save(root / split / str(label) / f"{number}.png")
        return [*TRAIN, "--data", str(root), "--output", str(root / "out"), *change(root)]

    return command


def endless_pictures(root: Path) -> list[str]:
    os.mkfifo(root / "train/0/pipe.png")
    (root / "train/0/zero.png").symlink_to("/dev/zero")
    with (root / "train/0/sparse.png").open("wb") as file:
        file.truncate(2**40)
    return []


def endless_weights(root: Path) -> list[str]:
    with (root / "w.safetensors").open("wb") as file:
        file.truncate(2**40)
    return ["--weights", str(root / "w.safetensors")]


def lying_shard(root: Path) -> list[str]:
    member = tarfile.TarInfo("0.png")
    member.size = 2**60
    for split in ("train", "val"):
        (root / f"{split}.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return ["--data", "wds/x", "--data-root", str(root)]


def imported(content: object) -> Callable[[Path], list[str]]:
    def command(root: Path) -> list[str]:
        (root / "x.pkl").write_bytes(pickle.dumps(content, protocol=4))
        return [*LIMPQ, "import", str(root / "x.pkl"), "--model", "test_resnet", "--output", str(root / "x.json")]

    return command


def doubled(times: int) -> object:
    """A list of two times itself, so often that it has 2^times leaves."""
    nested: list[object] = []
    for _ in range(times):
        nested = [nested, nested]
    return {"weight": {"conv1": nested}, "act": {}}


class EndlessHub(http.server.BaseHTTPRequestHandler):
    """Answers every request without an end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        try:
            self.wfile.write(b'{"sha": "')
            while True:
                self.wfile.write(b"a" * 2**16)
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


USUAL_PICTURE = predicted("usual.png", lambda: png(200, 200))
USUAL_SEARCH = searched("usual.json", bundled_indicators)
USUAL_TRAINING = trained(lambda root: [])
WORST = [
    Worst("picture", "PNG of 200,000 x 1", predicted("a.png", lambda: png(200_000, 1)), USUAL_PICTURE),
    Worst("picture", "PNG of 50,000,000 x 1", predicted("a.png", lambda: png(50_000_000, 1)), USUAL_PICTURE),
    Worst(
        "picture", "JPEG of 100,000 scans", predicted("a.jpg", lambda: jpeg_of_many_scans(2000, 10**5)), USUAL_PICTURE
    ),
    Worst(
        "picture",
        "TIFF in a tile of 12,000 x 12,000",
        predicted("a.tif", lambda: tiff_of_large_tiles(100, 12_000)),
        USUAL_PICTURE,
    ),
    Worst(
        "JSON",
        "100,000 keys, each twice",
        searched("a.json", lambda: b"{" + b",".join(b'"k%d":0' % (n // 2) for n in range(200_000)) + b"}"),
        USUAL_SEARCH,
    ),
    Worst(
        "JSON", "32 MiB of empty objects", searched("a.json", lambda: b"[" + b"{}," * 11_184_000 + b"0]"), USUAL_SEARCH
    ),
    Worst("JSON", "16 MiB of opening brackets", searched("a.json", lambda: b"[" * 2**24), USUAL_SEARCH),
    Worst(
        "file",
        "/dev/zero as a table of latencies",
        typed("search", "resnet18", "--latency", "/dev/zero", "1"),
        USUAL_SEARCH,
    ),
    Worst("entry", "names a network of 1.0e9 numbers", giant, usual_load),
    Worst("entry", "300,000 tensors of nothing", many_tensors, usual_load),
    Worst(
        "entry",
        "1 GiB of zeros in float.safetensors.gz",
        with_float(lambda: gzip.compress(bytes(2**30), 1)),
        with_float(None),
    ),
    Worst("Hub", "every answer without an end", typed("info", "hf-hub:you/net"), typed("info", "resnet18")),
    Worst(
        "search",
        "20,000 layers, two limits, 0.5 s",
        searched("a.json", lambda: layers_of(20_000), "--bitops", "w4a4", "--compression", "8", "--time-limit", "0.5"),
        USUAL_SEARCH,
    ),
    Worst(
        "search",
        "a frontier of 10,000 points",
        typed("frontier", "resnet18", "--points", "10000"),
        typed("frontier", "resnet18"),
    ),
    Worst(
        "number", "a compression of 10^400", typed("search", "resnet18", "--compression", "1" + "0" * 400), USUAL_SEARCH
    ),
    Worst("argument", "a name of 100,000 characters", typed("search", "x" * 100_000, *AT_3G), USUAL_SEARCH),
    Worst("pickle", "a list of 2^60 leaves in 400 bytes", imported(doubled(60)), imported({})),
    Worst("training pictures", "a pipe, /dev/zero, a file of 1 TiB", trained(endless_pictures), USUAL_TRAINING),
    Worst("training weights", "a file of 1 TiB", trained(endless_weights), USUAL_TRAINING),
    Worst("training shard", "a picture of 2^60 bytes", trained(lying_shard), USUAL_TRAINING),
]


# The memory of a process that was just started counts as that of its parent: this one is small.
MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=float(sys.argv[1]))
seconds = time.monotonic() - began
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
lines = done.stdout.decode(errors="replace").splitlines() or [""]
print(json.dumps([done.returncode, lines[-1], seconds, memory]))
"""


def measured(command: list[str], environment: dict[str, str]) -> tuple[int, str, float, float]:
    """Return exit code, last line, seconds and the largest resident memory in MB of a command."""
    words = [sys.executable, "-c", MEASURE, str(PATIENCE_S), *command]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    code, line, seconds, megabytes = json.loads(done.stdout)
    return code, line, seconds, megabytes


def main() -> None:
    """Measure every input, and print the table."""
    torch.set_num_threads(1)
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EndlessHub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "COLUMNS": "200"}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    print(f"{platform.machine()} CPU, 1 thread, Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| kind | worst input | what becomes of it | s | MB | of a usual one: s | MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    usual: dict[Callable[[Path], list[str]], tuple[float, float]] = {}
    for worst in WORST:
        with tempfile.TemporaryDirectory() as temporary:
            roots = [Path(temporary, name) for name in ("worst", "usual")]
            for root in roots:
                root.mkdir()
            environment["HF_HOME"] = temporary
            code, line, seconds, megabytes = measured(worst.command(roots[0]), environment)
            if worst.usual not in usual:
                usual[worst.usual] = measured(worst.usual(roots[1]), environment)[2:]
            told = line.replace(temporary, "...").replace("|", "/")
            if len(told) > 100:
                told = f"{told[:97]}..."
        answer = f"exit code {code}: {told}" if code else "answered"
        figures = " | ".join(f"{s:.1f} | {mb:.0f}" for s, mb in ((seconds, megabytes), usual[worst.usual]))
        print(f"| {worst.kind} | {worst.what} | {answer} | {figures} |", flush=True)
    hub.shutdown()


if __name__ == "__main__":
    main()
