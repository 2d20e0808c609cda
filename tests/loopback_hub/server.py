"""HTTP on 127.0.0.1: reads requests, sends answers, and breaks off as a fault demands."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from loopback_hub.faults import BROKEN, DROPPED, Fault
from loopback_hub.messages import Answer, Call


class Server(socketserver.ThreadingTCPServer):
    """One origin of the Hub.

    Attributes:
        bugs: tracebacks of what the Hub itself did wrong.
    """

    daemon_threads = True
    timeout = 0.02
    # Eight processes with eight threads each may connect at once.
    request_queue_size = 128

    def __init__(self, answer: Callable[[Call], tuple[Answer, Fault | None]], *, storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.storage = answer, storage
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.bugs: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self._thread.join()
        self.server_close()

    def _serve(self) -> None:
        while not self.stopped.is_set():
            self.handle_request()

    def shutdown_request(self, request: Any) -> None:
        """Close the connection with nothing before: a FIN would hide the reset of one that lingers for 0 s."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the traceback; a client that went away is no bug."""
        report = traceback.format_exc()
        if "ConnectionResetError" not in report and "BrokenPipeError" not in report:
            self.bugs.append(report)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        body = self._body()
        if self.server.stopped.is_set():
            self.close_connection = True
            return
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        call = Call(self.server.storage, self.command, address.path, query, headers, body)
        answer, fault = self.server.answer(call)
        if fault is None or fault.kind != DROPPED:
            self._send(answer, fault)
        if fault is not None and fault.kind in (DROPPED, "reset", "early close"):
            self.close_connection = True
        if fault is not None and fault.kind in (DROPPED, "reset"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        broken = fault is not None and fault.kind in BROKEN
        first_bytes = int(fault.at * len(body)) if broken else len(body)
        stall_s = fault.seconds if broken and fault.kind == "stall" else 0
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        if not body:
            self.server.stopped.wait(stall_s)
        self.end_headers()
        self.wfile.write(body[:first_bytes])
        if broken and fault.kind == "drip":
            for byte in body[first_bytes:]:
                if not self.server.stopped.wait(fault.seconds):
                    self.wfile.write(bytes([byte]))
        if stall_s and body:
            self.server.stopped.wait(stall_s)
            self.wfile.write(body[first_bytes:])

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self._read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline() or self._gone(), 16):
            body += self._read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        return data if len(data) == size else self._gone()

    def _gone(self) -> bytes:
        raise ConnectionResetError("the client went away in the middle of a request")

    def log_message(self, *arguments: object) -> None:
        """Say nothing: `LoopbackHub.requests` has it all."""
