"""What the first word after `vovnet train` means."""

from pathlib import Path

import pytest

from vovnet.data.splits.split_file import write_members
from vovnet.errors import UsageError
from vovnet.planning.source import find_dataset
from vovnet.weights.detector import load_weights


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "voc_pelee304").mkdir()
    (tmp_path / "my.yaml").write_text("model: pelee304\ndata: {root: cells}\n")
    (tmp_path / "half.yaml").write_text("output: x\n")
    (tmp_path / "data.yaml").write_text("names: [a, b]\ntrain: images\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    write_members(tmp_path / "splits.json", tmp_path / "cells", {"train": ["a.jpg"]})
    return tmp_path


@pytest.mark.parametrize("source", ["cells", "data.yaml", "splits.json"])
def test_datasets(here, source):
    assert find_dataset(source, ["seed=1"]) == (Path(source), ("seed=1",))


@pytest.mark.parametrize(
    "source", ["my.yaml", "half.yaml", "broken.yaml", "missing.yaml", "voc_pelee304", "configs/voc_pelee304.yaml"]
)
def test_configs(here, source):
    """A folder that happens to have the name of a published config does not hide it."""
    assert find_dataset(source, ["data.root=cells"]) == (None, ("data.root=cells",))


def test_the_root_may_be_a_setting(here):
    assert find_dataset("data.root=cells", ["seed=1"]) == (Path("cells"), ("seed=1",))
    assert find_dataset(None, ["seed=1", "data.root=cells"]) == (Path("cells"), ("seed=1",))


def test_what_is_neither(here):
    with pytest.raises(FileNotFoundError, match=r"no config file photos, and no data folder of this name"):
        find_dataset("photos", [])
    with pytest.raises(FileNotFoundError, match=r"did you mean 'voc_pelee304'"):
        find_dataset("voc_pele304", [])
    Path("my/cells").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no data folder of this name, did you mean 'my/cells'\?"):
        find_dataset("my/cels", [])
    with pytest.raises(UsageError, match="name a config or a folder"):
        find_dataset(None, [])
    with pytest.raises(UsageError, match="both name a dataset"):
        find_dataset("cells", ["data.root=others"])


@pytest.mark.parametrize("name", ["photo.jpg", "clip.mp4"])
def test_an_image_is_neither_a_dataset_nor_weights(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\xff\xd8")
    with pytest.raises(UsageError, match=f"expected a folder of labelled images or a config, got .* {path}$"):
        find_dataset(str(path), ())
    with pytest.raises(UsageError, match=f"expected the weights of a detector, got the image or video {path}$"):
        load_weights(path)
