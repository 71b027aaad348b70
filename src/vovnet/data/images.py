"""Read an image file, encoded bytes or an image in memory as a uint8 RGB tensor.

PyTorch is imported when the first tensor is made, because the check of a dataset makes none and should start at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from vovnet.data.orientation import turn_pixels
from vovnet.errors import is_out_of_memory
from vovnet.media.image_opening import open_image, source_name
from vovnet.media.orientation import means_stored_pixels
from vovnet.media.pixels import Pixels, decode_image, exif_orientation, explained_damage, read_header, to_pixels, to_rgb

if TYPE_CHECKING:
    from torch import Tensor


def read_image(source: Path | bytes) -> Tensor:
    """uint8 RGB (3, H, W): the image in a file or in encoded bytes, upright by its EXIF orientation.

    Transparent pixels become white, 16 bits are scaled to 8, and an animation gives its first frame. The memory layout
    is the decoder's, which is (H, W, 3) for most images.

    Raises ValueError for data that is no image, is damaged or cut short, or exceeds the limits; OSError for a
    missing file. Damage inside a JPEG that still has its end marker goes unnoticed: libjpeg only prints a warning.
    """
    with open_image(source) as (pil_image, file):
        decode = _fast_jpeg_decoder()
        if decode is None or pil_image.format not in ("JPEG", "MPO") or pil_image.mode not in ("RGB", "L"):
            return _to_tensor(decode_image(pil_image, source_name(source)))
        with explained_damage(source_name(source)):  # the same pixels as Pillow's, sooner
            orientation = exif_orientation(pil_image)
            file.seek(0)
            return turn_pixels(decode(bytearray(file.read())), orientation)


@cache
def _fast_jpeg_decoder() -> Callable[[bytearray], Tensor] | None:
    """torchvision's decoder, 1.5 times as fast as Pillow's, if it works: torchvision has announced its removal.

    It is tried, because a torchvision without its native library has the function too.
    """
    import torch

    example = BytesIO()
    PillowImage.new("RGB", (8, 8)).save(example, "JPEG")
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        def decode(data: bytearray) -> Tensor:
            return decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), mode=ImageReadMode.RGB)

        decode(bytearray(example.getvalue()))
    except Exception:  # of many types: no torchvision, one that does not fit PyTorch, one without its codecs
        return None
    return decode


def why_unreadable(path: Path, error: ValueError | OSError) -> str:
    """What this module, or the system, says of a file, without its path.

    Raises the error again if memory ran out: the file is not to blame, and may not be left out of a copy.
    """
    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        raise error
    if isinstance(error, OSError) and error.strerror:
        broken = path.is_symlink() and not path.exists()
        return "is a link that leads nowhere" if broken else f"cannot be read ({error.strerror})"
    return str(error).removeprefix(f"{path} ")


def annotated_orientation(path: Path, stated_size: tuple[int, int] | None) -> int:
    """The EXIF orientation if the annotation of an image is that of the pixels as stored, else 1.

    stated_size: (height, width) that the annotation states. The file is only opened if this can decide.
    """
    if stated_size is None or stated_size[0] == stated_size[1]:
        return 1
    try:
        size, orientation = read_header(path)
    except (ValueError, OSError):
        return 1  # whoever reads the image reports it
    return orientation if means_stored_pixels(stated_size, size, orientation) else 1


def to_image_tensor(value: object) -> Tensor:
    """uint8 RGB (3, H, W): an image in memory.

    value: a PIL image, a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in RGB(A) order, or a tensor (H, W),
        (1, H, W), (3, H, W) or (4, H, W). Values are uint8, uint16 (65535 is white), bool, or floats in [0, 1].
    """
    import torch
    from torch import Tensor

    if isinstance(value, Tensor):
        if value.ndim != 2 and not (value.ndim == 3 and value.shape[0] in (1, 3, 4)):
            raise ValueError(f"an image tensor must have shape (H, W) or (1|3|4, H, W), got {tuple(value.shape)}")
        value = value.detach().cpu()
        planes = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
        return _to_tensor(to_rgb(planes if planes.ndim == 2 else planes.transpose(1, 2, 0)))
    return _to_tensor(to_pixels(value))


def _to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) → (3, H, W), without a copy if possible."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
