"""From an image file, its bytes, or a picture in memory to a uint8 RGB tensor."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

try:  # half as fast again as Pillow; torchvision has announced that it will go
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:
    decode_jpeg = None

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 150_000_000  # 450 MB as RGB: above any camera's single shot, below what exhausts a machine

_ORIENTATION = 0x0112  # the EXIF tag
# The tensor's axes to flip for each EXIF orientation, after height and width were exchanged for 5 to 8.
_FLIPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}


def read_image(source: Path | bytes) -> Tensor:
    """The picture of a file or of encoded bytes: uint8 RGB (3, H, W), turned upright by its EXIF orientation.

    Transparent pixels show white; 16 bits are scaled to 8. The first frame of an animation counts. The memory keeps the
    decoder's order, which for most pictures is (H, W, 3).
    Raises ValueError when the data is no image, damaged, cut short, or above MAX_PIXELS; OSError when a file is absent.
    Damage inside a JPEG that still has its end marker goes unnoticed: libjpeg only warns of it.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    name = _name(source)
    picture = _open(data, name)
    fast = decode_jpeg is not None and picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L")
    try:
        if fast:  # the pixels that Pillow gives, sooner
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return _upright(decode_jpeg(encoded, mode=ImageReadMode.RGB), _orientation(picture))
        picture.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, RuntimeError… on damaged data
        reason = str(error).rsplit(", ", 1)[-1]  # without torchvision's source line
        raise ValueError(f"{name} is damaged or cut short ({reason}): fetch it again or remove it") from error
    try:
        return _upright(_picture_to_tensor(picture), _orientation(picture))
    except ValueError as error:
        raise ValueError(f"{name} cannot be shown in 8-bit RGB ({error}): save it as PNG or JPEG") from error


def image_header_size(source: Path | bytes) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header alone."""
    with _open(source, _name(source)) as picture:
        width, height = picture.size
        # Pillow states the size of a TIFF upright.
        turned = picture.format != "TIFF" and _orientation(picture) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def to_image_tensor(value: object) -> Tensor:
    """A picture in memory as uint8 RGB (3, H, W).

    value: a PIL image, a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in RGB(A) order, or a tensor (H, W),
    (1, H, W), (3, H, W) or (4, H, W). Numbers are uint8, uint16 (65535 is white), bool, or floats in [0, 1].
    """
    if isinstance(value, Image.Image):
        value.load()
        return _upright(_picture_to_tensor(value), _orientation(value))
    if isinstance(value, np.ndarray):
        if value.ndim != 2 and not (value.ndim == 3 and value.shape[2] in (1, 3, 4)):
            raise ValueError(
                f"an image array must have shape (H, W) or (H, W, 1|3|4), got {value.shape}; a tensor has (1|3|4, H, W)"
            )
        planes = torch.from_numpy(_to_uint8(value))
        return _planes_to_rgb(planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1))
    if isinstance(value, Tensor):
        if value.ndim != 2 and not (value.ndim == 3 and value.shape[0] in (1, 3, 4)):
            raise ValueError(f"an image tensor must have shape (H, W) or (1|3|4, H, W), got {tuple(value.shape)}")
        array = value.detach().cpu()
        array = array.float() if array.dtype in (torch.bfloat16, torch.float16) else array
        planes = torch.from_numpy(_to_uint8(array.numpy()))
        return _planes_to_rgb(planes[None] if planes.ndim == 2 else planes)
    raise TypeError(f"an image must be a PIL image, NumPy array or tensor, got {type(value).__name__}")


def _name(source: Path | bytes) -> str:
    return "the image" if isinstance(source, bytes) else str(source)


def _open(source: Path | bytes, name: str) -> Image.Image:
    """Reads the header only."""
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise ValueError(f"{name} is empty: fetch it again or remove it")
    remedy = "cut it into tiles or scale it down"
    try:
        picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Image.UnidentifiedImageError as error:
        known = "JPEG, PNG, TIFF, WebP, …"
        raise ValueError(f"{name} is not an image in a known format ({known}): convert or remove it") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels: {remedy}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # each format's plugin has its own
        raise ValueError(f"{name} has a damaged header ({error}): fetch it again or remove it") from error
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.width} × {picture.height}"
        raise ValueError(f"{name} has {size} pixels, more than {MAX_PIXELS:,}: {remedy}")
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        # The base class's method: that of PNG would decode the whole picture.
        return int(Image.Image.getexif(picture).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data says nothing about how to turn the picture
        return 1


def _upright(image: Tensor, orientation: int) -> Tensor:
    """(3, H, W) as stored → (3, H, W) or, for orientations 5 to 8, (3, W, H) as meant."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 2)
    return image.flip(_FLIPS[orientation]) if orientation in _FLIPS else image


def _picture_to_tensor(picture: Image.Image) -> Tensor:
    if picture.mode.startswith("I"):  # Pillow's own conversion to 8 bits clips at 255
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("values of more than 16 bits: save it with 8 or 16 bits a channel")
        return _planes_to_rgb(torch.from_numpy(_to_uint8(values.astype(np.uint16)))[None])
    if picture.mode == "F":
        return _planes_to_rgb(torch.from_numpy(_to_uint8(np.asarray(picture)))[None])
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return _planes_to_rgb(torch.from_numpy(_to_uint8(np.asarray(picture.convert(mode)))).permute(2, 0, 1))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return np.array(values)  # a copy: torch wants no negative strides and nothing read-only
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if np.issubdtype(values.dtype, np.floating):
        if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN fails both comparisons
            raise ValueError(
                f"an image of floats must lie in [0, 1], got {values.min():g} to {values.max():g}: divide by 255 first"
            )
        return np.rint(values * 255).astype(np.uint8)
    raise ValueError(f"an image must hold uint8, uint16, bool or floats in [0, 1], got {values.dtype}")


def _planes_to_rgb(planes: Tensor) -> Tensor:
    """uint8 (1|3|4, H, W) → uint8 (3, H, W), an alpha plane laid over white."""
    if planes.shape[0] == 4:
        alpha = planes[3:].int()
        planes = ((planes[:3].int() * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)
    return planes.repeat(3, 1, 1) if planes.shape[0] == 1 else planes
