import csv
import errno
import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet.data.video import VideoWriter
from vovnet.files import (
    append_text,
    csv_line,
    file_name,
    image_content,
    is_full,
    json_text,
    new_folder,
    replacing,
    write_bytes,
    write_files,
    write_image,
    write_json,
    write_text,
)
from vovnet.report.plotting import make_figure, save_figure
from vovnet.weights.file import save_checkpoint, write_safetensors

from .small_disk import small_disk

NOISE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_the_new_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_and_other_errors_pass(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match="could not write .*a.txt .*No space left"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match=r"^expected an image$"), replacing(path):
        raise FileNotFoundError("expected an image")
    with pytest.raises(FileNotFoundError, match="other.jpg"), replacing(path):
        open(tmp_path / "other.jpg")
    with pytest.raises(OSError, match="could not write"), replacing(tmp_path / "a.txt" / "b"):
        pass


@pytest.mark.parametrize("name", ["a" * 251 + ".csv", "é" * 120 + ".json", "x" + ".y" * 127, "a." + "s" * 253])
def test_a_name_of_the_greatest_length_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_too_long_is_an_error_with_the_name(tmp_path):
    with pytest.raises(OSError, match=r"could not write .*aaa \(File name too long\); choose a shorter name"):
        write_text(tmp_path / ("a" * 256), "new")


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_json(tmp_path / "pipe", [1], indent=None)
    reader.join(10)
    assert received == ["[1]\n"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("device", ["/dev/null", "link to /dev/null"])
def test_a_device_stays_one(tmp_path, device):
    path = Path(device)
    if device.startswith("link"):
        path = tmp_path / "link"
        path.symlink_to("/dev/null")
    write_text(path, "x")
    assert Path("/dev/null").is_char_device()
    assert path.is_char_device()
    assert os.listdir(tmp_path) == ([] if device == "/dev/null" else ["link"])


def test_a_full_device_is_an_error():
    with pytest.raises(OSError, match=r"could not write /dev/full \(No space left on device\)"):
        write_text("/dev/full", "x")
    assert Path("/dev/full").is_char_device()


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "link").symlink_to("real/a.txt")
    (tmp_path / "dangling").symlink_to("real/b.txt")
    write_text(tmp_path / "link", "new")
    write_text(tmp_path / "dangling", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert {path.name: path.read_text() for path in (tmp_path / "real").iterdir()} == {"a.txt": "new", "b.txt": "new"}


def test_an_open_file_gets_the_text_at_its_end(tmp_path):
    with (tmp_path / "a.txt").open("w") as file:
        file.write("said\n")
        file.flush()
        write_text(f"/proc/self/fd/{file.fileno()}", "json\n")
    assert (tmp_path / "a.txt").read_text() == "said\njson\n"


def test_what_utf8_lacks_is_escaped(tmp_path):
    write_text(tmp_path / "a.txt", "caf\udce9")
    assert (tmp_path / "a.txt").read_text() == "caf\\udce9"


def test_a_socket_is_never_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="could not write .*/s "):
            write_text(tmp_path / "s", "x")
    assert (tmp_path / "s").is_socket()


@pytest.mark.parametrize("kind", ["circle", "self", "folder", "link to folder"])
def test_what_no_file_can_replace_stays(tmp_path, kind):
    path = tmp_path / "a.txt"
    (tmp_path / "folder").mkdir()
    if kind == "folder":
        path = tmp_path / "folder"
    else:
        path.symlink_to({"circle": "b.txt", "self": "a.txt", "link to folder": "folder"}[kind])
        (tmp_path / "b.txt").symlink_to("a.txt")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match=r"could not write .*(Too many levels of symbolic links|Is a directory)"):
        write_text(path, "x")
    assert sorted(os.listdir(tmp_path)) == before
    assert path.is_symlink() == (kind != "folder")
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.parametrize("name", ["/dev/stdout", "//dev/stdout", "/dev/fd/1", "link", "out.txt"])
def test_the_file_that_stdout_goes_to_is_written_on(tmp_path, name):
    """What was printed before and after stays, whatever leads there."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from vovnet.files import write_json; print('a'); write_json({name!r}, [1], indent=None); print('b')"
    with (tmp_path / "out.txt").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out.txt").read_text() == "a\n[1]\nb\n"
    assert (tmp_path / "link").is_symlink()


def test_the_sentence_says_what_helps(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"could not write .*/file/a.txt \(.*/file is not a folder\); choose another"):
        write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(OSError, match=r"could not write .*/file/b/a.txt \(Not a directory\); choose another"):
        write_text(tmp_path / "file" / "b" / "a.txt", "x")
    for name in ("a\0b.txt", "a\ud800.txt"):
        with pytest.raises(OSError, match=r"could not write .*the name .*choose another folder or name"):
            write_text(tmp_path / name, "x")
    allow = pytest.raises(OSError, match=r"could not write .*allow writing in the folder .* or choose another one")
    with allow, replacing(tmp_path / "a.txt") as temporary:
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))


def video(path: Path) -> None:
    with VideoWriter(path, 25) as writer:
        for _ in range(3):
            writer.write(torch.from_numpy(NOISE).permute(2, 0, 1))


def plot(path: Path) -> None:
    figure = make_figure(3, 2)
    figure.subplots().imshow(NOISE)
    save_figure(figure, path)


WRITERS = {
    "a.jpg": lambda path: write_image(path, Image.fromarray(NOISE), quality=92),
    "a.png": lambda path: write_image(path, Image.fromarray(NOISE)),
    "a.webp": lambda path: write_image(path, Image.fromarray(NOISE)),
    "plot.png": plot,
    "plot.svg": plot,
    "a.mp4": video,
    "a.mkv": video,
    "a.json": lambda path: write_json(path, ["x" * 9000]),
    "a.bin": lambda path: write_bytes(path, b"x" * 9000),
    "a.safetensors": lambda path: write_safetensors(path, {"a": torch.zeros(5000)}, {}),
    "a.pt": lambda path: save_checkpoint(path, {"a": torch.zeros(5000)}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_mistakes_a_part_for_the_whole(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    size = path.stat().st_size
    path.write_text("old")
    for room in (1, size // 2, size - 1):
        full = pytest.raises(OSError, match=r"could not write .*free some disk space.*unharmed")
        with full as caught, small_disk(room):
            WRITERS[name](path)
        assert is_full(caught.value)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "log.jsonl"
    append_text(path, "first\n")
    with pytest.raises(OSError, match="could not write .*free some disk space"), small_disk(50):
        append_text(path, "x" * 100 + "\n")
    append_text(path, "second\n")
    assert path.read_text() == "first\nsecond\n"


def test_files_that_belong_together_are_replaced_together(tmp_path):
    files = {tmp_path / "a.txt": b"new", tmp_path / "sub" / "b.txt": b"x" * 9000}
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match=r"could not write .*b\.txt"), small_disk(5000):
        write_files(files)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert not list(tmp_path.rglob("*.part*"))
    write_files(files)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_an_image_is_the_same_as_pillow_writes_it(tmp_path, suffix):
    Image.fromarray(NOISE).save(tmp_path / f"a{suffix}", quality=92)
    path = tmp_path / f"b{suffix.upper()}"
    write_image(path, Image.fromarray(NOISE), quality=92)
    assert path.read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


def test_an_image_that_its_format_cannot_hold():
    with pytest.raises(ValueError, match="a.jpg cannot hold an image of 70000 × 1 pixels"):
        image_content("a.jpg", Image.new("L", (70_000, 1)))


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "sub" / "new") as temporary:
        (temporary / "a").mkdir()
        (temporary / "a" / "b.txt").write_text("x")
        assert not (tmp_path / "sub" / "new").exists()
    (tmp_path / "empty").mkdir()
    inode = (tmp_path / "empty").stat().st_ino
    (tmp_path / "link").symlink_to("empty")
    with new_folder(tmp_path / "link") as temporary:
        (temporary / "b.txt").write_text("x")
    assert (tmp_path / "empty").stat().st_ino == inode  # perhaps a disk is mounted there
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["empty", "empty/b.txt", "link", "sub", "sub/new", "sub/new/a", "sub/new/a/b.txt"]


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_left_of_a_folder_that_fails(tmp_path, is_there):
    path = tmp_path / "new"
    if is_there:
        path.mkdir()
    with pytest.raises(OSError, match=r"could not write .*/new .*free some disk space"), new_folder(path) as temporary:
        (temporary / "a.txt").write_text("x")
        with small_disk(10):
            (temporary / "b.txt").write_bytes(b"x" * 100)
    assert list(tmp_path.rglob("*")) == ([path] if is_there else [])


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("a" * 251, "a" * 251 + ".jpg"),
        ("trailing. ", "trailing. .jpg"),
        ("n\nl", "n\nl.jpg"),
        ("caf\udce9", "caf\udce9.jpg"),
        ("a/b\0c", "a_b_c.jpg"),
        ("a\ud800", "a\\ud800.jpg"),
    ],
)
def test_names_that_can_be_written_stay(tmp_path, stem, expected):
    assert file_name(stem, ".jpg") == expected
    (tmp_path / expected).touch()


@pytest.mark.parametrize("stem", ["a" * 252, "é" * 126, "😀" * 80, "9" * 5000, "\udce9" * 300])
def test_names_that_are_too_long_are_cut(tmp_path, stem):
    name = file_name(stem, ".jpg")
    assert 240 <= len(os.fsencode(name)) <= 255
    assert name.endswith(".jpg")
    (tmp_path / name).touch()
    assert file_name(stem + "b", ".jpg") != name


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ('a:b*c?"d<e>f|g\\h', "a_b_c__d_e_f_g_h.jpg"),
        ("n\nl", "n_l.jpg"),
        ("con", "_con.jpg"),
        ("LPT1.tar", "_LPT1.tar.jpg"),
        ("nul .x", "_nul .x.jpg"),
        ("console", "console.jpg"),
        ("caf\u00e9", "caf\u00e9.jpg"),
    ],
)
def test_names_that_windows_refuses_are_changed_there(monkeypatch, stem, expected):
    assert file_name(stem, ".jpg") == f"{stem}.jpg"
    monkeypatch.setattr("vovnet.files.sys", SimpleNamespace(platform="win32"))
    assert file_name(stem, ".jpg") == expected


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@x", " =x", "\t=x", "\rx", "\nx", "＝1", "－1"])
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(csv_line([text, "a", -1.5, None, 7]), newline=""))
    assert row == [f"'{text}", "a", "-1.5", "", "7"]


@pytest.mark.parametrize("text", ["a,b", 'a"b', "a\nb", "a\rb", "a\r\n", "caf\udce9", "😀", ""])
def test_a_line_of_csv_reads_back(text):
    line = csv_line([text, "x"], "\r\n")
    assert list(csv.reader(io.StringIO(line.encode().decode(), newline=""))) == [
        [text.replace("\udce9", "\\udce9"), "x"]
    ]


@pytest.mark.parametrize("text", ["caf\udce9", "\ud83d", "\ude00\ud83d", "\\\udce9", '"\udc80"'])
def test_json_holds_no_half_of_a_pair(text):
    written = json_text({text: [text, "😀", 1.5]}, indent=1)
    content = json.loads(written)
    json.dumps(content, ensure_ascii=False).encode()  # what a strict reader needs
    (key,) = content
    assert key.encode("ascii", "backslashreplace") == text.encode("ascii", "backslashreplace")
    assert content[key][1:] == ["😀", 1.5]
    assert json_text({"a": "é😀"}, indent=1) == json.dumps({"a": "é😀"}, indent=1)
