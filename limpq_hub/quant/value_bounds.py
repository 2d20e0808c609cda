from dataclasses import dataclass
import math
from torch.utils._python_dispatch import TorchDispatchMode
@dataclass(frozen=True)
class Bounds:
    low: float = -math.inf
    high: float = math.inf
class ValueBounds(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None): return op(*args, **(kwargs or {}))
    def of(self, t): return Bounds()
