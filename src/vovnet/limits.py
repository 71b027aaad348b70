"""How much the file of a stranger may take. Every limit stands here, and the user can raise each.

On the command line with `--limit NAME=VALUE`; anywhere with the environment variable VOVNET_LIMITS="NAME=VALUE ...",
which the processes that load images inherit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from functools import cache

from vovnet.errors import UsageError, counted, unknown_name

VARIABLE = "VOVNET_LIMITS"


class LimitError(ValueError):
    """A file above a limit. It may be sound: the user can raise the limit."""


@dataclass(frozen=True)
class Limits:
    """The limits and their defaults.

    image_pixels: height × width of an image, of a mask or of the frames of a video. Few cameras take more, and decoding
        takes a gigabyte. Where a format takes more memory, a pixel counts two or three times.
    side_pixels: height or width of an image.
    image_bytes: size of an image file.
    mask_runs: stretches of pixels of one object in the columns of a mask PNG.
    network_pixels: height × width of the network's input, as weights or a config state it.
    image_objects: objects that a label file or an XML file states for one image.
    text_bytes: size of a label file, or of an XML file of one image.
    list_bytes: size of a list of images.
    yaml_bytes: size of a YAML file.
    json_bytes: size of a file that annotates many images: JSON, CVAT's XML or CSV. The largest of COCO and LVIS have
        1.2 GB.
    record_bytes: size of a record that vovnet wrote (measurements, evaluations, reproductions), or of the log of a
        power meter.
    weights_bytes: size of weights, of a checkpoint or of an exported model, unpacked.
    weights_seconds: time in which weights from a URL or the hub must arrive, all together.
    header_bytes: size of what weights or a checkpoint hold besides the values of tensors.
    download_bytes: size of an image from a URL.
    download_seconds: time in which it must arrive.
    """

    image_pixels: int = 110_000_000
    side_pixels: int = 100_000
    image_bytes: int = 200_000_000
    mask_runs: int = 5_000_000
    network_pixels: int = 4096 * 4096
    image_objects: int = 100_000
    text_bytes: int = 10_000_000
    list_bytes: int = 500_000_000
    yaml_bytes: int = 1_000_000
    json_bytes: int = 2_000_000_000
    record_bytes: int = 200_000_000
    weights_bytes: int = 2 * 2**30
    weights_seconds: int = 3600
    header_bytes: int = 10_000_000
    download_bytes: int = 50 * 2**20
    download_seconds: int = 10


NAMES = tuple(field.name for field in fields(Limits))


def limits() -> Limits:
    """The limits that hold now. UsageError if $VOVNET_LIMITS is wrong."""
    return _parse(os.environ.get(VARIABLE, ""))


def set_limit(assignment: str) -> None:
    """Set one limit, "NAME=VALUE", for this process and those that it starts. UsageError if it is wrong."""
    stated = f"{os.environ.get(VARIABLE, '')} {assignment.strip() or '='}".strip()
    _parse(stated)
    os.environ[VARIABLE] = stated


def check_limit(name: str, value: int, what: str, remedy: str = "") -> None:
    """LimitError if `value`, of the unit of the limit `name`, is above it.

    what: start of the message, such as "x.png"; nothing where the name of the file is put before
    remedy: what helps, before the way to raise the limit.
    """
    limit = getattr(limits(), name)
    if value > limit:
        raise too_much(name, what, remedy)


def too_much(name: str, what: str = "", remedy: str = "") -> LimitError:
    """The error of `check_limit`, where the value itself is not known."""
    unit = name.rpartition("_")[2]
    help_text = f"{remedy}, or " if remedy else ""
    start = f"{what} " if what else ""
    return LimitError(
        f"{start}has more than {counted_with_commas(getattr(limits(), name), unit)}: "
        f"{help_text}raise the limit with --limit {name}=N if you trust it"
    )


def counted_with_commas(count: int, unit: str) -> str:
    return counted(count, unit.removesuffix("s")).replace(str(count), f"{count:,}", 1)


@cache
def _parse(text: str) -> Limits:
    values: dict[str, int] = {}
    for assignment in text.split():
        name, equals, value = assignment.partition("=")
        digits = value.replace("_", "").replace(",", "")
        if not (name and equals) or not digits.isdecimal() or not 0 < len(digits) <= 15 or int(digits) == 0:
            raise UsageError(
                f"a limit is NAME=VALUE with a whole number, such as image_pixels=300000000, got {assignment[:80]!r}"
            )
        if name not in NAMES:
            raise unknown_name("limit", name[:80], NAMES)
        values[name] = int(digits)
    return replace(Limits(), **values)
