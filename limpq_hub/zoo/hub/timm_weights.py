"""timm's own weights of a network: fetched into the cache that timm reads, or told which file is wanted."""

from __future__ import annotations

from timm.models import PretrainedCfg, load_state_dict_from_hf

from limpq_hub.errors import HubError
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
        raise type(error)(
            f"{error}; or without the Hub: take {file or _SHOWN} and config.json of hf-hub:{repo} from a machine that "
            "has them, and give --weights FILE.safetensors, the other file beside it"
        ) from None
