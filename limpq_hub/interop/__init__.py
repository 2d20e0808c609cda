"""Files of other tools: the LIMPQ authors' indicators read, policies written as other tools read them.

The indicators that the LIMPQ authors publish in their repository are a pickle; it is read without executing anything
in it:

```bash
limpq import limpq_resnet50_indicators.pkl --model resnet50 --input-size 224 --output resnet50.json
limpq search resnet50.json --bitops w3a4 --compression 12.2x --counting limpq
```

That search gives objective 4.617439 and all 104 bit-widths of the policy they publish (`tests/test_golden.py`, which
runs where their file lies in `../shared/reference`).

A policy for another tool, HAWQ, NNCF, torchao or optimum-quanto, with notes on what that tool cannot express:

```bash
limpq search resnet18 --bitops 3G --format hawq --output bits.json
```
"""

from limpq_hub.interop.formats import FORMATS, write_policy_as
from limpq_hub.interop.pickles import import_limpq_indicators, read_limpq_pickle

__all__ = ["FORMATS", "import_limpq_indicators", "read_limpq_pickle", "write_policy_as"]
