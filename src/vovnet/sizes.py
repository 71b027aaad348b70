"""To which size an image is resized: a pure function that needs neither PyTorch nor pixels."""

from __future__ import annotations


def fit_size(image_size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """(height, width) to which an image is resized with its aspect ratio kept, at least 1 pixel each.

    The shorter side becomes `short` pixels, or less where the longer side would exceed `long`.
    """
    scale = min(short / min(image_size), long / max(image_size))
    height, width = (max(1, round(side * scale)) for side in image_size)
    return height, width
