"""Which input of an exported file takes the images, how it lays them out, and the sizes of all inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.limits import check_limit
from vovnet.printing import line
from vovnet.profiling.cost_types import Shape

IMAGE_DTYPES = ("float32", "float16", "uint8", "float64", "int8", "int32")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class OnnxInput:
    """An input as the file declares it.

    dtype: PyTorch's name of the number format, such as "float32"; ONNX's name of what is not a tensor of numbers.
    shape: a size that the file leaves open is its name, or None.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name} ({times(self.sizes) or 'a single number'}, {self.dtype})"

    @property
    def sizes(self) -> tuple[int | None, ...]:
        return tuple(size if isinstance(size, int) and size >= 0 else None for size in self.shape)

    @property
    def layout(self) -> str:
        """What the dimensions are: "NCHW", "NHWC", of one image "CHW" or "HWC", of grey images "NHW"; else ""."""
        if len(self.sizes) not in (3, 4):
            return ""
        first, last = self.sizes[0], self.sizes[-1]
        if len(self.sizes) == 4:
            return "NHWC" if last in _CHANNELS and self.sizes[1] not in _CHANNELS else "NCHW"
        if last in _CHANNELS and first not in _CHANNELS:
            return "HWC"
        return "NHW" if first is None and None not in self.sizes[1:] else "CHW"

    def batch_shape(self, batch_size: int | None, input_size: int | None) -> tuple[int, int, int, int]:
        """(N, C, H, W), or (N, H, W, C) if channels are last: the requested sizes, else the declared ones, else
        1 image of 3 × 224 × 224."""
        declared = dict(zip(self.layout, self.sizes, strict=True))
        channels = 1 if self.layout == "NHW" else 3
        sizes = {
            "N": batch_size or declared.get("N") or 1,
            "C": declared.get("C") or channels,
            "H": input_size or declared["H"] or 224,
            "W": input_size or declared["W"] or 224,
        }
        n, *others = (sizes[letter] for letter in ("NHWC" if self.layout.endswith("C") else "NCHW"))
        return n, others[0], others[1], others[2]

    def own_shape(self, shape: Sequence[int]) -> Shape:
        """A `batch_shape` without the dimension of size 1 that the file does not have; another shape as it is."""
        if len(shape) == 4 and len(self.layout) == 3:
            extra = 1 if self.layout == "NHW" else 0
            if shape[extra] == 1:
                return (*shape[:extra], *shape[extra + 1 :])
        return tuple(shape)

    def sizes_beside(self, image: OnnxInput, shape: Shape) -> tuple[int | None, ...]:
        """The sizes of this input if the images have this shape; None for those that do not follow from it.

        A size with a name that the image has too is the same, an open first size is the number of images, and an input
        with the dimensions of the image has its sizes.
        """
        named = {name: size for name, size in zip(image.shape, shape, strict=False) if isinstance(name, str)}
        sizes = [
            named.get(own) if isinstance(own, str) else size for own, size in zip(self.shape, self.sizes, strict=True)
        ]
        if sizes and sizes[0] is None and image.layout.startswith("N"):
            sizes[0] = shape[0]
        if self.layout == image.layout and takes_shape(sizes, shape):
            return shape
        return tuple(sizes)


def check_file(path: Path) -> None:
    """OSError for a file that cannot be read; ValueError for one that is not regular, or above the limit.

    The libraries read what is there to its end, and a pipe or a device has none.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{line(str(path), 200)} is not a file, expected an ONNX model")
    with path.open("rb"):  # raises an error that names the reason
        pass
    check_limit("weights_bytes", path.stat().st_size, line(str(path), 200))


def image_input(inputs: Iterable[OnnxInput]) -> OnnxInput | None:
    """The input that takes the images, the first of several equally likely ones; None if no input can be it."""
    images = [value for value in inputs if value.layout and value.dtype in IMAGE_DTYPES]
    return max(images, key=_likelihood, default=None)


def _likelihood(value: OnnxInput) -> tuple[bool, bool, int]:
    channels = dict(zip(value.layout, value.sizes, strict=True)).get("C", 1)
    order = (3, 4, 1, None)  # masks have one channel, feature maps of an earlier pass have many or leave them open
    likely = len(order) - order.index(channels) if channels in order else 0
    return "mask" not in value.name.lower(), len(value.sizes) == 4, likely


def takes_shape(declared: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Whether the sizes are the declared ones; None stands for any size."""
    return len(declared) == len(shape) and all(own in (None, size) for own, size in zip(declared, shape, strict=True))


def times(sizes: Iterable[int | None]) -> str:
    """ "1 × 3 × 224 × 224", with "any" for None."""
    return " × ".join("any" if size is None else str(size) for size in sizes)
