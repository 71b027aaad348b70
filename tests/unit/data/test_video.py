from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vovnet.data.video import VideoInfo, VideoWriter, read_frames, video_info

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
