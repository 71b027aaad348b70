"""Writes files completely or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vovnet.printing import line

if TYPE_CHECKING:
    from PIL.Image import Image

LEFTOVERS = f".{12 * '[0-9a-f]'}.*.part*"  # pattern of files that a killed process did not finish
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_SUFFIX = 16
_LONGEST_NAME = 255  # bytes, of all common file systems
_REFUSED_BY_WINDOWS = re.compile(r'[<>:"\\|?*\x00-\x1f]')
_DEVICE_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\s*(\.|$)", re.IGNORECASE)
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair
# A cell that a spreadsheet would run. With wide signs too, which some take for the others.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`. The file that the block writes there replaces `path` if the block succeeds.

    If the block fails or the machine stops, the old file stays as it was. Missing parent folders are created. A full
    disk raises an OSError that names the file, see `is_full`. A link stays a link, and what it leads to is replaced.
    What is no regular file, such as /dev/null or a named pipe, is written to, never replaced.

    The writer must raise an error when the disk is full. Pillow does not: see `write_image`.
    """
    path = Path(path)
    with _explained(path):
        if is_special(path):
            with tempfile.TemporaryDirectory(prefix="vovnet-") as folder:
                temporary = Path(folder, f"content{_suffix(path)}")
                yield temporary
                _write_through(temporary, path)
            return
        target = _follow(path)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        temporary = target.with_name(_temporary_name(target) + _suffix(target))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            with suppress(OSError):  # an error above is what the caller needs to see
                temporary.unlink()


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder, whose content becomes that of the folder `path` if the block succeeds.

    If the block fails, nothing is left, and if the machine stops, only a hidden folder. `path` must be missing or an
    empty folder. An empty one stays: it may be where a disk is mounted, or where a shell is.
    """
    path = Path(path)
    with _explained(path):
        target = _follow(path)
        is_there = target.exists()
        temporary = (target if is_there else target.parent) / _temporary_name(target)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if is_there:
                for entry in list(temporary.iterdir()):
                    entry.rename(target / entry.name)
            else:
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make the folder and those above it, unless they are there."""
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)


def try_folder(path: Path, remedy: str) -> None:
    """Make the folder, and try whether it takes files, before work that takes long. OSError that ends with `remedy`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"cannot write into {line(str(path), 200)} ({error.strerror}); {remedy}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or fails: nothing else can be written there either."""
    return isinstance(error, OSError) and error.errno in _FULL


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data`, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Writes files that belong together: all of them, or none if there is no room for all."""
    with ExitStack() as stack:
        for path, data in contents.items():
            stack.enter_context(replacing(path)).write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, completely or not at all. What UTF-8 lacks, as bytes of a file name, is escaped."""
    write_bytes(path, encodable(text).encode())


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """Writes `content` as JSON, completely or not at all. NaN and infinity, which JSON lacks, are a ValueError."""
    write_text(path, json_text(content, indent=indent) + "\n")


def write_image(path: str | Path, image: Image, **options: Any) -> None:
    """Writes an image in the format of the suffix, completely or not at all. `options` are those of Pillow's save."""
    write_bytes(path, image_content(path, image, **options))


def image_content(path: str | Path, image: Image, **options: Any) -> bytes:
    """The content of an image file at `path`: Pillow itself does not notice when only a part fits on the disk."""
    from PIL.Image import EXTENSION, preinit, registered_extensions

    content = io.BytesIO()
    preinit()  # the usual formats; all of them take longer
    try:
        suffix = Path(path).suffix.lower()
        image.save(content, (EXTENSION if suffix in EXTENSION else registered_extensions())[suffix], **options)
    except (OSError, ValueError, KeyError) as error:
        size = f"{image.width} × {image.height} pixels"
        raise ValueError(f"{line(str(path))} cannot hold an image of {size} ({line(str(error))})") from error
    return content.getvalue()


def append_text(path: str | Path, text: str) -> None:
    """Adds `text` at the end of a file, completely or not at all."""
    path = Path(path)
    with _explained(path), path.open("ab", buffering=0) as file:
        data, before, written = encodable(text).encode(), os.fstat(file.fileno()).st_size, 0
        try:
            while written < len(data):
                written += file.write(data[written:])
        except OSError:
            with suppress(OSError):  # a device has no length
                file.truncate(before)
            raise


def file_name(stem: str, suffix: str) -> str:
    """The name of a file with this stem; one that is too long is cut, and ends in a digest of the whole stem.

    On Windows without what no name may hold there, and not that of a device, such as "con.jpg".
    """
    name = re.sub("[/\0]", "_", stem)
    if sys.platform == "win32":
        name = _REFUSED_BY_WINDOWS.sub("_", name)
        name = f"_{name}" if _DEVICE_OF_WINDOWS.match(name) else name
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        name = encodable(name)
        size = len(name.encode())
    if size + len(suffix) > _LONGEST_NAME:
        import hashlib

        suffix = f"_{hashlib.blake2b(name.encode(errors='surrogatepass'), digest_size=6).hexdigest()}{suffix}"
        room = _LONGEST_NAME - len(suffix)
        name = name[:room]
        while len(os.fsencode(name)) > room:
            name = name[:-1]
    return name + suffix


def encodable(text: str) -> str:
    """The text with what UTF-8 lacks written out as \\udc80, as for bytes of a file name that are not UTF-8."""
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def json_text(content: Any, *, indent: int | None = None) -> str:
    """The JSON of `content`, in ASCII, of `encodable` texts: many readers refuse others."""
    text = json.dumps(content, indent=indent, allow_nan=False)
    if "\\ud" in text:
        whole = json.dumps(content, ensure_ascii=False, allow_nan=False)
        if _HALF.search(whole):
            return json.dumps(json.loads(_HALF.sub(lambda half: f"\\\\u{ord(half[0]):04x}", whole)), indent=indent)
    return text


def csv_line(cells: Sequence[float | str | None], end: str = "\n") -> str:
    """A line of CSV. Text that a spreadsheet would run as a formula gets an apostrophe; numbers stay as they are."""
    harmless = (f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in cells)
    content = io.StringIO()
    csv.writer(content).writerow(encodable(cell) if isinstance(cell, str) else cell for cell in harmless)
    return content.getvalue().removesuffix("\r\n") + end


def is_below(path: str | Path, folder: str | Path) -> bool:
    """Whether `path` is the folder or in it, by any name that links give it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe, a socket, or a file that is open, as /dev/stdout, or by a link to one."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # not there, or its own error when it is written
        return False
    if not stat.S_ISREG(mode):
        return not stat.S_ISDIR(mode)
    return _standard_stream(path) is not None or _leads_to_open_file(path)


def _leads_to_open_file(path: Path) -> bool:
    """Whether the path or a link on its way is such as /dev/fd/3: whoever has the file open goes on to write to it."""
    while True:
        path = Path(os.path.realpath(path.parent), path.name)
        if str(path).startswith(("/proc/", "/dev/fd/")):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / os.readlink(path)


def _standard_stream(path: Path) -> IO[str] | None:
    """Our own stdout or stderr, if the path leads there."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # one that is closed, or none
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
    return None


def _write_through(temporary: Path, path: Path) -> None:
    stream = _standard_stream(path)
    if stream is None:
        target = path.open("ab")
    else:  # it writes on where the stream is, and a socket cannot be opened by its name
        stream.flush()
        target = os.fdopen(os.dup(stream.fileno()), "wb")
    with temporary.open("rb") as source, target:
        shutil.copyfileobj(source, target)


def _follow(path: Path) -> Path:
    """`path`, or where it leads as a link."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Makes an OSError about the path, the folders above it or the disk a sentence; others concern other files."""
    try:
        _check_name(path)
        yield
    except OSError as error:
        is_sentence = error.strerror is None
        # A disk that fails can also fail to read another file.
        of_disk = is_full(error) and (error.errno != errno.EIO or error.filename is None)
        if is_sentence or not (of_disk or _is_about(error, path)):
            raise
        reason = line(str(error.strerror))
        if isinstance(error, FileExistsError) and error.filename is not None:  # from making the folders above
            reason = f"{line(os.fsdecode(error.filename))} is not a folder"
        sentence = OSError(
            f"could not write {line(str(path), 200)} ({reason}); {_remedy(error, path)}; "
            "what was there before is unharmed"
        )
        sentence.errno = error.errno
        raise sentence from error


def _check_name(path: Path) -> None:
    try:
        if b"\0" in os.fsencode(path):
            raise OSError(errno.EINVAL, "the name holds a NUL character", str(path))
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "the name cannot be encoded", str(path)) from None


def _is_about(error: OSError, path: Path) -> bool:
    """Whether an error names the path, a folder above it, or what is written for it."""
    if error.filename is None:
        return False
    named = Path(os.fsdecode(error.filename))
    if named in (path, *path.parents):
        return True
    target = Path(os.path.realpath(path))
    return named in (target, *target.parents) or any(part.startswith(_beginning(target)) for part in named.parts)


def _remedy(error: OSError, path: Path) -> str:
    if is_full(error):
        return "free some disk space or choose another folder"
    if error.errno in _DENIED:
        return f"allow writing in the folder {line(str(path.parent), 100)} or choose another one"
    return "choose a shorter name" if error.errno == errno.ENAMETOOLONG else "choose another folder or name"


def _temporary_name(path: Path) -> str:
    """A name that no other writer has, and which is not too long where the file's own is not."""
    import secrets

    return f"{_beginning(path)}{secrets.token_hex(4)}.part"


def _beginning(path: Path) -> str:
    """What the names of all temporary files for this one start with."""
    import hashlib  # 4 MB of OpenSSL, which whoever only predicts does without

    digest = hashlib.blake2b(path.name.encode(errors="surrogatepass"), digest_size=6).hexdigest()
    return f".{digest}."


def _suffix(path: Path) -> str:
    """Writers go by the suffix."""
    return path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
