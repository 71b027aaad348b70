"""Read and write videos as tensors, uint8 RGB (3, H, W): those of `vovnet.media.video`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vovnet.media import video


class ShownFrame(NamedTuple):
    """A frame of a video, uint8 RGB (3, H, W), and when it is shown: from `start_s`, at most for `seconds`."""

    pixels: Tensor
    start_s: float
    seconds: float


def read_frames(path: str | Path) -> Generator[Tensor, None, None]:
    """The frames of a video in order, uint8 RGB (3, H, W), as `vovnet.media.video.read_pixel_frames`."""
    with closing(read_shown_frames(path)) as frames:
        for image, _, _ in frames:
            yield image
            del image


def read_shown_frames(path: str | Path) -> Generator[ShownFrame, None, None]:
    """The frames of `read_frames`, each with the time at which it is shown."""
    with closing(video.read_shown_pixels(path)) as frames:
        for pixels, start_s, seconds in frames:
            image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
            del pixels
            yield ShownFrame(image, start_s, seconds)
            del image


class VideoWriter(video.VideoWriter):
    """As `vovnet.media.video.VideoWriter`, for tensors too."""

    def write(self, image: Tensor, start_s: float | None = None, seconds: float | None = None) -> None:
        """Append a frame, uint8 RGB (3, H, W). The times are those of `ShownFrame`."""
        self.write_pixels(image.permute(1, 2, 0).numpy(), start_s, seconds)
