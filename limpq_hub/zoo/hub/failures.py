"""Why a request to the Hub came to nothing, in words: what happened, and what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from limpq_hub.errors import quoted
from limpq_hub.zoo.hub_address import without_credentials

_SETTINGS = "check the internet connection, and HF_ENDPOINT or HTTPS_PROXY if one is set"
_CONNECTION = "check the connection, or try again later"
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class Failure:
    """What happened and what to do, each as a part of a sentence.

    Attributes:
        what: names the Hub, as errors and `limpq doctor` print it.
        advice: begins with a verb.
    """

    what: str
    advice: str


def failure_of(error: BaseException) -> Failure:
    """Return in words why a request failed.

    The HTTP library has classes of its own for this, httpx or httpx2 by the version of the client: their names are
    compared. What the system said is the cause of their error, and tells more than the class where it is known.

    Args:
        error: of the HTTP library.
    """
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return Failure("the name of the Hub does not resolve to an address", _SETTINGS)
            case ConnectionRefusedError():
                return Failure("the connection to the Hub was refused", _SETTINGS)
            case ssl.SSLCertVerificationError():
                return Failure(
                    "the certificate of the Hub is not trusted here",
                    "check the clock, and name the certificates of a proxy by SSL_CERT_FILE",
                )
            case OSError(errno=number) if number in _NO_WAY:
                return Failure("no network leads to the Hub", _SETTINGS)
    match type(error).__name__:
        case "ConnectTimeout":
            return Failure("no connection to the Hub came about in time", _SETTINGS)
        case "ConnectError":
            return Failure("no connection to the Hub", _SETTINGS)
        case "ReadTimeout" | "WriteTimeout" | "PoolTimeout":
            return Failure("the Hub did not answer in time", _CONNECTION)
        case "ReadError" | "WriteError" | "CloseError" | "RemoteProtocolError":
            return Failure("the connection to the Hub broke off", _CONNECTION)
        case "ProxyError":
            return Failure("the proxy does not let this through to the Hub", "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY")
        case "UnsupportedProtocol" | "InvalidURL":
            return Failure("the address of the Hub is none that can be asked", "check HF_ENDPOINT")
        case "TooManyRedirects":
            return Failure("the Hub sends the request on without an end", "check HF_ENDPOINT, or try again later")
    return Failure("the Hub did not answer", _CONNECTION)


def client_error(error: BaseException) -> str:
    """Return what the client raised, by its class, for who looks for a fault: `HubError.client_error`."""
    return f"{type(error).__name__}: {quoted(without_credentials(str(error)))}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
