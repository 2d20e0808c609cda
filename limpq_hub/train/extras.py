"""What is installed on request only, and the line that installs it."""

from __future__ import annotations

from importlib.util import find_spec

# The modules of each extra of `pyproject.toml` that its commands import.
EXTRAS = {
    "train": ("accelerate", "filelock", "psutil", "yaml", "scipy"),
    "data": ("datasets",),
    "app": ("gradio",),
    "export": ("onnx", "onnxruntime", "openvino", "qonnx"),
    "heic": ("pillow_heif",),
}
_USES = {
    "train": "training and measuring need",
    "data": "data sets of the Hub (hfds/...) need",
    "app": "the demo needs",
    "export": "limpq export needs",
    "heic": "reading pictures in HEIC needs",
}


def missing_modules(extra: str) -> list[str]:
    """Return those modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def installing(extra: str) -> str:
    """Return what an extra is for and how it is installed."""
    return f'{_USES[extra]} it: pip install "limpq-hub[{extra}]"'


def advice_for(error: ModuleNotFoundError) -> str | None:
    """Return what to install where a module of an extra is missing, in one line; None for any other module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return f"{module} is not installed; {installing(extra)}"
    return None
