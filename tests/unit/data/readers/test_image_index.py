"""Images are found by names of which only the keys are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.dataset import OnProblem
from vovnet.data.readers.image_index import ImageIndex, Places, UploadFinder

ROOT = Path("/data")
PATHS = ["a/Night.jpg", "a/night.png", "b/night.jpg", "b/Été.png", "c/only.jpg", "d/0a1b2c3d-sent.jpg", "d/x.y.png"]


def index() -> ImageIndex:
    return ImageIndex(ROOT, [str(ROOT / path) for path in PATHS])


def relative(path: Path | None) -> str | None:
    return None if path is None else path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    ("folder", "stated", "found"),
    [
        ("a", "night.png", "a/night.png"),
        ("a", "NIGHT.PNG", "a/night.png"),
        ("b", "../a/Night.jpg", "a/Night.jpg"),
        ("b", "E\u0301te\u0301.PNG", "b/Été.png"),
        ("b", "only.jpg", None),
        ("a", "../../etc/passwd", None),
    ],
)
def test_a_path_in_a_folder(folder: str, stated: str, found: str | None) -> None:
    assert relative(index().at(ROOT / folder, stated)) == found


def test_names_and_stems_that_only_one_file_has() -> None:
    assert relative(index().named("ONLY.jpg")) == "c/only.jpg"
    assert index().named("night.jpg") is None, "two files are called so but for the case"
    assert relative(index().with_stem("x.y")) == "d/x.y.png"
    assert index().with_stem("night") is None
    assert index().with_stem("none") is None


def test_images_beside_a_file() -> None:
    assert [path.name for path in index().beside(ROOT / "a/night.json")] == ["night.png"]
    assert [path.name for path in index().beside(ROOT / "a/NIGHT.json")] == ["Night.jpg", "night.png"]
    assert index().beside(ROOT / "c/night.json") == []


def test_numbers_of_a_text_are_in_the_order_in_which_they_were_added() -> None:
    places = Places()
    for number, text in enumerate("banana"):
        places.add(text, number)
    assert [list(places.of(text)) for text in "abnx"] == [[1, 3, 5], [0], [2, 4], []]
    places.add("b", 9)
    assert list(places.of("b")) == [0, 9]


def problems(found: list[str]) -> OnProblem:
    return lambda kind, _, detail: found.append(f"{kind}: {detail}")


def test_an_upload_is_found_by_its_name_unless_the_file_names_several_so() -> None:
    finder, said = UploadFinder(ROOT, [str(ROOT / path) for path in PATHS]), list[str]()
    finder.start(ROOT / "tasks.json", "all", ["/upload/only.jpg", "sent.jpg", "/x/a.jpg", "/y/a.jpg", "/x/a.jpg"])
    assert relative(finder.find("/upload/only.jpg", problems(said))) == "c/only.jpg"
    assert relative(finder.find("sent.jpg", problems(said))) == "d/0a1b2c3d-sent.jpg"
    assert not said
    finder.start(ROOT / "tasks.json", "all", ["/x/only.jpg", "/y/only.jpg"])
    assert finder.find("/x/only.jpg", problems(said)) is None
    assert said == ["missing-image: names /x/only.jpg, and no image is called so"]
    finder.start(ROOT / "tasks.json", "all", ["/x/only.jpg", "/x/only.jpg"])
    assert relative(finder.find("/x/only.jpg", problems(said))) == "c/only.jpg", "it is one image that is named twice"
