"""What a network costs, for any `torch.nn.Module`; can be called as `vovnet.measure(model, input_size=300)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vovnet.measure.measurement import Measurement


class _CallablePackage(ModuleType):
    """A function of this name would be hidden by the package as soon as one of its modules is imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Measurement:
        """What one forward pass of a module costs; the arguments are those of `vovnet.measure.comparison.measure`."""
        from vovnet.measure.comparison import measure

        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
