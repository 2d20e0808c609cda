"""The training loop that all scripts share: gradients in, optimizer steps, progress and saved states out."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import timm
import torch
from _data import EpochSampler, class_records
from _options import BUDGETS, options_record
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from limpq_hub import __version__
from limpq_hub.errors import DataError, TrainingError, shown
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.zoo.catalog import Entry
from limpq_hub.zoo.tensors import load_strictly, tensors_from_bytes

MINIMUM_LR = 1e-5
_MAY_CHANGE = {"resume", "workers", "threads", "save_interval"}
Accumulate = Callable[[Tensor, Tensor, int], Tensor]


def new_accelerator(options: argparse.Namespace) -> Accelerator:
    """Return the accelerator that the options ask for."""
    # `accelerate launch` sets one thread where nothing is said.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 1) // processes))
    return Accelerator(mixed_precision=options.mixed_precision)


def start(options: argparse.Namespace) -> Accelerator:
    """Return the accelerator of a run, after checking that its output folder is free, or holds this very run.

    Raises:
        TrainingError: the folder holds another run, or `--resume` changes a setting.
    """
    accelerator = new_accelerator(options)
    path = options.output / "options.json"
    if path.exists():
        if not options.resume:
            raise TrainingError(f"{options.output} holds a run already; add --resume, or choose another --output")
        record = _run_record(accelerator, options)
        changed = [key for key, value in read_json(path).items() if key not in _MAY_CHANGE and record.get(key) != value]
        if changed:
            names = ", ".join(sorted(changed))
            raise TrainingError(f"--resume with another {names}; give the options of the first run")
    accelerator.wait_for_everyone()
    return accelerator


def _run_record(accelerator: Accelerator, options: argparse.Namespace) -> dict[str, object]:
    return options_record(options) | {"processes": accelerator.num_processes}


def finish(accelerator: Accelerator) -> None:
    """Wait for all processes, and leave the process group together."""
    accelerator.wait_for_everyone()
    accelerator.end_training()


def fit(
    accelerator: Accelerator,
    model: nn.Module,
    loader: torch.utils.data.DataLoader,
    accumulate: Accumulate,
    options: argparse.Namespace,
) -> float:
    """Train `model` in place until the last step; continue from the state in the output folder if there is one.

    Args:
        loader: from `training_loader`.
        accumulate: adds the gradients of (images, labels, step) and returns the loss to show.

    Returns:
        Seconds that the training took, all its resumed parts together.

    Raises:
        DataError: the images do not fill one batch on every process.
    """
    sampler: EpochSampler = loader.sampler
    per_step = options.batch_size * accelerator.num_processes
    steps_per_epoch = len(sampler) // per_step
    steps = min(steps_per_epoch * options.epochs, options.max_steps or 10**12)
    if not steps:
        raise DataError(
            f"{len(sampler)} training images do not fill one step of {per_step}; use a smaller --batch-size"
        )
    if accelerator.is_main_process:
        write_json(options.output / "options.json", _run_record(accelerator, options))
    optimizer = create_optimizer_v2(
        model, "momentum", lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
    )
    warmup = round(options.warmup_epochs * steps_per_epoch)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=max(1, steps - warmup),
        lr_min=min(MINIMUM_LR, options.lr),
        warmup_t=warmup,
        warmup_lr_init=min(MINIMUM_LR, options.lr),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    state = options.output / "state.safetensors"
    step, seconds = _restore(state, model, optimizer) if options.resume and state.exists() else (0, 0.0)
    loader = accelerator.prepare_data_loader(loader, device_placement=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    began = time.monotonic() - seconds
    with _Progress(accelerator, steps, step, per_step) as show:
        while step < steps:
            sampler.epoch, skipped = divmod(step, steps_per_epoch)
            sampler.start = skipped * per_step
            for images, labels in loader:
                torch.manual_seed(options.seed * 1_000_003 + step)
                scheduler.step_update(step)
                if options.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                loss = accumulate(images, labels, step)
                reduce_gradients_(accelerator, parameters)
                nn.utils.clip_grad_value_(parameters, options.clip_value)
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                show(step, float(loss))
                if accelerator.is_main_process and (step % options.save_interval == 0 or step == steps):
                    _save(state, model, optimizer, step, time.monotonic() - began)
                if step == steps:
                    break
    return time.monotonic() - began


@torch.no_grad()
def reduce_gradients_(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all processes, in one flat message; a missing gradient counts as zero."""
    if accelerator.num_processes == 1:
        return
    parameters = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


@torch.no_grad()
def evaluate(accelerator: Accelerator, model: nn.Module, loader: torch.utils.data.DataLoader) -> dict[str, float | int]:
    """Return top-1 and top-5 in percent and the number of images, over all of `loader`, in full float32.

    Raises:
        TrainingError: there is no image.
    """
    model.eval()
    # TensorFloat-32 would make the figures depend on the device.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    hits = torch.zeros(3, dtype=torch.int64, device=accelerator.device)
    for images, labels in accelerator.prepare_data_loader(loader, device_placement=True):
        found = model(images).topk(min(5, model.num_classes)).indices == labels[:, None]
        found, labels = accelerator.gather_for_metrics((found, labels))
        hits += torch.stack([found[:, 0].sum(), found.sum(), torch.tensor(len(labels), device=hits.device)])
    top1, top5, images = hits.tolist()
    if not images:
        raise TrainingError("no validation image was found")
    return {"top1": round(100 * top1 / images, 4), "top5": round(100 * top5 / images, 4), "images": images}


def float_network(architecture: str, num_classes: int, input_size: int, weights: str | None) -> nn.Module:
    """Return the timm network in eval mode.

    Args:
        weights: safetensors file, "pretrained" for timm's own, or None for random ones.

    Raises:
        TrainingError: the file is missing, or for another network.
    """
    overlay = {"input_size": (3, input_size, input_size)}
    if weights == "pretrained":
        classes = timm.get_pretrained_cfg(architecture).num_classes
        if classes != num_classes:
            raise TrainingError(
                f"timm's weights of {architecture} are for {classes} classes, the data has {num_classes}: train others "
                "with training/pretrain.py, and give --weights"
            )
    else:
        overlay |= {"crop_pct": 1.0, "interpolation": "bilinear"}
    model = timm.create_model(
        architecture, num_classes=num_classes, pretrained=weights == "pretrained", pretrained_cfg_overlay=overlay
    )
    if weights not in ("pretrained", None):
        if not Path(weights).is_file():
            raise TrainingError(f"--weights {shown(weights)}: there is no such file")
        load_strictly(model, tensors_from_bytes(Path(weights).read_bytes(), weights), weights)
    return model.eval()


def budget_of(options: argparse.Namespace) -> dict[str, object]:
    """Return the budget or policy of the options, as `limpq_hub.load` takes them."""
    names = (*BUDGETS, "policy")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def check_fits(options: argparse.Namespace, entry: Entry) -> None:
    """Raise `DataError` unless the data has the classes of the entry, in the same order."""
    found, known = ([record["id"] for record in records] for records in (class_records(options), entry.classes))
    if len(found) != len(known):
        raise DataError(f"--data {options.data} has {len(found)} classes, the network {len(known)}")
    for index, (here, there) in enumerate(zip(found, known, strict=True)):
        if here != there:
            raise DataError(
                f"--data {options.data}: class {index} is {shown(here)}, for the network it is {shown(there)}"
            )


def provenance(
    accelerator: Accelerator, command: str, options: argparse.Namespace, seconds: float
) -> dict[str, object]:
    """Return how a result came about: command, seed, device, versions, time."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "command": command,
        "seed": options.seed,
        "device": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads",
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {"limpq-hub": __version__, "torch": torch.__version__, "timm": timm.__version__},
    }


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value).contiguous()
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata={"step": str(step), "seconds": str(seconds)})
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), float(metadata["seconds"])


class _Progress:
    """A bar with loss, images/s and time left on a terminal, a line every 30 seconds elsewhere."""

    def __init__(self, accelerator: Accelerator, steps: int, done: int, images_per_step: int) -> None:
        self.steps, self.first, self.images_per_step = steps, done, images_per_step
        self.main = accelerator.is_main_process
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not self.main,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done)
        self.began = self.spoke = time.monotonic()

    def __enter__(self) -> Callable[[int, float], None]:
        self.terminal = self.bar.console.is_terminal
        if self.terminal:
            self.bar.start()
        return self.show

    def __exit__(self, *error: object) -> None:
        if self.terminal:
            self.bar.stop()

    def show(self, step: int, loss: float) -> None:
        """Show that `step` steps are done."""
        now = time.monotonic()
        rate = (step - self.first) * self.images_per_step / max(now - self.began, 1e-9)
        text = f"loss {loss:.3f} · {rate:.0f} images/s"
        self.bar.update(self.task, completed=step, description=text)
        if self.main and not self.terminal and (now - self.spoke > 30 or step == self.steps):
            left = (self.steps - step) * self.images_per_step / max(rate, 1e-9)
            print(f"step {step}/{self.steps} · {text} · {left / 60:.1f} min left", flush=True)
            self.spoke = now
