"""Videos of strangers: they read nothing else, and take little memory and time."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from vovnet.data.video import VideoWriter, read_frames
from vovnet.limits import VARIABLE
from vovnet.media import video
from vovnet.media.video import video_info

av = pytest.importorskip("av")


def write(path: Path, width: int = 64, height: int = 48, count: int = 4, codec: str = "libx264", **title: str) -> Path:
    with av.open(str(path), "w") as container:
        container.metadata.update(title)
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            pixels = np.full((height, width, 3), 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def hls(address: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}\n#EXT-X-ENDLIST\n"


def dash(address: str) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1" width="64" height="48"><BaseURL>{address}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )


LISTS = {
    "concat": "ffconcat version 1.0\nfile {0}\n".format,
    "concat of itself": lambda _: "ffconcat version 1.0\n" + "file list.mp4\n" * 10,
    "hls": hls,
    "hls of lists": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{0}\n".format,
    "hls with a key": lambda address: hls("other.ts").replace(
        "#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{address}"\n#EXTINF'
    ),
    "dash": dash,
    "sdp": lambda _: (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 50004 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\n"
    ),
    "subtitle": lambda _: "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
    "vobsub": lambda _: "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n",
    "segments of images": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:{0}\n#EXT-X-ENDLIST\n".format,
}


@pytest.mark.parametrize("neighbour", ["other.mp4", "other.ts", "../up/other.mp4"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_does_not_show_its_neighbours(kind: str, neighbour: str, tmp_path: Path) -> None:
    folder = tmp_path / "up"
    folder.mkdir()
    for name in ("other.mp4", "other.ts"):
        write(folder / name)
    for suffix in (".mp4", ".mkv", ".avi"):
        (folder / f"list{suffix}").write_text(LISTS[kind](neighbour))
        with pytest.raises(ValueError, match=f"list{suffix} cannot be read as a video"):
            list(read_frames(folder / f"list{suffix}"))


@pytest.mark.parametrize("kind", ["concat", "hls", "hls of lists", "hls with a key", "dash"])
def test_a_list_reaches_no_server(kind: str, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    write(tmp_path / "other.ts")
    (tmp_path / "list.mp4").write_text(LISTS[kind](f"http://127.0.0.1:{server.server_port}/x.ts"))
    with pytest.raises(ValueError, match=r"list\.mp4 cannot be read as a video"):
        list(read_frames(tmp_path / "list.mp4"))
    server.shutdown()
    server.server_close()
    assert asked == []


@pytest.mark.parametrize("name", ["concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4", "file:a.mp4", "pipe:0.mp4"])
def test_a_file_named_like_a_protocol_is_that_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.mp4", count=2)
    write(tmp_path / "b.mp4", count=2)
    os.rename(write(tmp_path / "c.mp4", count=5), name)
    assert len(list(read_frames(name))) == 5


@pytest.mark.parametrize(
    "suffix", [".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".wmv", ".flv", ".3gp", ".mts", ".ts"]
)
def test_containers_that_are_promised_are_read(suffix: str, tmp_path: Path) -> None:
    codec = {".mpg": "mpeg2video", ".wmv": "wmv2", ".flv": "flv", ".m4v": "mpeg4", ".3gp": "mpeg4"}.get(
        suffix, "libx264"
    )
    assert len(list(read_frames(write(tmp_path / f"x{suffix}", codec=codec)))) == 4


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match=r"pipe\.mp4 is a folder, device or pipe"):
        list(read_frames(tmp_path / "pipe.mp4"))
    with pytest.raises(ValueError, match="is a folder, device or pipe"):
        video_info(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".mpg"])
def test_frames_that_are_too_large_are_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / f"x{suffix}", codec="mpeg2video" if suffix == ".mpg" else "libx264")
    monkeypatch.setenv(VARIABLE, f"image_pixels={6 * 64 * 48}")
    assert len(list(read_frames(path))) == 4
    monkeypatch.setenv(VARIABLE, f"image_pixels={6 * 64 * 48 - 1}")
    with pytest.raises(ValueError, match=f"x{suffix}") as caught:
        list(read_frames(path))
    assert "--limit image_pixels" in str(caught.value) or "damaged" in str(caught.value)


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_a_size_that_grows_in_the_middle_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    small = write(tmp_path / f"small{suffix}", count=20, codec=codec).read_bytes()
    large = write(tmp_path / f"large{suffix}", width=640, height=480, count=20, codec=codec).read_bytes()
    (tmp_path / f"x{suffix}").write_bytes(small + large)
    monkeypatch.setenv(VARIABLE, "image_pixels=100000")
    sizes = set()
    with pytest.raises(ValueError, match=f"x{suffix}"):
        for frame in read_frames(tmp_path / f"x{suffix}"):
            sizes.add(tuple(frame.shape))
    assert sizes <= {(3, 48, 64)}


@pytest.mark.parametrize("table", [b"stsz", b"trun"])
def test_samples_that_are_only_stated_are_refused(table: bytes, tmp_path: Path) -> None:
    data = write(tmp_path / "x.mp4").read_bytes()
    many = 1 << 24
    if table == b"stsz":
        at = data.index(table)
        data = data[: at + 8] + struct.pack(">II", 1, many) + data[at + 16 :]
    else:
        box = struct.pack(">I4sII", 16, table, 0, many)
        for parent in (b"traf", b"moof"):
            box = struct.pack(">I4s", 8 + len(box), parent) + box
        data += box
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.mp4 states 16,777,\d+ samples but has"):
        list(read_frames(tmp_path / "x.mp4"))


def test_titles_in_any_encoding_and_codecs_that_are_unknown(tmp_path: Path) -> None:
    data = write(tmp_path / "x.mp4", title="TITLE").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data.replace(b"TITLE", b"T\xff\xfeLE"))
    assert len(list(read_frames(tmp_path / "x.mp4"))) == 4
    (tmp_path / "x.mp4").write_bytes(data.replace(b"avc1", b"zzz9"))
    with pytest.raises(ValueError, match=r"x\.mp4 is coded in a way that is not known here"):
        list(read_frames(tmp_path / "x.mp4"))


def test_a_video_is_not_called_damaged_where_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4")

    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("vovnet.media.video._upright", fail)
    with pytest.raises(OSError, match=r"a\.mp4 needs more memory to decode"):
        next(read_frames(path))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_large_frames_are_written_within_memory(suffix: str, tmp_path: Path) -> None:
    program = (
        "import re, sys, torch; from vovnet.data.video import VideoWriter\n"
        "frame = torch.zeros(4000, 4000, 3, dtype=torch.uint8).permute(2, 0, 1)\n"
        "with VideoWriter(sys.argv[1], 25) as writer:\n"
        "    for _ in range(12): writer.write(frame)\n"
        # Its own peak: that of getrusage starts from what the process that started this one held.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / f"x{suffix}")]
    kilobytes = int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert kilobytes < 1_100_000
    assert video_info(tmp_path / f"x{suffix}").image_size == (4000, 4000)


def test_an_encoder_that_fails_at_the_end_names_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ValueError, match=r"x\.mp4 cannot hold frames of 16 × 16 pixels"),
        VideoWriter(tmp_path / "x.mp4", 25) as writer,
    ):
        writer.write(torch.zeros(3, 16, 16, dtype=torch.uint8))
        monkeypatch.setattr(writer, "_mux", _fail)
    assert not list(tmp_path.iterdir())


def _fail(packets: object) -> None:
    raise av.error.ExternalError(542398533, "Generic error in an external library")


@pytest.mark.parametrize(("version", "given"), [("14.0.0", True), ("18.1.0", True), ("19.0.2", False), ("20.0", False)])
def test_newer_versions_of_av_have_no_such_option(version: str, given: bool) -> None:
    assert bool(video._lenient(version)) == given
