"""What the tests of the training loop share: a launcher that did not really start this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from accelerate.commands.config import config_args

from limpq_hub.train.loop import launcher


@pytest.fixture
def launched_by(monkeypatch, tmp_path) -> Callable[..., None]:
    """A function that makes a command line the one of the process that started this one; no config file is at home."""

    class Launcher:
        def __init__(self, words):
            self.words = words

        def parent(self):
            return self

        def cmdline(self):
            return self.words

    def fake(*words: str) -> None:
        monkeypatch.setattr(launcher.psutil, "Process", lambda: Launcher(list(words)))

    monkeypatch.setattr(config_args, "default_config_file", str(tmp_path / "default_config.yaml"))
    return fake
