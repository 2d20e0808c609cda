"""Tests of HF_ENDPOINT: where it is no URL, that is what is told, whatever fails on it first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from limpq_hub.errors import HubUnavailableError
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import reachable
from limpq_hub.zoo.hub.failures import client_error
from limpq_hub.zoo.hub_address import address_fault

MALFORMED = {
    "http://127.0.0.1:1 ": "Port could not be cast to integer value",
    "http://[::1": "Invalid IPv6 URL",
    "http://127.0.0.1:99999": "Port out of range 0-65535",
}


@pytest.mark.parametrize("address", MALFORMED)
def test_an_address_that_cannot_be_read_is_told_with_what_is_wrong(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    message = rf"^HF_ENDPOINT='.*' is no address of a Hub: .*{MALFORMED[address]}.*; check HF_ENDPOINT, or unset it$"
    with pytest.raises(HubUnavailableError, match=message):
        find_entry("hf-hub:you/net")


@pytest.mark.parametrize("address", [None, "", "https://huggingface.co", "http://127.0.0.1:8000/", "http://[::1]:80"])
def test_an_address_that_can_be_read_is_no_fault(monkeypatch, address):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if address is not None:
        monkeypatch.setenv("HF_ENDPOINT", address)
    assert address_fault() is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@mirror:x", "'https://***@mirror:x'"),
        ("https://me:sec/secret@mirror", "'https://***@mirror'"),
        ("https://me:secret@[::1", "'https://***@[::1'"),
    ],
)
def test_the_password_of_an_address_that_cannot_be_read_is_not_told(monkeypatch, address, shown):
    monkeypatch.setenv("HF_ENDPOINT", address)
    told = str(address_fault())
    assert told.startswith(f"HF_ENDPOINT={shown} is no address of a Hub: ")
    assert "sec" not in told


RUNS = {
    "limpq check": ("-m", "limpq_hub", "check", "resnet18"),
    "limpq search": ("-m", "limpq_hub", "search", "hf-hub:you/net", "--bitops", "3G"),
    "limpq push": ("-m", "limpq_hub", "push", "resnet18", "you/net"),
    "training": ("-c", "from limpq_hub.train.launching import run_command; run_command('publish')"),
    "module": ("-m", "limpq_hub.train.finetune", "--help"),
    "demo": (str(Path(__file__).parents[2] / "app/app.py"), "--help"),
    "load": ("-c", "import limpq_hub; limpq_hub.load('resnet18', bitops='3G')"),
}


@pytest.mark.parametrize("run", RUNS)
def test_what_imports_the_client_for_a_bundled_model_too_names_the_variable(run):
    done = subprocess.run(
        [sys.executable, *RUNS[run]],
        env=os.environ | {"HF_ENDPOINT": "http://[::1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    line = "HF_ENDPOINT='http://[::1' is no address of a Hub: 'Invalid IPv6 URL'; check HF_ENDPOINT, or unset it\n"
    assert done.stderr.endswith(line), done.stderr
    assert "fault of limpq-hub" not in done.stderr
    assert done.returncode == (1 if run == "load" else 6)
    if run != "load":  # huggingface_hub may write a line of its own
        assert "Traceback" not in done.stderr


def test_the_password_of_an_address_is_not_told_where_the_hub_does_not_answer_and_where_it_does(hub, monkeypatch):
    address = hub.url.replace("://", "://me:secret@")
    for endpoint in (address, "http://me:secret@127.0.0.1:9"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        told = reachable.answers()
        assert told.startswith(endpoint.replace("me:secret", "***"))
        assert "secret" not in told
    error = ValueError(f"404 for url {endpoint}/you/net")
    assert client_error(error) == "ValueError: '404 for url http://***@127.0.0.1:9/you/net'"
