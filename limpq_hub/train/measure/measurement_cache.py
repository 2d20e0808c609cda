"""Figures that were measured, each once: what a comparison keeps on disk to go on where it was cut off."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import check_shape, read_json, write_json
from limpq_hub.train.loop.provenance import versions

Figures = dict[str, Any]
FORMAT = 1


class MeasurementCache:
    """Figures by key, in a JSON file beside the settings and the versions that all of them were measured with."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, writes: bool = True, may_change: Collection[str] = ()
    ) -> None:
        """Read what was measured before.

        Args:
            settings: what every figure depends on, as JSON holds it.
            writes: False on all processes but the main one, which measure and know the same.
            may_change: settings that no figure depends on, whatever an earlier version wrote of them.

        Raises:
            TrainingError: the figures were measured with other settings, or other versions of the packages.
            ArtifactFormatError: the file is malformed.
        """
        self.path, self.settings, self.writes = path, {**settings, "versions": versions()}, writes
        self.figures: dict[str, Figures] = {}
        if path.exists():
            content = read_json(path)
            check_shape(content, {"format": int, "settings": dict, "figures": dict}, str(path))
            if content["format"] != FORMAT:
                raise TrainingError(f"{path} is of format {content['format']}, not {FORMAT}; choose another --output")
            keys = sorted((content["settings"].keys() | self.settings.keys()) - {*may_change})
            changed = [key for key in keys if content["settings"].get(key) != self.settings.get(key)]
            if changed:
                raise TrainingError(f"{path} was measured with different {', '.join(changed)}; choose another --output")
            self.figures = content["figures"]

    def has(self, key: str, beside: Path | None = None) -> bool:
        """Return whether the figures of `key` were measured, and the file beside them is there."""
        return key in self.figures and (beside is None or beside.exists())

    def figures_of(self, key: str, measure: Callable[[], Figures], *, beside: Path | None = None) -> Figures:
        """Return the figures of `key`; measured now, and written down, if they were not before.

        Args:
            beside: a file that `measure` writes; where it is missing, what was measured before does not count.
        """
        if not self.has(key, beside):
            self.figures[key] = measure()
            if self.writes:
                write_json(self.path, {"format": FORMAT, "settings": self.settings, "figures": self.figures})
        return self.figures[key]
