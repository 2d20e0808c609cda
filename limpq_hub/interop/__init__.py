"""Files of other tools: the LIMPQ authors' indicators and policies read, policies written as other tools read them."""

from limpq_hub.interop.formats import FORMATS, write_policy_as
from limpq_hub.interop.hawq import read_hawq
from limpq_hub.interop.nncf import read_nncf
from limpq_hub.interop.pickles import import_limpq_indicators, read_limpq_pickle
from limpq_hub.interop.policies import policy_from_lists, read_limpq_policy

__all__ = [
    "FORMATS",
    "import_limpq_indicators",
    "policy_from_lists",
    "read_hawq",
    "read_limpq_pickle",
    "read_limpq_policy",
    "read_nncf",
    "write_policy_as",
]
