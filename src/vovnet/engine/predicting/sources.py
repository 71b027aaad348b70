"""The images and videos that a user names or passes, as tensors: those of `vovnet.media`."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vovnet.data.images import read_image, to_image_tensor
from vovnet.data.video import read_shown_frames
from vovnet.media import finding, reading
from vovnet.media.reading import Decoder, SourceImage
from vovnet.media.results import Failure
from vovnet.models.preprocessing import Resizing
from vovnet.weights.find import weights_hint

ImageLike: TypeAlias = str | Path | Tensor | np.ndarray[Any, Any] | Image


def expand_sources(sources: Iterable[str | Path], *, output: Path | None = None) -> list[str]:
    """The result of `find_sources`. Raises the error of its first `Failure`."""
    found = find_sources(sources, output=output)
    for item in found:
        if isinstance(item, Failure):
            raise item.error
    return [item for item in found if isinstance(item, str)]


def find_sources(sources: Iterable[str | Path], *, output: Path | None = None) -> list[str | Failure]:
    """As `vovnet.media.finding.find_sources`; a name that does not exist may be that of weights."""
    return finding.find_sources(sources, output=output, hint=weights_hint)


def find_inputs(inputs: ImageLike | Sequence[ImageLike], *, output: Path | None = None) -> list[Any]:
    """As `vovnet.media.finding.find_inputs`; a name that does not exist may be that of weights."""
    return finding.find_inputs(inputs, output=output, hint=weights_hint)


def read_source(source: str) -> Tensor:
    """uint8 RGB (3, H, W): the image at a path or http(s) URL. Raises ValueError or OSError that names the source."""
    return reading.read_source(source, read_image)


def read_batches(
    inputs: Sequence[Any], preprocessing: Resizing | None, batch_size: int, *, keep_images: bool
) -> Generator[list[SourceImage[Tensor] | Failure]]:
    """As `vovnet.media.reading.read_batches`: images (3, H, W), resized if there is a `preprocessing`."""
    decoder = Decoder(
        read=read_image,
        convert=to_image_tensor,
        frames=read_shown_frames,
        size=lambda image: (image.shape[1], image.shape[2]),
        resize=None if preprocessing is None else preprocessing.resize,
    )
    return reading.read_batches(inputs, decoder, batch_size, keep_images=keep_images)
