"""Read and write videos with PyAV. Frames are uint8 RGB (3, H, W)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vovnet.files import replacing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


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

    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a video, but {str(path)!r} does not exist")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: it is damaged or no video ({error.strerror})") from None


def _decode(container: InputContainer, stream: VideoStream, path: str | Path) -> Iterator[VideoFrame]:
    import av

    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged after frame {count} ({error.strerror})") from None
    if count == 0:
        raise ValueError(f"{path} holds no frames")


def video_info(path: str | Path) -> VideoInfo:
    """Frame rate, size and length of a video. Raises FileNotFoundError, or ValueError for a file that is no video."""
    with _opened(path) as (container, stream):
        fps = stream.average_rate or stream.guessed_rate
        if not fps:
            raise ValueError(f"{path} states no frame rate")
        frame = next(_decode(container, stream, path))
        height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
        return VideoInfo(Fraction(fps), (height, width), stream.frames or None)


def read_frames(path: str | Path) -> Generator[Tensor, None, None]:
    """The frames of a video in order, uint8 RGB (3, H, W), after the rotation stated in the file.

    Raises FileNotFoundError, or ValueError for a file that is no video. Damage raises ValueError after the last good
    frame.
    """
    with _opened(path) as (container, stream):
        for frame in _decode(container, stream, path):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            upright = torch.rot90(pixels, frame.rotation // 90)  # both counterclockwise
            yield upright.permute(2, 0, 1).contiguous()


class VideoWriter:
    """Writes frames as H.264 (yuv420p). The file appears, or replaces an older one, when the block ends without error.

    path: its suffix chooses the container: .mp4, .mov, .mkv or .avi.
    fps: frames per second.

    All frames must have the size of the first. An odd height or width is padded by one pixel, as the format needs it.
    """

    def __init__(self, path: str | Path, fps: Fraction | float) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps).limit_denominator(1001)
        self.image_size: tuple[int, int] | None = None

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
                self._container, self._stream = container, container.add_stream("libx264", rate=self.fps)
                self._stream.pix_fmt = "yuv420p"
                yield
                if self.image_size is None:
                    raise ValueError(f"{self.path} got no frames: a video needs at least one")
                container.mux(self._stream.encode(None))

    def write(self, image: Tensor) -> None:
        """Append a frame, uint8 RGB (3, H, W)."""
        from av import VideoFrame

        height, width = image.shape[1:]
        if self.image_size is None:
            self.image_size = (height, width)
            self._stream.height, self._stream.width = height + height % 2, width + width % 2
        elif (height, width) != self.image_size:
            raise ValueError(f"frames of {self.path} have size {self.image_size} (height, width), got {height, width}")
        if height % 2 or width % 2:
            padding = (0, width % 2, 0, height % 2)
            image = F.pad(image[None].float(), padding, mode="replicate")[0].to(torch.uint8)
        frame = VideoFrame.from_ndarray(image.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
        self._container.mux(self._stream.encode(frame))
