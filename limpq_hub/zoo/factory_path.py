"""How an entry names a network of one's own: by the import path of its factory, "__" in the place of dots. No torch."""

from __future__ import annotations

_SCRIPT = "__main__"


def architecture_at(path: str) -> str:
    """Return what the network of a factory is called, by the factory's import path."""
    return path.replace(".", "__")


def factory_of(architecture: str) -> tuple[str, str] | None:
    """Return the module and the name of the factory that a network is called after; None of a network of timm."""
    if "__" not in architecture:
        return None
    if architecture.startswith(f"{_SCRIPT}__"):
        return _SCRIPT, architecture.removeprefix(f"{_SCRIPT}__")
    module, _, name = architecture.replace("__", ".").rpartition(".")
    return module, name
