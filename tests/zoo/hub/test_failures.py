"""Tests of why a request came to nothing: each cause has its own words, and none of them is the name of a class."""

import importlib
import re
import socket
import ssl

import pytest
from huggingface_hub import close_session
from huggingface_hub.errors import HTTPError

from limpq_hub.errors import HubUnavailableError
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub.failures import client_error, failure_of

http = importlib.import_module(HTTPError.__module__.partition(".")[0])
CLASSES = sorted(name for name, found in vars(http).items() if isinstance(found, type) and issubclass(found, HTTPError))


@pytest.mark.parametrize("name", [*CLASSES, "InvalidURL"])
def test_no_error_of_the_http_library_is_told_by_its_class(name):
    error = getattr(http, name).__new__(getattr(http, name))
    told = failure_of(error)
    assert re.fullmatch(r"[a-z][a-z ,]+Hub[a-z ,]*", told.what), told.what
    assert re.match(r"check [a-z]+|check H", told.advice)
    assert name not in f"{told.what}; {told.advice}"


@pytest.mark.parametrize(
    ("cause", "what", "advice"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name of the Hub does not resolve", "HF_ENDPOINT"),
        (ConnectionRefusedError(111, "Connection refused"), "the connection to the Hub was refused", "HTTPS_PROXY"),
        (OSError(101, "Network is unreachable"), "no network leads to the Hub", "check the internet connection"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "the certificate of the Hub is not trusted", "SSL_CERT_FILE"),
    ],
)
def test_what_the_system_says_while_connecting_is_told_with_what_to_check(online, monkeypatch, cause, what, advice):
    def fails(*_, **__):
        raise cause

    close_session()
    monkeypatch.setattr(socket, "create_connection", fails)
    with pytest.raises(HubUnavailableError, match=f"^you/tiny@main: {what}.*; check .*") as caught:
        hub.tags_of("you/tiny")
    assert advice in str(caught.value).partition("; ")[2]
    assert caught.value.client_error.startswith("ConnectError: ")
    assert "ConnectError" not in str(caught.value)


def test_an_address_that_is_none_is_told_with_the_variable_that_holds_it(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "ftp://example.org")
    with pytest.raises(HubUnavailableError, match=r": the address of the Hub is none that can be asked; check HF_ENDP"):
        hub.list_repositories("you")


def test_what_the_client_raised_is_short_and_of_one_line():
    told = client_error(ValueError("a\n" * 100))
    assert told.startswith(r"ValueError: 'a\na\n")
    assert (len(told) <= 92, told.count("\n")) == (True, 0)
