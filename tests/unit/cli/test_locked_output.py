"""Commands that write several files keep a second run out of their folder until they have written all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet.cli.compare import compare
from vovnet.cli.evaluate import evaluate
from vovnet.cli.measure import measure
from vovnet.cli.predict import predict

from ..held_lock import held_elsewhere

IMAGE = str(Path(__file__).parents[3] / "samples/bccd/JPEGImages/BloodImage_00007.jpg")


@pytest.mark.parametrize(
    "command",
    [
        lambda output: compare("bccd", images=[IMAGE], output=output),
        lambda output: evaluate("bccd", Path(IMAGE).parents[1], split="test", output=output),
        lambda output: measure("vovnet27_slim", input_size=64, repetitions=1, memory=False, output=output),
        lambda output: predict(IMAGE, output=output),
    ],
    ids=["compare", "evaluate", "measure", "predict"],
)
def test_a_folder_of_another_run_is_refused(command: Callable[[Path], int], tmp_path: Path) -> None:
    with held_elsewhere(tmp_path), pytest.raises(OSError, match="is in use by .*choose another output folder"):
        command(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_opened_is_named_without_the_number_of_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    assert compare("bccd", images=[str(tmp_path)], output=tmp_path / "out") == 1
    assert f"vovnet: {tmp_path / 'a.jpg'}: No such file or directory\n" in capsys.readouterr().err
