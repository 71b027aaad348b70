"""Read an image file, encoded bytes or an image in memory as uint8 RGB pixels (H, W, 3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.errors import is_out_of_memory
from vovnet.media.image_opening import open_image, read_jpeg_start, reason, source_name
from vovnet.media.orientation import SIDEWAYS, turn_array

Pixels = npt.NDArray[np.uint8]
# Of two images with one stem, some formats take the one that comes first here. HEIC is missing: Pillow cannot read it.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jfif", ".jpe", ".mpo", ".jp2", ".ppm",
    ".pgm",
)  # fmt: skip
_ORIENTATION = 0x0112  # the EXIF tag
_STRIP = 2**17  # pixels of a strip, which fit in the processor's cache


def read_pixels(source: Path | bytes) -> Pixels:
    """uint8 RGB (H, W, 3): the image in a file or in encoded bytes, upright by its EXIF orientation.

    Transparent pixels become white, 16 bits are scaled to 8, and an animation gives its first frame.

    Raises ValueError for data that is no image, is damaged or cut short, or exceeds the limits; OSError for a
    missing file. Damage inside a JPEG that still has its end marker goes unnoticed: libjpeg only prints a warning.
    """
    with open_image(source) as (pil_image, _):
        return decode_image(pil_image, source_name(source))


def decode_image(pil_image: Image.Image, name: str) -> Pixels:
    """The upright pixels of an open image. It is closed, so that memory never holds both forms while they turn."""
    with explained_damage(name):
        pil_image.load()
        orientation = exif_orientation(pil_image)
    try:
        pixels = to_rgb(pil_image)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be converted to 8-bit RGB ({reason(error)}): save it as PNG or JPEG"
        ) from error
    pil_image.close()
    return turn_array(pixels, orientation)


@contextmanager
def explained_damage(name: str) -> Iterator[None]:
    """What a decoder raises as a ValueError that names the image."""
    try:
        yield
    except Exception as error:  # damaged data raises OSError, SyntaxError, struct.error, RuntimeError, …
        if is_out_of_memory(error):
            raise OSError(f"{name} needs more memory to decode than there is: free some or scale it down") from error
        raise ValueError(f"{name} is damaged or cut short ({reason(error)}): fetch it again or remove it") from error


def image_header_size(source: Path | bytes) -> tuple[int, int]:
    """(height, width) of the upright image, from its header alone."""
    size, _ = read_header(source)
    return size


def read_header(source: Path | bytes) -> tuple[tuple[int, int], int]:
    """(height, width) of the upright image, and its EXIF orientation, 1 to 8. Of most JPEGs, the start is read only."""
    if isinstance(source, Path) and (start := read_jpeg_start(source)):
        with suppress(ValueError), open_image(start) as (pil_image, _):  # which names no file in its messages
            return header_of(pil_image)
    with open_image(source) as (pil_image, _):
        return header_of(pil_image)


def header_of(pil_image: Image.Image) -> tuple[tuple[int, int], int]:
    """The result of `read_header` for an open image."""
    width, height = pil_image.size
    orientation = exif_orientation(pil_image)
    swapped = orientation in SIDEWAYS and pil_image.format != "TIFF"  # of a TIFF, Pillow reports the upright size
    return (width, height) if swapped else (height, width), orientation


def exif_orientation(pil_image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if none is stated."""
    try:
        # The base class's method, because PNG's own would decode the whole image.
        orientation = int(Image.Image.getexif(pil_image).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data states no orientation
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def to_pixels(value: object) -> Pixels:
    """uint8 RGB (H, W, 3): an image in memory.

    value: a PIL image, or a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in RGB(A) order. Values are uint8,
        uint16 (65535 is white), bool, or floats in [0, 1].
    """
    if isinstance(value, Image.Image):
        value.load()
        return turn_array(to_rgb(value), exif_orientation(value))
    if isinstance(value, np.ndarray):
        if value.ndim != 2 and not (value.ndim == 3 and value.shape[2] in (1, 3, 4)):
            raise ValueError(
                f"an image array must have shape (H, W) or (H, W, 1|3|4), got {value.shape}; a tensor has (1|3|4, H, W)"
            )
        return to_rgb(value)
    raise TypeError(f"an image must be a PIL image, NumPy array or tensor, got {type(value).__name__}")


def to_rgb(image: Image.Image | np.ndarray) -> Pixels:
    """A loaded image, or an array (H, W) or (H, W, 1|3|4) → uint8 (H, W, 3), with an alpha plane blended over white.

    One strip of rows at a time, because the steps in between take up to 40 bytes per pixel.
    """
    if isinstance(image, Image.Image):
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for rows, strip in strips_of(image):
            _fill(pixels[rows], _pil_to_array(strip))
        return pixels
    pixels = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in strips(image.shape[:2]):
        _fill(pixels[rows], image[rows])
    return pixels


def strips_of(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The rows of a loaded image in slices of few pixels, each with its part of the image."""
    for rows in strips((image.height, image.width)):
        whole = rows == slice(0, image.height)  # crop would copy it, and Pillow 11's refuses what is over its own limit
        yield rows, image if whole else image.crop((0, rows.start, image.width, rows.stop))


def strips(shape: tuple[int, int]) -> Iterator[slice]:
    """The rows of an image (H, W) in slices of few pixels."""
    height, width = shape
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _pil_to_array(pil_image: Image.Image) -> np.ndarray:
    if pil_image.mode.startswith("I"):  # Pillow's own conversion to 8 bits clips at 255
        values = np.asarray(pil_image)
        if values.dtype != np.uint16 and (values.min() < 0 or values.max() > 65535):
            raise ValueError("values of more than 16 bits: save it with 8 or 16 bits per channel")
        return values.astype(np.uint16)
    transparent = pil_image.has_transparency_data
    if pil_image.mode == "F" or (pil_image.mode == "RGB" and not transparent):
        return np.asarray(pil_image)
    return np.asarray(pil_image.convert("RGBA" if transparent else "RGB"))


def _fill(pixels: Pixels, values: np.ndarray) -> None:
    """Writes (H, W) or (H, W, 1|3|4) as uint8 RGB (H, W, 3)."""
    values = _to_uint8(values[:, :, None] if values.ndim == 2 else values)
    if values.shape[2] != 4:
        pixels[:] = values
        return
    alpha = values[:, :, 3:].astype(np.uint16)
    pixels[:] = (values[:, :, :3] * alpha + (255 * (255 - alpha) + 127)) // 255  # at most 65,152


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
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
