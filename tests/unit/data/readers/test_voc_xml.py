"""Annotation files in any encoding that they declare, none that is unsafe, and boxes in every shape."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset

from ..small_datasets import clean_and_check, write_image

BOX = "<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>50</xmax><ymax>30</ymax></bndbox>"


def make(root: Path, data: bytes) -> Path:
    write_image(root / "JPEGImages/a.png", 0)
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_bytes(data)
    return root


def document(name: str, declared: str | None, body: str = BOX, doctype: str = "") -> str:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    return f"{declaration}{doctype}<annotation><object><name>{name}</name>{body}</object></annotation>"


@pytest.mark.parametrize(
    ("name", "declared", "encoding"),
    [
        ("汽车", "gb2312", "gb2312"),
        ("汽车", "GBK", "gbk"),
        ("汽车", "gb18030", "gb18030"),
        ("鎔", "gb2312", "gbk"),  # outside the standard, in the code page that Windows writes under its name
        ("自動車", "Shift_JIS", "shift_jis"),
        ("①髙", "shift_jis", "cp932"),
        ("汽車", "big5", "big5"),
        ("자동차", "euc-kr", "euc-kr"),
        ("Möwe", "iso-8859-1", "latin-1"),
        ("Möwe", "windows-1252", "cp1252"),
        ("Möwe", None, "utf-8"),
        ("Möwe", "UTF8", "utf-8"),
        ("Möwe", "utf-8", "utf-8-sig"),
        ("Möwe", None, "utf-16"),
        ("Möwe", "utf-16", "utf-16"),
        ("Möwe", "utf-16", "utf-16-le"),
        ("Möwe", None, "utf-16-be"),
        ("Möwe", None, "utf-32"),
        ("Möwe", "utf-8", "utf-16"),  # the byte order mark is right
    ],
)
def test_encodings(tmp_path: Path, name: str, declared: str | None, encoding: str) -> None:
    root = make(tmp_path / "d", document(name, declared, BOX + "<difficult>1</difficult>").encode(encoding))
    data = open_dataset(root)
    assert data.class_names == (name,)
    assert data[0].target.boxes.tolist() == [[10, 10, 50, 30]]
    assert data[0].target.difficult.tolist() == [True]
    (root / "Annotations/a.xml").write_bytes(document(name, declared, BOX.replace("50", "70")).encode(encoding))
    clean_and_check(root, tmp_path / "out")
    copy = open_dataset(tmp_path / "out")
    assert (copy.class_names, copy[0].target.boxes.tolist()) == ((name,), [[10, 10, 60, 30]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (document("汽车", "utf-8").encode("gbk"), "is not utf-8 text, although it declares that"),
        (document("汽车", None).encode("gbk"), "is not utf-8 text, although it declares no other"),
        (document("Möwe", "us-ascii").encode("latin-1"), "is not us-ascii text"),
        (document("x", "utf-16").encode("utf-8"), "encoding 'utf-16'|is not utf-16 text"),
        (document("x", "klingon").encode(), "declares the encoding 'klingon', which is not known"),
        *(
            (document("x", codec).encode(), f"declares the encoding '{codec}', which is not known")
            for codec in (
                "rot13",
                "zip",
                "base64",
                "bz2",
                "hex",
                "idna",
                "punycode",
                "unicode_escape",
                "utf-7",
                "undefined",
            )
        ),
        (document("&#0;", None).encode(), "not well-formed"),
        (b"\xff\xfe\x00", "is not utf-16 text, although its byte order mark says so"),
        (b"\0" * 50, "not well-formed"),
        (b"<annotation>" + b" " * 10_000_000, "more than 10,000,000 bytes"),
        (b"<annotation>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotation>", "nests elements"),
    ],
    ids=lambda value: value[-30:] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_one_problem_of_its_file(tmp_path: Path, data: bytes, message: str) -> None:
    root = make(tmp_path, data)
    write_image(root / "JPEGImages/b.png", 1)
    (root / "Annotations/b.xml").write_text(document("x", None))
    with pytest.raises(ValueError, match=rf"a\.xml: .*({message})"):
        open_dataset(root)
    report = check_dataset(root, workers=1)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("bad-annotation", "Annotations/a.xml")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "gbk", "shift_jis", "cp037"])
@pytest.mark.parametrize(
    "doctype", ['<!DOCTYPE a [<!ENTITY x "y">]>', '<!DOCTYPE a SYSTEM "http://example.org/a.dtd">', "<!ENTITY x 'y'>"]
)
def test_entities_are_refused_in_every_encoding(tmp_path: Path, encoding: str, doctype: str) -> None:
    root = make(tmp_path, document("&x;", encoding, doctype=doctype).encode(encoding))
    with pytest.raises(ValueError, match=r"a\.xml: .*(document type or entities|is not utf-8 text)"):
        open_dataset(root)


@pytest.mark.parametrize("make_unreadable", [lambda path: path.mkdir(), lambda path: path.symlink_to("/absent")])
def test_a_file_that_is_none(tmp_path: Path, make_unreadable: object) -> None:
    root = make(tmp_path, document("x", None).encode())
    write_image(root / "JPEGImages/b.png", 1)
    make_unreadable(root / "Annotations/b.xml")  # type: ignore[operator]
    report = check_dataset(root, workers=1)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("bad-annotation", "Annotations/b.xml")]
    assert (report.statistics.splits[0].images, len(report.clean[0].images)) == (2, 1)


def points(**values: float) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in values.items())


POLYGON = f"<polygon>{points(x1=10.5, y1=12, x2=40, y2=5, x3=30, y3=25.25)}</polygon>"
TURNED = f"<type>robndbox</type><robndbox>{points(cx=30, cy=20, w=20, h=10, angle=math.pi / 2)}</robndbox>"


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (POLYGON, [10.5, 5, 40, 25.25]),
        (
            f"<polygon>{''.join(f'<pt>{points(x=x, y=y)}</pt>' for x, y in ((10, 12), (40, 5), (30, 25)))}</polygon>",
            [10, 5, 40, 25],
        ),
        (TURNED, [25, 10, 35, 30]),
        (TURNED.replace(str(math.pi / 2), "0"), [20, 15, 40, 25]),
        (TURNED.replace(str(math.pi / 2), str(math.pi / 4)), [30 - 10.6066, 20 - 10.6066, 30 + 10.6066, 20 + 10.6066]),
        (POLYGON + BOX, [10, 10, 50, 30]),
        (BOX + TURNED, [10, 10, 50, 30]),
        (BOX.replace("11", "11.5"), [10.5, 10.5, 50, 30]),
    ],
)
def test_shapes(tmp_path: Path, shape: str, box: list[float]) -> None:
    root = make(tmp_path, document("x", None, shape).encode())
    assert open_dataset(root)[0].target.boxes[0].tolist() == pytest.approx(box, abs=1e-3)
    assert check_dataset(root, workers=1).problems == ()


def test_the_box_of_a_polygon_is_clipped_in_the_copy(tmp_path: Path) -> None:
    root = make(tmp_path / "d", document("x", None, POLYGON.replace("40", "70")).encode())
    assert check_dataset(root, workers=1).count_by_kind() == {"box-partly-outside": 1}
    clean_and_check(root, tmp_path / "out")
    assert open_dataset(tmp_path / "out")[0].target.boxes.tolist() == [[10.5, 5, 60, 25.25]]
    assert "<polygon>" in (tmp_path / "out/Annotations/a.xml").read_text()


@pytest.mark.parametrize(
    ("shape", "stated"),
    [
        (BOX.replace("50", "fifty"), "bndbox: xmin 11, ymin 11, xmax fifty, ymax 30"),
        (BOX.replace("50", "12,5"), "xmax 12,5"),
        (BOX.replace("<xmax>50</xmax>", ""), "xmax (missing)"),
        (BOX.replace("50", ""), "xmax (empty)"),
        (BOX.replace("50", "1e999"), "xmax 1e999"),
        (TURNED.replace(str(math.pi / 2), "steep"), "robndbox: cx 30, cy 20, w 20, h 10, angle steep"),
        (POLYGON.replace("12", "?"), "polygon: x1 10.5, y1 ?"),
        ("<polygon></polygon>", "polygon: empty"),
        (f"<polygon>{points(x1=1, y1=2)}</polygon>", "polygon: x1 1, y1 2"),
        ("", "there is no <bndbox>"),
    ],
)
def test_a_box_that_is_no_number_is_quoted(tmp_path: Path, shape: str, stated: str) -> None:
    body = f"{shape}</object><object><name>x</name>{BOX}"
    (problem,) = check_dataset(make(tmp_path, document("x", None, body).encode()), workers=1).problems
    assert problem.kind == "not-a-number"
    assert stated in problem.detail
    assert "nan" not in problem.detail


@pytest.mark.parametrize("shape", [POLYGON, TURNED])
@pytest.mark.parametrize(
    ("box", "stated"),
    [
        (BOX.replace("50", "fifty"), "bndbox: xmin 11, ymin 11, xmax fifty, ymax 30"),
        (BOX.replace("<xmax>50</xmax>", ""), "xmax (missing)"),
        (BOX.replace("50", "5"), "bndbox: xmin 11, ymin 11, xmax 5, ymax 30"),
        (BOX.replace("50", "10"), "xmax 10"),
        ("<bndbox/>", "xmin (missing)"),
    ],
)
def test_another_shape_stands_in_for_a_bad_box(tmp_path: Path, shape: str, box: str, stated: str) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "both").mkdir()
    alone = make(tmp_path / "alone", document("x", None, shape).encode())
    both = make(tmp_path / "both", document("x", None, box + shape).encode())
    expected = open_dataset(alone)[0].target.boxes.tolist()
    assert open_dataset(both)[0].target.boxes.tolist() == expected
    report = check_dataset(both, workers=1)
    assert [problem.kind for problem in report.problems] == ["bad-bndbox"]
    assert stated in report.problems[0].detail
    write_cleaned_copy(report, tmp_path / "out")
    assert check_dataset(tmp_path / "out", workers=1).problems == ()
    assert open_dataset(tmp_path / "out")[0].target.boxes.tolist() == [pytest.approx(expected[0], abs=1e-3)]


@pytest.mark.parametrize(
    ("difficult", "expected"),
    [("<difficult>1</difficult>", True), ("<difficult> 1 </difficult>", True), ("<difficult>0</difficult>", False),
     ("<difficult>Unspecified</difficult>", False), ("<difficult/>", False), ("", False)],
)  # fmt: skip
def test_difficult(tmp_path: Path, difficult: str, expected: bool) -> None:
    root = make(tmp_path, document("x", None, BOX + difficult).encode())
    assert open_dataset(root)[0].target.difficult.tolist() == [expected]
    assert check_dataset(root, workers=1).problems == ()
