"""Figures of policies of one entry without training, jointly trained and fine-tuned; each is measured once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.policy_statistics import Statistics, statistics_setter
from limpq_hub.train.data.loaders import calibration_batches, validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.measure.calibrated_network import calibrated_network
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.measure.evaluate import OfImages, evaluate_each, log_probabilities
from limpq_hub.train.measure.figure_dependence import MAY_CHANGE, what_figures_depend_on, what_the_recipe_reads
from limpq_hub.train.measure.measurement_cache import Figures, MeasurementCache
from limpq_hub.train.measure.paired import Paired, paired
from limpq_hub.train.measure.recalibration_images import recalibration_images
from limpq_hub.train.measure.same_finetuning import Finetuning, finetune_policy
from limpq_hub.train.settings import ComparisonSettings
from limpq_hub.train.weights.entry_weights import timm_name_of
from limpq_hub.train.weights.fetched_weights import fetched_content
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.train.weights.picture_preparation import preparation_note
from limpq_hub.zoo.anchors import statistics_of_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

_CHOOSING_IMAGES = 2048
# They correct the BatchNorm of a network that is converted without training, or whose joint training kept it.
_CONVERSION_IMAGES = 256


class MeasuredPolicies:
    """The networks of an entry and the images, and what was measured of its policies on them.

    Attributes:
        network: the float network that all are compared with, in eval mode.
        cache: the figures, each by its key.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        settings: ComparisonSettings,
        entry: Entry,
        indicators: Indicators,
        finetuning: Finetuning | None,
    ) -> None:
        """Load the networks and the images, and measure the float network.

        Args:
            indicators: of the entry, with the importance that the policies are compared by.
            finetuning: which float networks it reads; None where there is none.

        Raises:
            TrainingError: what was measured before was measured with other options.
            UnknownModelError: the entry has no float network.
            DataError: there are no pictures of the kind that is needed, or too many cannot be decoded.
        """
        self._accelerator, self._settings, self._entry, self._indicators = accelerator, settings, entry, indicators
        data, device = settings.data, accelerator.device
        ids = classes_of_entry(entry, data)
        shipped = statistics_of_entry(entry.folder)
        image_count = settings.calibrate_images
        if image_count is None and shipped == "corrected":
            image_count = _CONVERSION_IMAGES
        calibrate_images = recalibration_images(shipped, image_count)
        self.network = float_network_of(entry, settings.weights)
        depends_on = {
            **what_figures_depend_on(settings, entry),
            **fetched_content("weights", settings.weights, self.network),
            **what_the_recipe_reads(finetuning, entry),
            "calibrate_images": calibrate_images,
        }
        self.cache = MeasurementCache(settings.output / "measured.json", depends_on, may_change=MAY_CHANGE)
        self.spec = spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        note = preparation_note(settings.weights, spec, "--weights", model=timm_name_of(entry))
        if note:
            say(note)
        self._supernet = load_supernet(entry.folder, indicators).to(device)
        self.network.to(device)
        images = calibration_batches(data, spec, calibrate_images, device)
        # Images that were asked for recalibrate an entry without statistics of its own, too.
        set_by_images: Statistics = "corrected" if shipped == "corrected" else "measured"
        self._statistics: Statistics = set_by_images if images else "kept"
        self._set_statistics_ = statistics_setter(self._statistics, images, self.network)
        self._loaders = {
            every: validation_loader(data, spec, every=every, classes=ids) for every in (1, settings.correlate_every)
        }
        say("measuring the float network on the validation images")
        self._references = {
            every: log_probabilities(accelerator, self.network, loader) for every, loader in self._loaders.items()
        }

    @property
    def stages(self) -> Mapping[str, Callable[[Policy], Figures]]:
        """What measures a policy at each stage that was asked for, by its name, in the order of the table."""
        return {
            **({"calibrated": self._calibrated} if self._settings.calibrated else {}),
            "joint": self.joint,
            **({"finetuned": self.finetuned} if self._settings.steps else {}),
        }

    def joint(self, policy: Policy, *, every: int = 1) -> Figures:
        """Return the figures of the jointly trained network at a policy, its statistics set by images if there are.

        Args:
            every: of so many validation images one is taken: 1, or what the settings correlate on.
        """

        def measure() -> Figures:
            """Return the figures where the cache does not have them."""
            model = select_policy(self._supernet, policy).eval()
            self._set_statistics_(model)
            return self._figures(model, every, beside)

        beside = self._file_of_images("joint", policy) if every == 1 else None
        return self.cache.figures_of(f"joint {every} {policy.digest()}", measure, beside=beside)

    def finetuned(self, policy: Policy) -> Figures:
        """Return the figures of the policy after the same fine-tuning as all others."""

        def measure() -> Figures:
            """Fine-tune the policy, and return the figures, where the cache does not have them."""
            folder = finetune_policy(self._settings, self._entry, policy)
            model, _ = load_checkpoint(open_local_folder(folder, "checkpoint"))
            return self._figures(model.to(self._accelerator.device), 1, beside)

        key, beside = self._finetuning(policy)
        return self.cache.figures_of(key, measure, beside=beside)

    def is_finetuned(self, policy: Policy) -> bool:
        """Return whether a policy was fine-tuned and measured before."""
        return self.cache.has(*self._finetuning(policy))

    def choosing_divergence(self, policy: Policy) -> float:
        """Return the divergence from the float network on training images, in nats; measured once."""
        figures = self.cache.figures_of(f"choice {policy.digest()}", lambda: {"kl": self._divergence(policy)})
        return float(figures["kl"])

    def paired(self, policy: Policy, first: Policy) -> dict[str, Paired]:
        """Return how a policy differs from the first on the same images, at each stage; both were measured there."""
        return {stage: paired(self._of_images(stage, policy), self._of_images(stage, first)) for stage in self.stages}

    def _calibrated(self, policy: Policy) -> Figures:
        """Return the figures of the float network converted to a policy without any training."""

        def measure() -> Figures:
            """Return the figures where the cache does not have them."""
            model = calibrated_network(self.network, policy, self._indicators, self._conversion_images)
            return self._figures(model.to(self._accelerator.device), 1, beside)

        beside = self._file_of_images("calibrated", policy)
        return self.cache.figures_of(f"calibrated {policy.digest()}", measure, beside=beside)

    def _finetuning(self, policy: Policy) -> tuple[str, Path]:
        """Return under which key a fine-tuned policy is measured, and the file of its images."""
        key = f"finetuned {self._settings.steps} {policy.digest()}"
        return key, self._file_of_images("finetuned", policy)

    @cached_property
    def _conversion_images(self) -> list[Tensor]:
        """Training images for step sizes and BatchNorm of a network that is converted without training."""
        return calibration_batches(self._settings.data, self.spec, _CONVERSION_IMAGES, self._accelerator.device)

    @cached_property
    def _divergence(self) -> Divergence:
        """Measures the KL divergence of a policy of the supernet on training images."""
        say(f"choosing the best split by {_CHOOSING_IMAGES} training images")
        images = calibration_batches(self._settings.data, self.spec, _CHOOSING_IMAGES, self._accelerator.device)
        return Divergence(self._supernet, self.network, images, self._statistics)

    def _figures(self, model: nn.Module, every: int, beside: Path | None) -> Figures:
        """Return top-1, agreement and KL to the float network, with standard errors; write those of each image."""
        figures, of_images = evaluate_each(self._accelerator, model, self._loaders[every], self._references[every])
        if beside is not None:
            write_bytes(beside, tensors_to_bytes({"kl": of_images.kl.float(), "right": of_images.right}))
        return figures

    def _file_of_images(self, stage: str, policy: Policy) -> Path:
        """Return where the figures of each image are kept."""
        steps = f"-{self._settings.steps}" if stage == "finetuned" else ""
        return self._settings.output / "of-images" / f"{stage}{steps}-{policy.digest()[:16]}.safetensors"

    def _of_images(self, stage: str, policy: Policy) -> OfImages:
        """Return the figures of each image that were kept for a policy at a stage."""
        path = self._file_of_images(stage, policy)
        tensors = tensors_from_bytes(read_regular(path), str(path))
        return OfImages(tensors["kl"].double(), tensors["right"])


def say(text: str) -> None:
    """Print a line of progress, at once."""
    print(text, file=sys.stderr, flush=True)
