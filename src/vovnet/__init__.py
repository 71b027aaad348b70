"""VoVNet: train and run real-time detectors, and measure what any PyTorch model costs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vovnet.engine.detector import load as load
    from vovnet.profiling.measure import measure as measure
    from vovnet.structures import Detections as Detections
    from vovnet.structures import Target as Target
    from vovnet.weights.backbone import create_backbone as create_backbone
    from vovnet.zoo import create_model as create_model

# Imported when first used, so that `import vovnet` and `vovnet --help` need not wait for torch.
_HOME = {
    "load": "vovnet.engine.detector",
    "measure": "vovnet.profiling.measure",
    "create_backbone": "vovnet.weights.backbone",
    "create_model": "vovnet.zoo",
    "Detections": "vovnet.structures",
    "Target": "vovnet.structures",
}
__all__ = ["Detections", "Target", "__version__", "create_backbone", "create_model", "load", "measure"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vovnet' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except Exception as error:
        from vovnet.errors import is_runner
        from vovnet.libraries import raise_explained

        if not (is_runner() and isinstance(error, ModuleNotFoundError)):
            raise_explained(error)
        raise ModuleNotFoundError(
            f"vovnet.{name} needs PyTorch, and this is vovnet-runtime, which does without: exported files run with "
            "vovnet.runtime.load; for weights, training and measuring install vovnet in place of it",
            name=getattr(error, "name", None),
        ) from None


def __dir__() -> list[str]:
    return __all__
