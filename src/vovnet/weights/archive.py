"""Zip archives of arrays: what they take is known before it is taken.

Every error here is a ValueError whose text goes on after the name of the file.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vovnet.errors import is_out_of_memory, typed
from vovnet.limits import check_limit, limits, too_much
from vovnet.printing import line, quoted

_MOST_PACKED = 20  # unpacked in packed size; float32 weights and JPEG images hardly shrink
_ALWAYS_FINE = 64 * 2**20
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _File(FileIO):
    """zipfile reads the directory of an archive at once and takes fifteen times as much, so its size is bounded."""

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        data = super().read(size if self.most is None or 0 <= size <= self.most else self.most + 1) or b""
        if self.most is not None and len(data) > self.most:
            raise too_much("header_bytes", "with the directory of its parts")
        return data


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose parts are together no larger, unpacked, than the limit and than what weights can shrink by."""
    with _File(path, "r") as file:
        file.most = limits().header_bytes
        try:
            archive = zipfile.ZipFile(file)
        except ValueError:
            raise
        except Exception as error:
            raise damage(error) from error
        file.most = None
        unpacked = sum(member.file_size for member in archive.infolist())
        check_limit("weights_bytes", unpacked, "unpacked")
        if unpacked > max(_ALWAYS_FINE, _MOST_PACKED * path.stat().st_size):
            raise ValueError(
                f"would unpack to {unpacked / path.stat().st_size:.0f} times its size, which weights and images never "
                "do: save it without compression if you trust it"
            )
        yield archive


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of numbers of an .npz file, or those called `names`. ValueError if it is damaged, too large or holds
    anything else."""
    with opened_archive(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if names is not None and (lacking := sorted(set(names) - members.keys())):
            raise ValueError(f"lacks the array {line(lacking[0])}")
        try:
            return {name: _array(archive, members[name], name) for name in (members if names is None else names)}
        except ValueError:
            raise
        except Exception as error:  # damaged archives raise half a dozen types
            raise damage(error) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"is compressed in a way that NumPy does not use (array {line(name)})")
    with archive.open(member) as file:
        try:
            shape, transposed, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        except Exception as error:
            raise damage(error) from error
        if dtype.kind not in "biufc" or dtype.hasobject:
            raise ValueError(f"holds no array of numbers under {line(name)}, but {quoted(dtype, 40)}")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"states a size of the array {line(name)} that it does not have")
        if math.prod(shape) == 0 and max(shape) > 2**32:
            raise ValueError(f"states an impossible size of the array {line(name)}")
        data = file.read(math.prod(shape) * dtype.itemsize)
    values = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if transposed else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)


def damage(error: Exception) -> ValueError | MemoryError:
    """What a library says of a damaged file, short. Of a lack of memory no file is to blame."""
    if is_out_of_memory(error):
        return MemoryError(line(str(error), 100))
    reason = line(typed(error), 120)
    return ValueError(f"is damaged ({reason}): download or copy it again")
