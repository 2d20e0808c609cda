"""timm's own weights of a network: fetched into the cache that timm reads; and what is said where none come."""

from __future__ import annotations

from timm.models import PretrainedCfg, load_state_dict_from_hf

from limpq_hub.errors import HubError, HubOfflineError, HubUnavailableError
from limpq_hub.zoo.hub.answers import ask_hub

# What timm looks for where its configuration names no file; a safetensors file of the repository comes first.
_FILE = "pytorch_model.bin"
_SHOWN = "model.safetensors"


def fetch_timm_weights(config: PretrainedCfg) -> None:
    """Fetch what timm loads for `pretrained=True`, unless the cache has it.

    Weights that timm has from elsewhere than the Hub, or in a format of their own, are left to timm.

    Raises:
        HubError: the Hub does not give them; names the file, and what needs no Hub.
    """
    if not config.hf_hub_id or config.custom_load:
        return
    repo, file = config.hf_hub_id, config.hf_hub_filename
    try:
        ask_hub(repo, None, lambda: load_state_dict_from_hf(repo, file or _FILE), file=file or _SHOWN)
    except HubError as error:
        raise without_weights(error, f"hf-hub:{repo}", file or _SHOWN) from None


def without_weights(error: HubError, repository: str, file: str = _SHOWN, option: str = "--weights") -> HubError:
    """Return an error in its place that says which weights were wanted, why they do not come, and what to do instead.

    Args:
        repository: hf-hub:owner/name, perhaps with @revision.
        file: the one that was wanted.
        option: that they were wanted for.
    """
    match error:
        case HubOfflineError():
            reason = "HF_HUB_OFFLINE is set: unset it, and try again"
        case HubUnavailableError():
            what, _, advice = str(error).partition(": ")[2].partition("; ")
            reason = f"{what[:1].upper()}{what[1:]}: {advice}"
        case _:
            reason = str(error)
    told = type(error)(
        f"{option} needs {file} of {repository}, and the cache does not have it. {reason}. Or take {file} and "
        f"config.json from a machine that has them, and give {option} FILE.safetensors, with config.json beside it"
    )
    told.client_error = error.client_error
    return told
