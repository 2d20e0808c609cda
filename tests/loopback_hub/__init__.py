"""A Hugging Face Hub for tests, on 127.0.0.1 and in memory: `with LoopbackHub() as hub`."""

from loopback_hub.hub import LoopbackHub
from loopback_hub.messages import Request

__all__ = ["LoopbackHub", "Request"]
