"""The brush strokes of Label Studio: runs of equal bytes of an image in RGBA, packed in bits.

The code starts with 32 bits for the number of bytes, 5 for the bits of a value less one, and four times 4 for the bits
less one in which a length may be written. Then each block has one bit for its type, two for the bits of its length,
the length less one, and one value that is repeated, or as many values as the length says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vovnet.limits import check_limit

_CHANNELS = 4  # of which the last is what was drawn


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.data, self.position, self.end = data, 0, 8 * len(data)

    def read(self, count: int) -> int:
        last = self.position + count
        if last > self.end:
            raise ValueError("its code ends too early")
        window = int.from_bytes(self.data[self.position // 8 : (last + 7) // 8], "big")
        self.position = last
        return window >> (-last % 8) & ((1 << count) - 1)


def decode(code: object, size: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], int]:
    """The rows of the image that a brush stroke reaches, (h, W), and the first of them.

    ValueError for a code that is damaged, of another size, or covers nothing. A code of a few bytes may cover a whole
    image.

    size: (height, width) of the image.
    """
    height, width = size
    check_limit("image_pixels", height * width, "the image")
    if not isinstance(code, list) or not all(type(value) is int and 0 <= value <= 255 for value in code):
        raise ValueError("its code is no list of bytes")
    bits = _Bits(bytes(code))
    total = bits.read(32)
    if total != _CHANNELS * height * width:
        raise ValueError(f"its code is of {total / _CHANNELS:g} pixels, and the image has {width} × {height}")
    spans = list(_spans(bits, total))
    if not spans:
        raise ValueError("it covers nothing")
    top, bottom = spans[0][0] // width, (spans[-1][1] - 1) // width + 1
    drawn = np.zeros((bottom - top) * width, np.bool_)
    for start, end in spans:
        drawn[start - top * width : end - top * width] = True
    return drawn.reshape(-1, width), top


def _spans(bits: _Bits, total: int) -> Iterator[tuple[int, int]]:
    """The stretches of pixels that are drawn, row by row: the first, and the one after the last."""
    value_bits = bits.read(5) + 1
    length_bits = [bits.read(4) + 1 for _ in range(4)]
    position = 0
    while position < total:
        is_repeated = bits.read(1)
        end = position + 1 + bits.read(length_bits[bits.read(2)])
        if end > total:
            raise ValueError("its code is of more pixels than the image has")
        if is_repeated:
            first, after = position // _CHANNELS, end // _CHANNELS  # whose last channel is in the block
            if bits.read(value_bits) and after > first:
                yield first, after
        else:
            for index in range(position, end):
                if bits.read(value_bits) and index % _CHANNELS == _CHANNELS - 1:
                    yield index // _CHANNELS, index // _CHANNELS + 1
        position = end
