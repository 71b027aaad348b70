"""Names of all that comes with the package: models, weights, configs. Without PyTorch, so `vovnet list` is quick."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

BACKBONE_NAMES = (
    *("vovnet27_slim", "vovnet39", "vovnet57", "vovnet75", "vovnet93", "vovnet19_tiny"),
    *("vovnet19_slim_dw_ese", "vovnet19_dw_ese", "vovnet19_slim_ese", "vovnet19_ese"),
    *("vovnet39_ese", "vovnet57_ese", "vovnet99_ese"),
    *("resnet50", "resnet101", "densenet161", "densenet201", "dsod_densenet67", "mobilenet", "peleenet", "vgg16"),
)
MASK_RCNN_BACKBONES = ("vovnet27_slim", "vovnet39", "vovnet57", "resnet50", "resnet101")
REFINEDET_BACKBONES = (*MASK_RCNN_BACKBONES, "densenet201", "densenet161", "vgg16")
DETECTORS = (
    *("dsod300_vovnet27_slim", "dsod300_vovnet27_slim_bottleneck", "dsod300_densenet67"),
    *("ssd300_mobilenet", "pelee304", "ssdfpn320_vovnet19_tiny"),
    *(f"refinedet{side}_{backbone}" for side in (320, 512) for backbone in REFINEDET_BACKBONES),
    *(
        f"{family}_{backbone}{suffix}"
        for family in ("maskrcnn", "fasterrcnn")
        for backbone in MASK_RCNN_BACKBONES
        for suffix in ("_gn", "")
    ),
)
"""The detectors that are listed. RefineDet and Mask R-CNN work on every other backbone too."""

SAMPLE_IMAGES = tuple(f"BloodImage_{number:05}" for number in (0, 2, 14, 17, 28, 29, 30, 35))
"""Images of BCCD (MIT licence, beside them) from its split val."""


def shipped_weights() -> dict[str, Path]:
    """Name → file of the weights that are part of the package."""
    folder = Path(str(resources.files("vovnet") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def published_configs() -> dict[str, Path]:
    """Name → file of the configs that come with the package; in a source tree, those of its folder configs/."""
    package = Path(str(resources.files("vovnet")))
    folders = (package / "configs", package.parents[1] / "configs")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def sample_images() -> tuple[Path, ...]:
    """Images of blood cells that come with the package; in a source tree, those in samples/. None trained "bccd"."""
    package = Path(str(resources.files("vovnet")))
    folders = (package / "sample_images", package.parents[1] / "samples/bccd/JPEGImages")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return tuple(folder / f"{name}.jpg" for name in SAMPLE_IMAGES)
