"""What an entry of the zoo says of itself: its indicators, its published policies, what was measured. No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from limpq_hub.plan.costs import FLOAT
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.plan.layer_bits import FLOAT_BITS
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.class_names import check_classes
from limpq_hub.zoo.figure_check import check_count, check_figures
from limpq_hub.zoo.folder import SealedFolder

_COSTS = {"policy_sha256": str, "bitops": int, "size_bytes": int}
# The keys of a figure that was measured of the joint weights, set to a policy.
JOINT_RECORD = {"policy_sha256": str, "bitops": int, "calibration_images": int}
_METRICS = {"joint": [JOINT_RECORD]}
_POLICY_CONFIG = re.compile(r"policies/([^/]+)/config\.json")


@dataclass(frozen=True)
class Published:
    """A fine-tuned policy of an entry.

    Attributes:
        name: its folder below `policies/`.
        policy_sha256: of the policy, see `Policy.digest`.
        bitops: BitOps of one image.
        size_bytes: bytes of the quantized weights.
        disk_bytes: bytes of its files, step sizes, biases, BatchNorm and provenance included.
        top1: percent, measured on the validation images of the entry's data set; None without labels.
        command: what fine-tuned it, if it says so.
        agreement: for how many images in percent it finds the class of the float network; None if not measured.
        kl: divergence from the float network in nats; None if not measured.
    """

    name: str
    policy_sha256: str
    bitops: int
    size_bytes: int
    disk_bytes: int
    top1: float | None
    command: str | None
    agreement: float | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Entry:
    """One network of the zoo: its indicators, supernet and published policies.

    Attributes:
        name: as the user may give it.
        folder: its verified files.
        source: "bundled", "local" or "hub".
        revision: commit on the Hub, or None.
    """

    name: str
    folder: SealedFolder
    source: str
    revision: str | None = None
    _checkpoints: dict[str, SealedFolder] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def indicators(self) -> Indicators:
        """Learned step sizes and layer costs."""
        return Indicators.from_json(self.folder.read_json("indicators.json"), f"{self.folder.name}/indicators.json")

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Measured figures: "joint" by policy, and "float" if it was measured; empty if nothing was.

        Raises:
            ArtifactError: the file is damaged, or a figure in it cannot be.
        """
        if "metrics.json" not in self.folder.files:
            return {}
        metrics = self.folder.read_json("metrics.json")
        where = f"{self.folder.name}/metrics.json"
        check_shape(metrics, _METRICS, where)
        if "float" in metrics:
            check_figures(metrics["float"], f"{where}: float")
        for record in metrics["joint"]:
            check_figures(record, f"{where}: joint")
            for key in ("bitops", "calibration_images"):
                check_count(record[key], f"{where}: joint: {key}")
        return metrics

    @cached_property
    def classes(self) -> list[dict[str, str]]:
        """Id and name of each class, in the order of the class indices.

        Raises:
            ArtifactError: the file is damaged or malformed, names more or fewer classes than the network has, or one
                id twice.
        """
        classes = self.folder.read_json("classes.json")
        check_shape(self.folder.config, {"num_classes": int}, f"{self.folder.name}/config.json")
        check_classes(classes, self.folder.config["num_classes"], f"{self.folder.name}/classes.json")
        return classes

    @cached_property
    def published(self) -> tuple[Published, ...]:
        """The fine-tuned policies, fewest BitOps first.

        Raises:
            ArtifactError: a file of one is damaged, or a figure in it cannot be.
        """
        policies = []
        for name in [match[1] for match in map(_POLICY_CONFIG.fullmatch, self.folder.files) if match]:
            checkpoint = self.checkpoint(name)
            config = checkpoint.config
            check_shape(config, _COSTS | {"provenance": dict}, f"{checkpoint.name}/config.json")
            for key in ("bitops", "size_bytes"):
                check_count(config[key], f"{checkpoint.name}/config.json: {key}")
            metrics: dict[str, Any] = {}
            if "metrics.json" in checkpoint.files:
                metrics = checkpoint.read_json("metrics.json")
                check_figures(metrics, f"{checkpoint.name}/metrics.json")
            command = config["provenance"].get("command")
            files = [*config["files"].values(), self.folder.config["files"][f"policies/{name}/config.json"]]
            policies.append(
                Published(
                    name=name,
                    disk_bytes=sum(listed["bytes"] for listed in files),
                    top1=metrics.get("top1"),
                    agreement=metrics.get("agreement"),
                    kl=metrics.get("kl"),
                    command=command if isinstance(command, str) else None,
                    **{key: config[key] for key in _COSTS},
                )
            )
        return tuple(sorted(policies, key=lambda published: (published.bitops, published.name)))

    def checkpoint(self, policy_name: str) -> SealedFolder:
        """Return the folder of a published policy, opened and verified once; its files are verified at every read."""
        if policy_name not in self._checkpoints:
            self._checkpoints[policy_name] = self.folder.inner(f"policies/{policy_name}", "checkpoint")
        return self._checkpoints[policy_name]

    def summary(self) -> dict[str, Any]:
        """Return what can be said of the entry, as JSON holds it."""
        indicators, costs = self.indicators, self.indicators.costs
        least, most = indicators.bitops_range()
        return {
            "name": self.name,
            "source": self.source,
            "revision": self.revision,
            "architecture": indicators.model,
            "num_classes": indicators.num_classes,
            "input_size": indicators.input_size,
            "objective": indicators.objective,
            "apart": indicators.apart,
            "searched_layers": sum(cost.fixed is None for cost in costs.values()),
            "fixed_layers": sum(cost.fixed not in (None, FLOAT) for cost in costs.values()),
            "float_layers": sum(cost.fixed == FLOAT for cost in costs.values()),
            "macs": sum(cost.macs for cost in costs.values()),
            "float_bytes": FLOAT_BITS // 8 * sum(cost.weights for cost in costs.values()),
            "float_top1": self.metrics.get("float", {}).get("top1"),
            "minimum_bitops": least,
            "maximum_bitops": most,
            "policies": [asdict(published) for published in self.published],
            "joint": list(self.metrics.get("joint", ())),
            "files": {name: listed["bytes"] for name, listed in self.folder.config["files"].items()},
            "provenance": dict(indicators.provenance),
        }

    def measured_top1(self, policy: Policy) -> tuple[float, Literal["fine-tuned", "joint"]] | None:
        """Return the top-1 in percent that was measured of a policy, and of which weights; None if it was not.

        The weights fine-tuned for exactly this policy come first, the joint weights as shipped second.
        """
        digest = policy.digest()
        published = self.published_at(digest)
        if published is not None and published.top1 is not None:
            return published.top1, "fine-tuned"
        top1 = self.joint_top1(digest)
        return None if top1 is None else (top1, "joint")

    def published_at(self, policy_sha256: str) -> Published | None:
        """Return the checkpoint that was fine-tuned for exactly a policy, or None.

        Of several, published one after the other, it is the one of the best top-1; where none has one, the first by
        name.
        """
        same = [published for published in self.published if published.policy_sha256 == policy_sha256]
        return max(same, key=lambda published: -1.0 if published.top1 is None else published.top1, default=None)

    def expected_top1(self, bitops: int) -> float | None:
        """Return the top-1 in percent that the joint weights can be expected to have where a search spends `bitops`.

        On a straight line between the measured budgets on both sides; None outside what was measured.
        """
        front = sorted((record["bitops"], record["top1"]) for record in self.front(calibrated=False))
        for (low, below), (high, above) in itertools.pairwise(front):
            if low <= bitops <= high:
                share = (bitops - low) / (high - low) if high > low else 0.0
                return below + (above - below) * share
        return None

    def front(self, *, calibrated: bool) -> list[dict[str, Any]]:
        """Return the records of `joint_records` that have a top-1."""
        return [record for record in self.joint_records(calibrated=calibrated) if "top1" in record]

    def joint_records(self, *, calibrated: bool) -> list[dict[str, Any]]:
        """Return what was measured of the joint weights, BatchNorm as shipped or recalibrated; most BitOps first."""
        records = [joint for joint in self.metrics.get("joint", ()) if bool(joint["calibration_images"]) == calibrated]
        return sorted(records, key=lambda joint: -joint["bitops"])

    def joint_top1(self, policy_sha256: str) -> float | None:
        """Return the top-1 in percent that the joint weights as shipped were measured to have at a policy, or None."""
        for joint in self.metrics.get("joint", ()):
            if joint["policy_sha256"] == policy_sha256 and not joint["calibration_images"]:
                return joint.get("top1")
        return None
