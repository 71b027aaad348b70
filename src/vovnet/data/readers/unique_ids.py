"""Ids for images that have none but the name of their file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vovnet.data.dataset import ImageAnnotation, ImageTable, inside
from vovnet.data.keys import are_among, are_repeated, keys_of


def with_unique_ids(folder: Path, images: Iterable[ImageAnnotation]) -> ImageTable:
    """Images with the same stem get their path in the data folder as id, with the suffix if nothing else differs."""
    table = ImageTable.of(images)
    count = len(table)
    whole = keys_of((inside(folder, path) for path in table.paths()), count)
    ids = keys_of(table.image_ids(), count)
    is_unique = ~(are_repeated(ids) | are_among(ids, whole))
    if is_unique.all():
        return table
    bare = keys_of((os.path.splitext(inside(folder, path))[0] for path in table.paths()), count)
    needs_suffix = are_repeated(bare) | are_among(bare, whole)
    position = -1

    def with_unique_id(image: ImageAnnotation) -> ImageAnnotation:
        nonlocal position
        position += 1
        if is_unique[position]:
            return image
        name = inside(folder, str(image.image_path))
        return replace(image, image_id=name if needs_suffix[position] else os.path.splitext(name)[0])

    return table.changed(with_unique_id)
