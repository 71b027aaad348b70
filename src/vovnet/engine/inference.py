"""Resized images through a detector, each as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vovnet.structures import Detections


@torch.inference_mode()
def detect_images(
    images: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    detect_batch: Callable[[list[Tensor], list[tuple[int, int]]], list[Detections]],
) -> list[Detections]:
    """The detections of each image in order, on the CPU, in pixels of the original images.

    images: uint8 RGB (3, H, W), resized by a detector's preprocessing; image_sizes: (height, width) of the originals.
    detect_batch: that detector, for images of one input size and their original sizes. It gets those of each size
    together, the others in batches of their own: padding an image to the size of another would change what is found.
    """
    places: dict[torch.Size, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        places[image.shape].append(place)
    found: dict[int, Detections] = {}
    for same in places.values():
        detections = detect_batch([images[place] for place in same], [image_sizes[place] for place in same])
        found |= {place: one.cpu() for place, one in zip(same, detections, strict=True)}
    return [found[place] for place in range(len(images))]
