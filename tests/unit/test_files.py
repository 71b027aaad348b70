import errno

import pytest

from vovnet.files import replacing


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
