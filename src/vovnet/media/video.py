"""Read and write videos with PyAV. Frames are uint8 RGB (H, W, 3)."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vovnet.errors import is_out_of_memory, nearest_beside
from vovnet.files import replacing
from vovnet.limits import check_limit, limits
from vovnet.media.mp4_samples import check_samples
from vovnet.media.pixels import Pixels
from vovnet.printing import line

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

TICKS_PER_S = 90_000  # of a written file, at least
SHORTEST_S = 0.001  # between two frames: the unit of .mkv
_LARGE_FRAME = 4096 * 2304  # pixels, above which the encoder's usual look ahead, of 40 frames, takes gigabytes
LARGEST_GAP_S = 3600.0  # a larger one is a clock that was set: the containers cannot hold it

# Containers that hold their streams themselves. Others are lists of files and addresses that are read in turn.
_CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg"
_PIXELS_COUNT = 6  # times: the decoder and the encoder keep frames to which others refer


class ShownPixels(NamedTuple):
    """A frame of a video, uint8 RGB (H, W, 3), and when it is shown: from `start_s`, at most for `seconds`."""

    pixels: Pixels
    start_s: float
    seconds: float


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    fps: mean frames per second.
    image_size: (height, width) as displayed, after the rotation stated in the file.
    frame_count: None if the container does not state it (mkv, webm).
    """

    fps: Fraction
    image_size: tuple[int, int]
    frame_count: int | None


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    if not Path(path).exists():
        raise FileNotFoundError(f"expected a video, but {str(path)!r} does not exist{nearest_beside(Path(path))}")
    if not Path(path).is_file():
        raise ValueError(f"{path} is a folder, device or pipe, expected a video file")
    check_samples(path)
    pixels = limits().image_pixels // _PIXELS_COUNT
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, "max_pixels": str(pixels)}
    try:
        # A name such as "concat:a.mp4" is a protocol unless a folder stands before it.
        with av.open(os.path.abspath(path), options=options, **_lenient(av.__version__)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError(f"{path} is coded in a way that is not known here: convert it to H.264")
            _check_size(stream.width, stream.height, path)
            stream.codec_context.options = {"max_pixels": options["max_pixels"]}  # for frames larger than stated
            yield container, stream
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as a video: it is damaged, no video, or a list of other files "
            f"({line(error.strerror or str(error), 100)})"
        ) from None
    except Exception as error:  # of the library, for what it did not expect
        if is_out_of_memory(error):
            raise OSError(f"{path} needs more memory to decode than there is: free some or scale it down") from error
        if isinstance(error, ValueError | OSError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read as a video ({line(str(error), 100)})") from error


def _lenient(version: str) -> dict[str, Any]:
    """What makes `av.open` take a title in any encoding; from version 19 it does by itself."""
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}


def _check_size(width: int, height: int, path: str | Path) -> None:
    what = f"{path}, with frames of {width} × {height} pixels that count {_PIXELS_COUNT} times,"
    check_limit("image_pixels", _PIXELS_COUNT * width * height, what, "scale it down")
    check_limit("side_pixels", max(width, height), f"a side of {path}, with frames of {width} × {height} pixels,")


def _decode(
    container: InputContainer, stream: VideoStream, path: str | Path
) -> Iterator[tuple[VideoFrame, float | None]]:
    """The frames in the order they are shown, with the seconds that the file states for each."""
    import av

    # AVI has no times: its frames take up its slots in order. What is read as times is in the order of decoding.
    slots, in_slots = deque[int | None](), container.format.name == "avi"
    count = 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                slots.append(packet.dts)
            for frame in packet.decode():
                _check_size(frame.width, frame.height, path)
                slot = slots.popleft() if slots else None
                stated = slot if in_slots else frame.pts
                unit = stream.time_base or frame.time_base
                yield frame, None if stated is None or not unit else float(stated * unit)
                count += 1
    except av.error.FFmpegError as error:
        reason = line(error.strerror or str(error), 100)
        raise ValueError(f"{path} is damaged after frame {count} ({reason})") from None
    if count == 0:
        raise ValueError(f"{path} holds no frames")


def video_info(path: str | Path) -> VideoInfo:
    """Frame rate, size and length of a video. Raises FileNotFoundError, or ValueError for a file that is no video."""
    with _opened(path) as (container, stream):
        fps = stream.average_rate or stream.guessed_rate
        if not fps:
            raise ValueError(f"{path} states no frame rate")
        frame, _ = next(_decode(container, stream, path))
        height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
        return VideoInfo(Fraction(fps), (height, width), stream.frames or None)


def read_pixel_frames(path: str | Path) -> Generator[Pixels, None, None]:
    """The frames of a video in order, uint8 RGB (H, W, 3), after the rotation stated in the file.

    Raises FileNotFoundError, or ValueError for a file that is no video. Damage raises ValueError after the last good
    frame.
    """
    with closing(read_shown_pixels(path)) as frames:
        for pixels, _, _ in frames:
            yield pixels
            del pixels


def read_shown_pixels(path: str | Path) -> Generator[ShownPixels, None, None]:
    """The frames of `read_pixel_frames`, each with the time at which it is shown. Raises what that raises.

    The times are those that the file states, and rise. A frame without a time follows the one before at the mean rate,
    one with the same time SHORTEST_S later. Where the clock was set, or files were joined, the times go on.
    """
    with _opened(path) as (container, stream):
        frame_s = float(1 / (stream.average_rate or stream.guessed_rate or 25))
        unit, shift_s, count = stream.time_base or Fraction(0), 0.0, 0
        waiting: tuple[VideoFrame, float] | None = None
        try:
            for frame, stated_s in _decode(container, stream, path):
                count += 1
                start_s, shift_s = _place(stated_s, None if waiting is None else waiting[1], shift_s, frame_s)
                if waiting is not None:
                    yield ShownPixels(_upright(waiting[0]), waiting[1], start_s - waiting[1])
                waiting = frame, start_s
        except ValueError:
            if waiting is not None:
                yield ShownPixels(_upright(waiting[0]), waiting[1], frame_s)
            raise
        assert waiting is not None, "a video without frames is an error"
        frame, start_s = waiting
        seconds = float(frame.duration * unit)
        if stream.duration and stream.frames == count:  # nothing is missing; with B-frames the frame's own is another's
            end_s = float(((stream.start_time or 0) + stream.duration) * unit) + shift_s
            seconds = end_s - start_s if end_s > start_s else seconds
        yield ShownPixels(_upright(frame), start_s, seconds if 0 < seconds <= LARGEST_GAP_S else frame_s)


def _place(stated_s: float | None, last_s: float | None, shift_s: float, frame_s: float) -> tuple[float, float]:
    """When a frame is shown, given what the file states and when the last one was; and the shift of all that follow."""
    if last_s is None:
        first_s = stated_s or 0.0
        return (first_s, 0.0) if 0 <= first_s <= LARGEST_GAP_S else (0.0, -first_s)
    if stated_s is None:
        return last_s + frame_s, shift_s
    start_s = stated_s + shift_s
    if not last_s - frame_s <= start_s <= last_s + LARGEST_GAP_S:
        return last_s + frame_s, shift_s + last_s + frame_s - start_s
    return max(start_s, last_s + SHORTEST_S), shift_s


def _upright(frame: VideoFrame) -> Pixels:
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both counterclockwise


class VideoWriter:
    """Writes frames as H.264 (yuv420p). The file appears, or replaces an older one, when the block ends without error.

    path: its suffix chooses the container: .mp4, .mov, .mkv or .avi.
    fps: frames per second, of frames that are written without a time; else their mean.

    All frames must have the size of the first. An odd height or width is padded by one pixel, as the format needs it.
    """

    def __init__(self, path: str | Path, fps: Fraction | float) -> None:
        self.path = Path(path)
        self.fps = min(max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001)), Fraction(TICKS_PER_S))
        self.image_size: tuple[int, int] | None = None
        # Whole ticks in a frame of constant rate. AVI has a slot for each frame instead.
        self._fixed = self.path.suffix.lower() == ".avi"
        steps = max(1, math.ceil(TICKS_PER_S / self.fps.numerator))
        self._unit = 1 / self.fps if self._fixed else Fraction(1, self.fps.numerator * steps)
        self._last, self._next = -1, 0  # in units, as is:
        self._durations: dict[int, int] = {}

    def __enter__(self) -> VideoWriter:
        self._file = self._open()
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    @contextmanager
    def _open(self) -> Iterator[None]:
        import av

        with replacing(self.path) as temporary:
            try:
                container = av.open(str(temporary), "w")
            except ValueError:
                raise ValueError(f"{self.path} must end in .mp4, .mov, .mkv or .avi") from None
            with container:
                # Without B-frames: their order is another than that of time, which some containers cannot express.
                self._stream = container.add_stream("libx264", rate=self.fps, options={"bf": "0"})
                self._container = container
                self._stream.pix_fmt = "yuv420p"
                self._stream.time_base = self._stream.codec_context.time_base = self._unit
                yield
                if self.image_size is None:
                    raise ValueError(f"{self.path} got no frames: a video needs at least one")
                self._encode(None)

    def write_pixels(self, pixels: Pixels, start_s: float | None = None, seconds: float | None = None) -> None:
        """Append a frame, uint8 RGB (H, W, 3).

        start_s, seconds: as in `ShownPixels`; None is at once after the frame before, and for 1 / fps.
        """
        from av import VideoFrame

        height, width = pixels.shape[:2]
        if self.image_size is None:
            self.image_size = (height, width)
            self._stream.height, self._stream.width = height + height % 2, width + width % 2
            if height * width > _LARGE_FRAME:
                self._stream.codec_context.options = {**self._stream.codec_context.options, "preset": "ultrafast"}
        elif (height, width) != self.image_size:
            raise ValueError(f"frames of {self.path} have size {self.image_size} (height, width), got {height, width}")
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._last = frame.pts = self._time(start_s)
        frame.time_base = self._unit
        duration = 1 / self.fps if seconds is None else Fraction(seconds)
        self._durations[frame.pts] = max(1, round(duration / self._unit))
        self._next = frame.pts + self._durations[frame.pts]
        self._encode(frame)

    def _encode(self, frame: VideoFrame | None) -> None:
        """Write what the encoder has made of the frames so far, or all that is left."""
        from av import FFmpegError

        try:
            self._mux(self._stream.encode(frame))
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            height, width = self.image_size or (0, 0)
            raise ValueError(
                f"{self.path} cannot hold frames of {height} × {width} pixels ({error.strerror}); H.264 takes at most "
                "16,384 in a row, and large frames take much memory"
            ) from error

    def _time(self, start_s: float | None) -> int:
        if start_s is None:
            return self._next
        time = max(round(start_s / self._unit), self._last + 1)
        if self._fixed and abs(time * self._unit - start_s) > self._unit:
            raise ValueError(
                f"{self.path} cannot show frames at uneven times: AVI has a fixed rate; choose .mp4, .mov or .mkv"
            )
        return time

    def _mux(self, packets: list[Packet]) -> None:
        """The encoder does not hand on how long a frame is shown, which matters for the last one."""
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)
