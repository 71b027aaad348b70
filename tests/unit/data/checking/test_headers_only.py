"""A check of headers alone finds what annotations and headers show, and says what it cannot find."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.cli.data import check
from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.checking.problem import DECODED_KINDS
from vovnet.errors import UsageError
from vovnet.media.image_opening import read_jpeg_start
from vovnet.media.pixels import read_header, read_pixels

from ....small_voc import BCCD
from ..small_datasets import append, cut_short, make_voc, make_yolo, same_pixels, unlink, voc_lines


def spoiled(root: Path) -> Path:
    make_voc(root)
    same_pixels("JPEGImages/a.png", "JPEGImages/b.png")(root)  # pixels alone show it
    cut_short("JPEGImages/c.png")(root)
    voc_lines("d", (1, 1, 90, 20))(root)
    voc_lines("e", (1, 1, 30, 20), size=(61, 40))(root)
    unlink("JPEGImages/f.png")(root)
    (root / "JPEGImages/g.png").write_bytes(b"no image")
    append("ImageSets/Main/val.txt", "a\n")(root)
    return root


def test_what_only_pixels_show_is_missing_and_the_rest_is_the_same(tmp_path: Path) -> None:
    root = spoiled(tmp_path / "data")
    decoded, headers = check_dataset(root, workers=1), check_dataset(root, workers=1, headers=True)
    missed = set(decoded.problems) - set(headers.problems)
    assert {problem.kind for problem in missed} <= DECODED_KINDS.keys()
    assert {(problem.kind, problem.image) for problem in missed} == {
        ("unreadable-image", "JPEGImages/c.png"),
        ("duplicate-image", "JPEGImages/b.png"),
    }
    assert {problem.kind for problem in headers.problems} == {
        "unreadable-image", "missing-image", "size-mismatch", "box-partly-outside", "split-leak"
    }  # fmt: skip
    assert (
        headers.statistics.boxes == decoded.statistics.boxes or headers.statistics.splits == decoded.statistics.splits
    )


def test_the_command_says_what_it_did_not_look_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_voc(tmp_path / "data")
    assert check(root, headers=True) == 0
    text = capsys.readouterr().out
    assert "no image was decoded" in text
    assert all(kind in text for kind in DECODED_KINDS)
    with pytest.raises(UsageError, match="check without --headers"):
        check(root, headers=True, fix=tmp_path / "out")
    with pytest.raises(UsageError, match="check without --headers"):
        write_cleaned_copy(check_dataset(root, headers=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_headers_are_read_from_the_start_of_a_jpeg(tmp_path: Path) -> None:
    path = next((BCCD / "JPEGImages").glob("*.jpg"))
    assert read_jpeg_start(path) is None  # a small file
    data = path.read_bytes()
    for name, content in {
        "long.jpg": data + bytes(100_000),
        "late.jpg": data[:2] + b"\xff\xfe\xea\x60" + bytes(59_998) + data[2:] + bytes(10),
    }.items():
        large = tmp_path / name
        large.write_bytes(content)
        assert read_jpeg_start(large) == content[: 2**15]
        assert read_header(large) == read_header(path)
        assert read_pixels(large).shape == read_pixels(path).shape
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8" + bytes(100_000))
    with pytest.raises(ValueError, match=r"damaged\.jpg "):
        read_header(damaged)


def test_a_header_that_the_reader_needed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_yolo(tmp_path)
    assert not check_dataset(root, headers=True).problems
    unread = root / "images/train/0.png"
    unread.write_bytes(b"no image")
    read: list[Path] = []

    def read_header(path: Path) -> object:
        read.append(path)
        raise ValueError(f"{path} is no image")

    monkeypatch.setattr("vovnet.data.checking.image_scan.read_header", read_header)
    assert check_dataset(root, headers=True).count_by_kind() == {"unreadable-image": 1}
    assert read == [unread]
