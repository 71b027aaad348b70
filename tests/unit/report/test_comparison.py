"""One column for each detector, classes matched by name, and which images are shown under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vovnet.data.formats import open_dataset
from vovnet.engine.detector import Detector
from vovnet.errors import UsageError
from vovnet.masks import encode
from vovnet.media.drawing import class_colour
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Preprocessing
from vovnet.report.comparison import (
    LONG_SIDE,
    MOST_IMAGES,
    Annotator,
    Drawer,
    ImageSource,
    Tally,
    choose_images,
    detector_names,
    image_names,
    open_ground_truth,
)
from vovnet.structures import Detections, Target

from ..engine import masking
from .compared import comparison

GREY = torch.full((3, 480, 640), 120, dtype=torch.uint8)
LEFT, RIGHT = [100.0, 100.0, 200.0, 200.0], [400.0, 100.0, 500.0, 200.0]


class FixedModel(DetectionModel):
    """Finds the same boxes in every image."""

    masks = False
    preprocessing = Preprocessing((32, 32))

    def __init__(self, num_classes: int, *items: tuple[list[float], int, float]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.items = items

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"images": images}

    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float | Tensor = 0.05,
        top_k: int = 100,
    ) -> list[Detections]:
        lowest = torch.as_tensor(score_threshold).flatten().tolist()
        kept = [item for item in self.items if item[2] >= lowest[item[1] if len(lowest) > 1 else 0]][:top_k]
        boxes, labels, scores = ([item[column] for item in kept] for column in range(3))
        return [
            Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels).long(), torch.tensor(scores), size)
            for size in image_sizes
        ]


def detector(names: Sequence[str], *items: tuple[list[float], int, float]) -> Detector:
    return Detector(FixedModel(len(names), *items), names, range(len(names)))


def has(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=2).any())


CATS = detector(("cat", "dog"), (LEFT, 0, 0.9), (RIGHT, 0, 0.7), (RIGHT, 1, 0.4))


def test_one_image_for_each_detector_above_the_threshold() -> None:
    annotated = Drawer([CATS, detector(("cat", "dog"), (LEFT, 1, 0.8))]).draw(GREY)
    assert [image.tally for image in annotated] == [Tally(Counter(cat=2)), Tally(Counter(dog=1))]
    assert [image.image.size for image in annotated] == [(640, 480)] * 2
    assert len(Drawer([CATS], score_threshold=0.1).draw(GREY)[0].tally.classes) == 2
    assert Drawer([CATS], top_k=1).draw(GREY)[0].tally.total == 1


def test_a_class_has_one_colour_in_all_columns() -> None:
    swapped = detector(("dog", "horse", "cat"), (LEFT, 2, 0.9), (RIGHT, 1, 0.8))
    drawer = Drawer([CATS, swapped])
    assert drawer.class_names == ("cat", "dog", "horse")
    first, second = drawer.draw(GREY)
    assert second.tally.classes == {"cat": 1, "horse": 1}
    assert has(first.image, class_colour(0))
    assert has(second.image, class_colour(0))
    assert has(second.image, class_colour(2))
    assert not has(second.image, class_colour(1))


def test_ground_truth_is_the_first_column_and_mistakes_are_counted() -> None:
    swapped = detector(("dog", "cat"), (LEFT, 1, 0.9), (RIGHT, 0, 0.8))
    other = detector(("cat", "horse"), (LEFT, 0, 0.9))
    drawer = Drawer([CATS, swapped, other], ("cat", "dog"))
    target = Target.make([LEFT, RIGHT, [10, 300, 90, 400]], [0, 1, 0], difficult=[False, False, True])
    truth, *found = drawer.draw(GREY, target)
    assert truth.tally == Tally(Counter(cat=2, dog=1))
    assert has(truth.image, class_colour(0))
    assert has(truth.image, class_colour(1))
    assert found[0].tally == Tally(Counter(cat=2), missed=1, wrong=1)  # the dog is taken for a cat
    assert found[1].tally == Tally(Counter(cat=1, dog=1), missed=0, wrong=0)
    assert found[2].tally == Tally(Counter(cat=1))  # other classes: its mistakes are not known
    alone = Drawer([other]).draw(GREY)[0]
    assert np.array_equal(np.asarray(found[2].image), np.asarray(alone.image))


def test_an_image_without_objects_has_only_false_positives() -> None:
    truth, detected = Drawer([CATS], ("cat", "dog")).draw(GREY, Target.make())
    assert truth.tally == Tally(Counter())
    assert (detected.tally.missed, detected.tally.wrong) == (0, 2)
    with pytest.raises(ValueError, match="expected the objects of the image"):
        Drawer([CATS], ("cat", "dog")).draw(GREY)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((90, 120), (640, 480)), ((1200, 900), (480, 640)), ((500, 700), (640, 457)), ((1, 1500), (640, 1))],
)
def test_an_annotated_image_keeps_the_ratio_of_the_sides(size: tuple[int, int], shown: tuple[int, int]) -> None:
    image = torch.full((3, *size), 120, dtype=torch.uint8)
    drawn = Drawer([detector(("cat",))], ("cat",)).draw(image, Target.make())
    assert [annotated.image.size for annotated in drawn] == [shown] * 2


def test_small_images_are_drawn_large() -> None:
    image = torch.full((3, 24, 32), 120, dtype=torch.uint8)
    (annotated,) = Drawer([detector(("cat",), ([8.0, 12.0, 16.0, 20.0], 0, 0.9))]).draw(image)
    edges = (np.asarray(annotated.image) == class_colour(0)).all(axis=2)
    times = LONG_SIDE // 32
    assert edges[12 * times : 20 * times, 8 * times].all()  # the left edge, where the box is
    assert not edges[14 * times : 18 * times, 10 * times : 14 * times].any()
    assert edges.sum() < 0.06 * edges.size  # thin lines, not enlarged ones


def test_masks_of_a_small_image() -> None:
    size = (30, 40)
    boxes = masking.boxes_of(size)
    target = Target.make(boxes, masking.LABELS, masks=encode(masking.rectangles(size)))
    model = masking.EllipseModel().eval()
    drawer = Drawer([Detector(model, masking.NAMES, (1, 2))], masking.NAMES, score_threshold=0.0)
    truth, found = drawer.draw(torch.full((3, *size), 120, dtype=torch.uint8), target)
    assert (truth.tally.total, found.tally.total) == (3, 3)
    assert found.tally.missed == 0
    grey = (np.asarray(truth.image) == 120).all(axis=2)
    assert not grey[200:280, 80:240].any()  # the fill of the first object


def test_captions_and_totals() -> None:
    detector, truth = Annotator("bccd", "bccd"), Annotator("ground truth", None)
    assert detector.caption(Tally(Counter(RBC=1))) == "1 detection"
    assert detector.caption(Tally(Counter(), 2, 0)) == "0 detections, 2 missed, 0 wrong"
    assert truth.caption(Tally(Counter(RBC=2, WBC=1))) == "3 objects"
    totals = comparison().totals()
    assert totals[0] == Tally(Counter(RBC=4, WBC=1))
    assert totals[1] == Tally(Counter(RBC=5, WBC=1), 1, 2)
    content = comparison().to_dict()
    assert content["columns"][1]["found"] == 6
    assert content["pictures"][0]["columns"][1] == {"found": 4, "classes": {"RBC": 4}, "missed": 1, "wrong": 2}


# ---- which images


def test_images_of_a_dataset(small_voc: Path) -> None:
    data = open_dataset(small_voc, "train")
    assert [image.source for image in choose_images([], data)] == [str(sample.image_path) for sample in data][:4]
    assert len(choose_images([], data, 2)) == 2
    assert len(choose_images([], data, 9)) == 5
    last, first = data[4].image_path, data[0].image_path
    chosen = choose_images([last.stem, first.name, str(first)], data)
    assert [image.source for image in chosen] == [str(last), str(first), str(first)]
    assert torch.equal(chosen[0].target.boxes, data[4].target.boxes)
    with pytest.raises(UsageError, match=f"not an image of .*, split train, did you mean '{first.stem}"):
        choose_images([f"{first.stem}x"], data)


def test_images_of_files(tmp_path: Path) -> None:
    for index in range(MOST_IMAGES + 1):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{index:02}.png")
    assert [image.source for image in choose_images([str(tmp_path)], limit=2)] == [
        str(tmp_path / "00.png"), str(tmp_path / "01.png")
    ]  # fmt: skip
    with pytest.raises(UsageError, match="at most 50 images, got 51: set --limit"):
        choose_images([str(tmp_path)])
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(UsageError, match=r"clip.mp4 is a video"):
        choose_images([str(tmp_path)], limit=2)
    with pytest.raises(UsageError, match="say which images"):
        choose_images([])


def test_a_url_is_named_where_it_sends_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.download.download", lambda url: b"nonsense")
    with pytest.raises(ValueError, match=r"http://host/a.jpg did not send an image that can be read"):
        ImageSource("http://host/a.jpg").read()


def test_masks_are_read_where_there_are_any(small_voc: Path) -> None:
    data = open_ground_truth(small_voc, "train", masks=True)
    assert data[0].target.masks is None
    with pytest.raises(UsageError, match="no split"):
        open_ground_truth(small_voc, "tset", masks=True)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("runs/mine/best.safetensors", "runs/mine/last.pt", "cells.safetensors", "old/cells.safetensors"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert detector_names(["bccd", "runs/mine", "cells.safetensors"]) == ["bccd", "mine", "cells"]
    assert detector_names(["runs/mine/best.safetensors"]) == ["mine"]
    assert detector_names(["cells.safetensors", "old/cells.safetensors"]) == [
        "cells.safetensors", "old/cells.safetensors"
    ]  # fmt: skip
    assert detector_names(["bccd", "runs/mine"], ["a", "b"]) == ["a", "b"]
    assert image_names(["in/a.jpg", "in/b.jpg", "http://host/way/c.png?size=2"]) == ["a.jpg", "b.jpg", "c.png"]
    assert image_names(["in/a.jpg", "out/a.jpg"]) == ["in/a.jpg", "out/a.jpg"]


@pytest.mark.parametrize(
    ("weights", "names", "says"),
    [
        ([], None, "say which detectors"),
        (["bccd", "bccd"], None, "bccd is given twice: name each detector once"),
        (["cells", "cells/best.safetensors"], None, "cells/best.safetensors and cells are the same weights"),
        (["bccd", "cells"], ["a"], "got 1 names for 2 detectors"),
        (["bccd", "cells"], ["a", "a"], "got 'a' twice"),
    ],
)
def test_detectors_that_cannot_be_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: list[str], names: list[str] | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cells").mkdir()
    Path("cells/best.safetensors").touch()
    with pytest.raises(UsageError, match=says):
        detector_names(weights, names)
