"""Tests of where the page listens: what cannot be is one line, and no traceback."""

import argparse
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from _address import end_without_port, port_of, taken

APP = Path(__file__).parents[2] / "app"


def test_a_port_is_a_number_that_one_can_have():
    assert [port_of(text) for text in ("1", "08000", "65535")] == [1, 8000, 65535]
    for text in ("99999", "65536", "0", "-1", "", "80 ", "8e3", "٣", "1" * 5000):
        with pytest.raises(
            argparse.ArgumentTypeError, match="is no port: use a number from 1 to 65535, for example 8000"
        ):
            port_of(text)


def test_a_port_of_the_environment_that_cannot_be_is_told_before_gradio_reads_it(monkeypatch, capsys):
    for text in ("abc", "99999"):
        monkeypatch.setenv("GRADIO_SERVER_PORT", text)
        with pytest.raises(SystemExit) as stop:
            end_without_port("app.py")
        assert stop.value.code == 2
        told = f"app.py: GRADIO_SERVER_PORT: '{text}' is no port: use a number from 1 to 65535, for example 8000\n"
        assert capsys.readouterr().err == told
    for text in ("8000", None):
        monkeypatch.delenv("GRADIO_SERVER_PORT")
        if text is not None:
            monkeypatch.setenv("GRADIO_SERVER_PORT", text)
        end_without_port("app.py")


def test_where_nothing_can_listen_is_named_with_what_to_do(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "9000")
    assert taken(None, None).startswith("the page cannot listen on any port from 9000 on of '127.0.0.1': it is in use,")
    assert taken("a.example", 80).startswith("the page cannot listen on port 80 of 'a.example': it is in use,")
    assert taken("a.example", 80).endswith("; give another --port or --host")


def started(tmp_path, port: int) -> subprocess.CompletedProcess:
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py", "--port", str(port)]
    return subprocess.run(command, cwd=APP, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.slow
def test_a_port_in_use_and_one_that_cannot_be_end_in_a_line(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        done = started(tmp_path, port)
    assert (done.returncode, done.stderr) == (1, f"app.py: {taken(None, port)}\n")
    done = started(tmp_path, 99999)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("app.py: error: argument --port: '99999' is no port")
    assert "Traceback" not in done.stderr
