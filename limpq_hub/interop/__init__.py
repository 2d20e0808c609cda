"""Files of other tools: the LIMPQ authors' indicators read, policies written as other tools read them."""

from limpq_hub.interop.formats import FORMATS, write_policy_as
from limpq_hub.interop.pickles import import_limpq_indicators, read_limpq_pickle

__all__ = ["FORMATS", "import_limpq_indicators", "read_limpq_pickle", "write_policy_as"]
