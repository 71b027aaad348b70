import errno
import os
import threading
from pathlib import Path

import pytest

from vovnet.files import replacing, write_json, write_text


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
