from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vovnet.data.video import VideoWriter, read_frames, read_shown_frames
from vovnet.media.video import VideoInfo, _place, video_info

NTSC = Fraction(30000, 1001)


def frame(index: int, height: int = 48, width: int = 64) -> Tensor:
    """Grey that grows with the index, its left half dark, so that order and orientation show."""
    image = torch.full((3, height, width), 60 + 15 * index, dtype=torch.uint8)
    image[:, :, : width // 2] = 20
    return image


def write(path: Path, count: int = 9, **size: int) -> Path:
    with VideoWriter(path, NTSC) as writer:
        for index in range(count):
            writer.write(frame(index, **size))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"clip{suffix}")
    info = video_info(path)
    assert (info.fps, info.image_size) == (NTSC, (48, 64))
    assert info.frame_count == (None if suffix == ".mkv" else 9)
    frames = list(read_frames(path))
    assert len(frames) == 9
    for index, image in enumerate(frames):
        assert image.dtype == torch.uint8
        assert image.shape == (3, 48, 64)
        assert image.is_contiguous()
        assert (image.int() - frame(index).int()).abs().float().mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == [f"clip{suffix}"]


def test_odd_sizes_are_padded_to_even(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.mp4", count=2, height=33, width=47)
    assert video_info(path).image_size == (34, 48)
    first = next(read_frames(path))
    assert first[:, -1, -1].float().mean() == pytest.approx(60, abs=6)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_videos_come_upright(tmp_path: Path, degrees: int) -> None:
    import av

    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        # ISO 14496-12's matrix a b u c d v x y w for a clockwise turn, as a telephone writes it.
        a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
        stored = frame(5).permute(1, 2, 0).contiguous().numpy()
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    shown = next(read_frames(path))
    expected = torch.rot90(frame(5), -degrees // 90, (1, 2))
    assert shown.shape == expected.shape
    assert (shown.int() - expected.int()).abs().float().mean() < 4
    assert video_info(path) == VideoInfo(Fraction(10), tuple(expected.shape[1:]), 1)


def test_a_failed_writing_keeps_the_older_file(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=2)
    before = path.read_bytes()

    def write_frames(*frames: Tensor | None, to: Path = path) -> None:
        with VideoWriter(to, 10) as writer:
            for image in frames:
                if image is None:
                    raise RuntimeError("stop")
                writer.write(image)

    with pytest.raises(RuntimeError, match="stop"):
        write_frames(frame(0), None)
    with pytest.raises(ValueError, match="got no frames"):
        write_frames()
    with pytest.raises(ValueError, match=r"have size \(48, 64\)"):
        write_frames(frame(0), frame(0, height=50))
    with pytest.raises(ValueError, match=r"must end in \.mp4"):
        write_frames(frame(0), to=tmp_path / "clip.xyz")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4' does not exist"):
        video_info(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("no video " * 50)
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        next(read_frames(tmp_path / "text.mp4"))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 cannot be read as a video"):
        video_info(tmp_path / "empty.mp4")


def test_damage_in_the_middle_comes_after_the_frames_before_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    generator = torch.Generator().manual_seed(0)
    with VideoWriter(path, 10) as writer:
        for _ in range(60):
            writer.write(torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=generator))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    good = 0

    def read() -> None:
        nonlocal good
        for _ in read_frames(path):
            good += 1

    with pytest.raises(ValueError, match=r"clip\.mp4 is damaged after frame \d+"):
        read()
    assert 5 <= good < 60


# Times of frames ------------------------------------------------------------------------------------------------------


def write_timed(path: Path, times_s: list[float], *, unit: Fraction = Fraction(1, 90_000), **options: str) -> Path:
    """A video by PyAV alone, whose frames are shown at these times."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = unit
        for index, time_s in enumerate(times_s):
            image = av.VideoFrame.from_ndarray(frame(index % 12).permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            image.pts, image.time_base = round(Fraction(time_s) / unit), unit
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def stated_times(path: Path) -> list[float]:
    import av

    with av.open(str(path)) as container:
        return [float(image.pts * image.time_base) for image in container.decode(video=0)]


def copy(source: Path, target: Path) -> Path:
    with VideoWriter(target, video_info(source).fps) as writer:
        for shown in read_shown_frames(source):
            writer.write(*shown)
    return target


STEADY = [index / 30 for index in range(20)]
UNEVEN = [*(0.1 * index for index in range(10)), *map(float, range(1, 11))]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("times_s", "unit", "options"),
    [
        (UNEVEN, Fraction(1, 90_000), {}),  # with B-frames, as libx264 makes them
        (UNEVEN, Fraction(1, 1000), {"bf": "0"}),
        ([0.5 + time_s for time_s in UNEVEN], Fraction(1, 12_800), {}),  # does not start at 0
        ([1001 * index / 24_000 for index in range(30)], Fraction(1001, 24_000), {}),
        ([0.0, 0.0004, 0.5, 0.5001, 5.0, 60.0, 60.0111], Fraction(1, 90_000), {"bf": "0"}),
        (STEADY, Fraction(1, 30), {}),
    ],
)
def test_each_frame_is_written_at_its_own_time(
    tmp_path: Path, suffix: str, times_s: list[float], unit: Fraction, options: dict[str, str]
) -> None:
    source = write_timed(tmp_path / "source.mp4", times_s, unit=unit, **options)
    written = copy(source, tmp_path / f"copy{suffix}")
    assert stated_times(written) == pytest.approx(times_s, abs=0.002)
    for index, image in enumerate(read_frames(written)):
        assert (image.int() - frame(index % 12).int()).abs().float().mean() < 4


def test_the_last_frame_is_shown_as_long_as_in_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    with VideoWriter(source, 10) as writer:
        for time_s, seconds in ((0.0, 0.1), (0.1, 0.1), (0.2, 3.0)):
            writer.write(frame(0), time_s, seconds)
    assert [shown.seconds for shown in read_shown_frames(source)] == pytest.approx([0.1, 0.1, 3.0], abs=1e-3)
    for suffix in (".mp4", ".mkv"):
        copied = list(read_shown_frames(copy(source, tmp_path / f"copy{suffix}")))
        assert copied[-1].seconds == pytest.approx(3.0, abs=2e-3)
    uneven = write_timed(tmp_path / "uneven.mp4", UNEVEN)  # of which the muxer says that it ends before its last frame
    assert 0 < list(read_shown_frames(uneven))[-1].seconds <= 1


def test_avi_has_slots_and_no_times(tmp_path: Path) -> None:
    """With B-frames, what looks like times is in the order of decoding."""
    source = write_timed(tmp_path / "source.avi", [index / 10 for index in range(20)], unit=Fraction(1, 10))
    assert stated_times(source) != sorted(stated_times(source))
    expected = [index / 10 for index in range(20)]
    assert [shown.start_s for shown in read_shown_frames(source)] == pytest.approx(expected)
    assert stated_times(copy(source, tmp_path / "copy.mp4")) == pytest.approx(expected)
    again = list(read_shown_frames(copy(source, tmp_path / "copy.avi")))
    assert [shown.start_s for shown in again] == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"copy\.avi cannot show frames at uneven times"):
        copy(write_timed(tmp_path / "uneven.mp4", UNEVEN), tmp_path / "copy.avi")


@pytest.mark.parametrize(
    ("stated_s", "placed_s"),
    [
        ([0.0, 0.1, None, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.1, 0.2], [0.0, 0.1, 0.101, 0.2]),
        ([0.0, 0.1, 0.05, 0.2], [0.0, 0.1, 0.101, 0.2]),
        ([5.0, 5.1, 0.0, 0.1], [5.0, 5.1, 5.2, 5.3]),  # two files that were joined
        ([0.0, 0.1, 1.7e9, 1.7e9 + 1], [0.0, 0.1, 0.2, 1.2]),  # a clock that was set
        ([-0.2, -0.1, 0.0], [0.0, 0.1, 0.2]),
        ([2.0**62, 2.0**62], [0.0, 0.001]),
    ],
)
def test_times_that_are_missing_repeat_or_go_back(stated_s: list[float | None], placed_s: list[float]) -> None:
    placed, last_s, shift_s = [], None, 0.0
    for time_s in stated_s:
        last_s, shift_s = _place(time_s, last_s, shift_s, 0.1)
        placed.append(last_s)
    assert placed == pytest.approx(placed_s, abs=1e-4)


def test_of_several_streams_the_first_is_read_by_its_own_times(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=rate, options={"bf": "0"}) for rate in (5, 10)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stream, start in zip(streams, (2, 0), strict=True):
            for index in range(4):
                grey = frame(index + start).permute(1, 2, 0).contiguous().numpy()
                image = av.VideoFrame.from_ndarray(grey, format="rgb24")
                image.pts, image.time_base = index + start, 1 / stream.codec_context.framerate
                container.mux(stream.encode(image))
            container.mux(stream.encode(None))
    shown = list(read_shown_frames(path))
    assert [image.start_s for image in shown] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert (shown[0].pixels.int() - frame(2).int()).abs().float().mean() < 4
