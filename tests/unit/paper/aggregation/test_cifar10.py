"""CIFAR-10 from npz files and from torchvision's; what augmentation does to each image."""

import hashlib
import io
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from vovnet.paper.aggregation.cifar10 import MEAN, STD, augment, normalize, read_cifar10


def write_npz(path, colours, classes, **changes):
    files = []
    for colour in colours:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=95)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    content = {
        "data": np.concatenate(files),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.array(classes),
    }
    np.savez(path, **(content | changes))


def test_npz_files_are_concatenated_in_order(tmp_path, caplog):
    write_npz(tmp_path / "train_1.npz", [(200, 0, 0), (0, 200, 0)], [3, 1])
    write_npz(tmp_path / "train_2.npz", [(0, 0, 200)], [9])
    write_npz(tmp_path / "test.npz", [(9, 9, 9)], [0])
    train, test = read_cifar10(tmp_path, "train"), read_cifar10(tmp_path, "test")
    assert (train.images.shape, train.images.dtype) == ((3, 3, 32, 32), torch.uint8)
    assert train.labels.tolist() == [3, 1, 9]
    assert train.images.float().mean(dim=(2, 3)).argmax(dim=1).tolist() == [0, 1, 2]
    assert len(test.labels) == 1
    assert (test.form, len(caplog.records)) == ("JPEG copies", 2)
    assert "test has 1 images, but CIFAR-10 has 10000" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([10])}, r"labels 0…9, got 10…10"),
        ({"labels": np.array([1, 2])}, "increasing offsets within it, and integer labels, one fewer than offsets"),
        ({"offsets": np.array([0, 10**9])}, "increasing offsets within it"),
        ({"offsets": np.array([0, 0])}, "increasing offsets within it"),
        ({"data": np.zeros(10_000, np.uint8)}, "holds an image that is not a JPEG"),
        ({"labels": np.array([3.7])}, "integer labels"),
        ({"data": np.array([object()], dtype=object)}, "is damaged or lacks data"),
    ],
)
def test_malformed_npz_files(tmp_path, changes, message):
    write_npz(tmp_path / "test.npz", [(9, 9, 9)], [0], **changes)
    with pytest.raises(ValueError, match=message):
        read_cifar10(tmp_path, "test")


def test_a_truncated_npz_file(tmp_path):
    write_npz(tmp_path / "test.npz", [(9, 9, 9)], [0])
    whole = (tmp_path / "test.npz").read_bytes()
    (tmp_path / "test.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"test.npz is damaged or lacks data, offsets or labels"):
        read_cifar10(tmp_path, "test")


def jpeg_of(width, height):
    """A small file that states this size."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "JPEG")
    size = struct.pack(">HH", 32, 32)
    return np.frombuffer(file.getvalue().replace(size, struct.pack(">HH", height, width), 1), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": jpeg_of(9_000, 9_000)}, r"must hold images of 32×32 pixels, got 9000×9000$"),
        ({"data": jpeg_of(32, 65_000)}, r"must hold images of 32×32 pixels, got 32×65000$"),
        ({"offsets": np.array([0.0, 600.0])}, "must hold uint8 data, increasing offsets"),
        ({"offsets": np.array(["a", "b"])}, r"is damaged or lacks data, offsets or labels \(holds no array of numbers"),
        ({"offsets": np.array([0]), "labels": np.array([], int)}, "increasing offsets"),
    ],
)
def test_files_that_state_what_they_do_not_have(tmp_path, changes, message):
    write_npz(tmp_path / "test.npz", [(9, 9, 9)], [0], **changes)
    if len(changes) == 1 and "data" in changes:
        write_npz(tmp_path / "test.npz", [(9, 9, 9)], [0], **changes, offsets=np.array([0, len(changes["data"])]))
    with pytest.raises(ValueError, match=message) as caught:
        read_cifar10(tmp_path, "test")
    assert "test.npz" in str(caught.value)


def test_an_npy_file_called_npz(tmp_path):
    with (tmp_path / "test.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"test.npz is damaged or lacks data, offsets or labels"):
        read_cifar10(tmp_path, "test")


def test_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no complete CIFAR-10.*set download=true"):
        read_cifar10(tmp_path, "train")


def test_files_of_torchvision(tmp_path, monkeypatch):
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    sums = {}
    for name, content in (
        ("test_batch", {"data": pixels, "labels": [4, 7]}),
        ("batches.meta", {"label_names": [str(n) for n in range(10)]}),
    ):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "train_list", [])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    test = read_cifar10(tmp_path, "test")
    assert torch.equal(test.images, torch.from_numpy(pixels.reshape(2, 3, 32, 32)))
    assert test.labels.tolist() == [4, 7]
    assert test.form == "original"


def test_normalized():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    expected = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)])
    torch.testing.assert_close(normalize(images)[0, :, 5, 7], expected)
    assert normalize(images).is_contiguous(memory_format=torch.channels_last)


def test_every_augmented_image_is_a_crop_of_the_padded_one_or_of_its_mirror():
    torch.manual_seed(0)
    images = torch.randn(40, 3, 32, 32)
    augmented = augment(images, torch.Generator().manual_seed(1))
    assert augmented.is_contiguous(memory_format=torch.channels_last)
    crops_seen = set()
    for image, result in zip(images, augmented, strict=True):
        padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
        crops = {(y, x): padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)}
        (match,) = [
            (*corner, mirrored)
            for corner, crop in crops.items()
            for mirrored in (False, True)
            if torch.equal(crop.flip(-1) if mirrored else crop, result)
        ]
        crops_seen.add(match)
    assert len(crops_seen) > 30
    assert {mirrored for _, _, mirrored in crops_seen} == {False, True}
    assert {y for y, _, _ in crops_seen} >= {0, 8}


def test_the_same_generator_gives_the_same_images():
    images = torch.randn(4, 3, 32, 32)
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
