"""Attacks on what is read and written at a path: pipes, devices, links, endless files, and folders that change."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import timm

from limpq_hub import Budget, Indicators, load, search
from limpq_hub.errors import (
    ArtifactIntegrityError,
    BudgetError,
    DataError,
    ImageError,
    InputFileError,
    LimpqError,
    OutputError,
)
from limpq_hub.interop.pickles import read_limpq_pickle
from limpq_hub.pictures import read_picture
from limpq_hub.plan import input_file, output_file
from limpq_hub.plan.input_file import TEXT_BYTES, read_regular
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.progress_file import progress_file_of
from limpq_hub.train.data import shards, torchvision_source
from limpq_hub.train.data.decoded_pictures import WholePictures
from limpq_hub.train.data.folder_source import FolderReader, FolderSource
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.train.settings import NetworkSettings
from limpq_hub.train.weights import networks
from limpq_hub.train.weights.networks import float_network
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.meta_network import number_count

ENDLESS = 3 * TEXT_BYTES


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path


def sparse(path: Path) -> Path:
    """A file of far more bytes than any of its kind, which takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(ENDLESS)
    return path


def linked(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


STRANGE = {"pipe": pipe, "socket": listening_socket, "link to an endless device": linked, "endless": sparse}
READERS = {
    "indicators": lambda path: Indicators.load(path),
    "indicators by name": lambda path: search(path, bitops="w4a4"),
    "policy": lambda path: load("resnet18", policy=path),
    "json": read_json,
    "latency": lambda path: search("resnet18", latency=(path, 1.0)),
    "energy": lambda path: Budget(energy=(path, 1.0)),
    "pickle": read_limpq_pickle,
    "text": read_regular,
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("reader", READERS)
def test_what_has_no_end_or_never_begins_is_refused_at_once(tmp_path, reader, what):
    path = STRANGE[what](tmp_path / ("x.csv" if reader in ("latency", "energy") else "x.json"))
    began = time.process_time()
    with pytest.raises((InputFileError, BudgetError)) as caught:
        READERS[reader](str(path))
    assert time.process_time() - began < 2
    message = str(caught.value)
    kinds = {"pipe": "is a pipe, not a file", "socket": "is a socket, not", "endless": f"has {ENDLESS:,} bytes, and"}
    assert kinds.get(what, "is a device, not a file that can be read; give a regular file") in message
    assert isinstance(caught.value, LimpqError)


@pytest.mark.parametrize("what", ["pipe", "socket", "link to an endless device"])
def test_a_picture_is_a_regular_file(tmp_path, what):
    with pytest.raises(ImageError, match=r"x\.png' is not a picture that can be read; give a JPEG, PNG, WebP or GIF"):
        read_picture(STRANGE[what](tmp_path / "x.png"))


@pytest.mark.parametrize("file", ["config.json", "indicators.json", "supernet.safetensors", "classes.json"])
@pytest.mark.parametrize("what", STRANGE)
def test_a_file_of_an_entry_is_a_regular_one_of_its_size(entry_copy, file, what):
    (entry_copy / file).unlink()
    STRANGE[what](entry_copy / file)
    with pytest.raises(
        ArtifactIntegrityError,
        match=rf"{file} (is damaged: its|has) {ENDLESS:,}".replace(",", ",?")
        if what == "endless"
        else rf"{file} cannot be read \(",
    ):
        open_local_folder(entry_copy, "entry").read(file)


def test_a_pipe_that_takes_the_place_of_a_file_after_the_look_at_it_is_refused(tmp_path, monkeypatch):
    path, looked = pipe(tmp_path / "x.json"), os.stat(__file__)
    monkeypatch.setattr(input_file.os, "stat", lambda path: looked)
    with pytest.raises(InputFileError, match="is a pipe, not a file"):
        read_regular(path)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_bytes(b"{}")
    small = os.stat(path)
    path.write_bytes(b"{}, {}")
    monkeypatch.setattr(input_file.os, "fstat", lambda handle: small)
    with pytest.raises(InputFileError, match="does not hold the 2 bytes that its folder says; try again"):
        read_regular(path)


def test_a_file_that_is_swapped_all_the_time_is_read_whole_or_refused(entry_copy):
    """Between any check and any use stands the wrong file or the right one: what is read is what was sealed."""
    folder, path = open_local_folder(entry_copy, "entry"), entry_copy / "indicators.json"
    right, stop = path.read_bytes(), threading.Event()
    wrong = [right[:-1], b"", right.replace(b"1", b"2"), right + b" "]

    def swap() -> None:
        number = 0
        while not stop.is_set():
            for content in (wrong[number % len(wrong)], right):
                (entry_copy / ".swap").write_bytes(content)
                os.replace(entry_copy / ".swap", path)
            number += 1

    thread = threading.Thread(target=swap)
    thread.start()
    read = refused = 0
    until = time.monotonic() + 1
    while time.monotonic() < until:
        try:
            assert folder.read("indicators.json") == right
            read += 1
        except ArtifactIntegrityError:
            refused += 1
    stop.set()
    thread.join()
    assert read
    assert refused


# What is written


def content_through(path: Path, data: bytes, monkeypatch) -> bytes:
    """Return what the reader of a pipe gets of what is written to it."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_bytes(path, data)
    reader.join(timeout=120)
    return got[0]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65536, 10**6])
def test_a_pipe_gives_its_reader_every_byte_and_stays_a_pipe(tmp_path, monkeypatch, size):
    path, data = pipe(tmp_path / "pipe"), random.Random(size).randbytes(size)
    assert content_through(path, data, monkeypatch) == data
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("reads", [0, 1])
def test_a_pipe_that_nobody_empties_is_given_up(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(output_file, "READER_S", 0.2)
    path = pipe(tmp_path / "pipe")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if reads else None
    message = "its reader takes nothing more; start it again" if reads else "nobody reads this pipe; start its reader"
    with pytest.raises(OutputError, match=message):
        write_bytes(path, bytes(10**6))
    if handle is not None:
        os.close(handle)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_pipe_whose_reader_goes_away_is_named(tmp_path):
    path = pipe(tmp_path / "pipe")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.2, os.close, [handle]).start()
    with pytest.raises(BrokenPipeError, match="Broken pipe: '.*pipe'"):
        write_bytes(path, bytes(10**6))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
@pytest.mark.parametrize("by_link", [False, True])
def test_a_device_stays_one_and_takes_what_it_takes(tmp_path, device, by_link):
    path = Path(device)
    if by_link:
        path = tmp_path / "link"
        path.symlink_to(device)
    if device == "/dev/full":
        with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
            write_bytes(path, b"{}")
    else:
        write_bytes(path, b"{}")
    assert stat.S_ISCHR(path.stat().st_mode)
    assert not by_link or path.is_symlink()


@pytest.mark.parametrize("chain", [1, 3])
@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_is_written_through(tmp_path, chain, dangling, relative):
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / "p.json"
    if not dangling:
        target.write_bytes(b"old")
    last = target
    for number in range(chain):
        link = tmp_path / f"link{number}"
        link.symlink_to(os.path.relpath(last, tmp_path) if relative else last)
        last = link
    write_bytes(last, b"new")
    assert last.is_symlink()
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert os.listdir(target.parent) == ["p.json"]


def test_progress_is_kept_only_beside_a_file(tmp_path):
    (tmp_path / "old.json").write_bytes(b"")
    for name in ("old.json", "new.json"):
        with progress_file_of(tmp_path / name) as kept:
            assert kept == tmp_path / f".{name}.measured"
    for path in (Path("/dev/null"), Path("/dev/stdout"), Path("/dev/fd/1"), pipe(tmp_path / "pipe")):
        with progress_file_of(path) as kept:
            kept.write_bytes(b"{}")
            assert kept.parent not in (path.parent, tmp_path)
        assert not kept.parent.exists()


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links: '.*a'"):
        write_bytes(tmp_path / "a", b"")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("path", [".", "folder", "folder/", "link"])
def test_a_folder_is_named_as_one(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{path.rstrip('/')}'"):
        write_bytes(path, b"")
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_a_socket_is_left_alone(tmp_path):
    path = listening_socket(tmp_path / "s")
    with pytest.raises(OutputError, match="is a socket, which is not written to; name a file"):
        write_bytes(path, b"")
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_an_error_names_the_path_that_was_given_and_no_temporary_file(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/.x.json.abc")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*/x\.json'$") as caught:
        write_bytes(tmp_path / "x.json", b"")
    assert caught.value.filename == str(tmp_path / "x.json")


def test_the_rights_of_a_file_that_is_replaced_stay(tmp_path):
    path = tmp_path / "x.json"
    write_bytes(path, b"1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o600)
    write_bytes(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "x.json", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o666 & ~umask


def test_a_file_of_the_longest_name_can_be_written(tmp_path):
    for name in ("\u00e4" * 125 + ".json", "x" * 250 + ".json"):
        write_bytes(tmp_path / name, b"1")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


WRITE = """
from limpq_hub.plan.jsonfile import write_bytes
print("before")
write_bytes({path!r}, b"data\\n")
print("after")
"""


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [False, True])
def test_what_this_process_has_open_is_written_into_in_order(tmp_path, path, to_file):
    command = [sys.executable, "-c", WRITE.format(path=path)]
    with (tmp_path / "out").open("w+") as out:
        done = subprocess.run(command, stdout=out if to_file else subprocess.PIPE, check=True, text=True, timeout=60)
        out.seek(0)
        assert (out.read() if to_file else done.stdout) == "before\ndata\nafter\n"


def test_the_pipe_of_a_shell_gets_what_is_written():
    code = WRITE.format(path="PATH").replace("'PATH'", "__import__('sys').argv[1]")
    shell = f'"{sys.executable}" -c "$1" >(cat >&2) > /dev/null; wait $!'
    done = subprocess.run(["bash", "-c", shell, "bash", code], check=True, text=True, capture_output=True, timeout=60)
    assert done.stderr == "data\n"


def test_a_file_is_written_where_nothing_can_be_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    write_bytes("/dev/null", b"{}")


def test_a_number_that_nothing_is_open_under_is_refused():
    with pytest.raises(OSError, match="Bad file descriptor: '/dev/fd/987654'"):
        write_bytes("/dev/fd/987654", b"")


# Commands


LIMPQ = [sys.executable, "-m", "limpq_hub"]


@pytest.mark.parametrize("arguments", ["list", "list --json", "search resnet18 --bitops 3G"])
def test_a_reader_that_goes_away_is_no_error_and_always_the_same_code(arguments):
    command = f'"{sys.executable}" -m limpq_hub {arguments} | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "141\n"
    # A search says what it leaves out, before it prints.
    assert [line for line in done.stderr.splitlines() if not line.startswith("note: bits that learned")] == []


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["frontier", "resnet18", "--points", "4"]])
def test_a_full_disk_is_told_once(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*LIMPQ, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        f"limpq {arguments[0]}: what is printed cannot be written: No space left on device; send it elsewhere"
    )
    assert "None" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list"], 0),
        (["search", "resnet18", "--bitops", "50G", "--json"], 0),
        (["search", "resnet18", "--bitops", "1", "--json"], 2),
        (["search", "no_such", "--bitops", "3G"], 2),
        ([], 2),
    ],
)
def test_an_answer_is_printed_and_the_code_is_the_same_where_no_message_can_be(arguments, code):
    whole = subprocess.run([*LIMPQ, *arguments], capture_output=True, text=True, timeout=60, check=False)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*LIMPQ, *arguments], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False
        )
    assert whole.stderr
    assert whole.returncode == code
    # The time of a search differs.
    found, expected = (re.sub('"seconds": .*', "", text) for text in (done.stdout, whole.stdout))
    assert (done.returncode, found) == (code, expected)


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_what_is_printed_into_a_closed_stream_goes_nowhere(closed):
    command = f'"{sys.executable}" -m limpq_hub list {closed}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert ("resnet18" in done.stdout, "next: " in done.stdout) == (closed == "2>&-", False)
    assert ("next: " in done.stderr) == (closed == ">&-")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_leaves_no_folder_of_its_own(tmp_path, number):
    code = """
import signal, sys, time
# What a shell starts in the background ignores some of them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from limpq_hub.cli import main
from limpq_hub.zoo import folder_copy
def slowly(source, target):
    (target / "begun").write_bytes(b"1")
    print("begun", flush=True)
    time.sleep(60)
folder_copy.copy_verified = slowly
sys.exit(main(["pull", "resnet18", "--output", sys.argv[1]]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "pulled")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        assert os.listdir(tmp_path) != []
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert os.listdir(tmp_path) == []


def in_folder(path: Path) -> FolderReader:
    return FolderReader((str(path.parent),), [path.name], [0], [0], {"a": 0})


TRAINING_READERS = {
    "folder": lambda path: in_folder(path)[0],
    "torchvision": lambda path: torchvision_source._picture_in(str(path)),
    "float weights": lambda path: float_network(NetworkSettings("test_resnet", 32, None), str(path), None),
    "weights of a folder": lambda path: float_network(
        NetworkSettings("test_resnet", 32, None), f"local-dir:{folder_of_timm(path)}", None
    ),
    "shard": lambda path: shards.open_shards(str(path.rename(path.with_name("x-train-0.tar")).parent), "train"),
}


def folder_of_timm(path: Path) -> Path:
    (path.parent / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 4}')
    path.rename(path.with_name("model.safetensors"))
    return path.parent


@pytest.mark.parametrize("what", ["pipe", "socket", "link to an endless device"])
@pytest.mark.parametrize("reader", TRAINING_READERS)
def test_what_training_reads_is_a_regular_file(tmp_path, reader, what):
    path = STRANGE[what](tmp_path / "x.png")
    began = time.process_time()
    with pytest.raises(InputFileError, match=r"is a \w+, not a file that can be read; give a regular file"):
        TRAINING_READERS[reader](path)
    assert time.process_time() - began < 2


def test_a_picture_that_became_a_pipe_counts_as_one_that_cannot_be_decoded(tmp_path, capfd):
    path = pipe(tmp_path / "x.png")
    source = FolderSource(str(tmp_path), in_folder(path), {})
    assert source.content(0) == b""
    pictures = WholePictures(source, lambda picture: pytest.fail("read"), (3, 8, 8))
    assert pictures[0][1] == UNREADABLE
    assert f"{path} ('{path}' is a pipe, not a file" in capfd.readouterr().err


@pytest.mark.parametrize("named", ["{}/x.safetensors", "local-dir:{}"])
def test_a_file_of_weights_far_larger_than_the_network_is_not_read(tmp_path, monkeypatch, named):
    folder_of_timm(sparse(tmp_path / "x"))
    sparse(tmp_path / "x.safetensors")
    monkeypatch.setattr(networks, "_ROOM_BYTES", 0)
    most = 8 * number_count(timm.create_model("test_resnet"))
    with pytest.raises(InputFileError) as refused:
        float_network(NetworkSettings("test_resnet", 32, None), named.format(tmp_path), None)
    assert str(refused.value).endswith(
        f"has {ENDLESS:,} bytes, and such a file has at most {most:,}; is it the right one?"
    )


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("sparse", "'0.png' is a sparse file, which no picture is; write it anew"),
        ("larger than the shard", "is no plain tar file, or damaged (unexpected end of data); fetch it again"),
    ],
)
def test_a_member_that_does_not_lie_in_its_shard_is_refused(tmp_path, lie, told):
    with tarfile.open(tmp_path / "x-train-0.tar", "w", format=tarfile.GNU_FORMAT) as shard:
        shard.addfile(tarfile.TarInfo("0.txt"), io.BytesIO())
        member = tarfile.TarInfo("0.png")
        member.size = 2**60
        header = member.tobuf(tarfile.GNU_FORMAT)
        if lie == "sparse":
            member.size, member.type = 0, tarfile.GNUTYPE_SPARSE
            header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
            header[483:495] = b"77777777777\0"  # the size that it says to have without its holes
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
        shard.fileobj.write(header)
        shard.offset += len(header)
    with pytest.raises(DataError) as refused:
        shards.open_shards(str(tmp_path), "train")
    assert str(refused.value).endswith(told)
