from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vovnet.data import images
from vovnet.data.images import read_image, to_image_tensor
from vovnet.limits import VARIABLE
from vovnet.media.pixels import image_header_size, read_pixels

CELLS = sorted(Path("samples/bccd/JPEGImages").glob("*.jpg"))[0]
RAMP = np.linspace(0, 255, 6 * 10 * 3).astype(np.uint8).reshape(6, 10, 3)


def encode(pil_image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    pil_image.save(stream, format, **options)
    return stream.getvalue()


def pillow_pixels(pil_image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(pil_image.convert("RGB"))).permute(2, 0, 1)


def test_a_jpeg_has_the_pixels_that_pillow_gives() -> None:
    image = read_image(CELLS)
    assert image.shape == (3, 480, 640)
    assert image.dtype == torch.uint8
    assert torch.equal(image, pillow_pixels(Image.open(CELLS)))
    assert torch.equal(read_image(CELLS.read_bytes()), image)


@pytest.mark.parametrize(
    "options",
    [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}, {"keep_rgb": True}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_kind_of_jpeg_has_the_pixels_that_pillow_gives(mode: str, options: dict[str, object]) -> None:
    data = encode(Image.open(CELLS).crop((0, 0, 203, 101)).convert(mode), "JPEG", **options)
    assert torch.equal(read_image(data), pillow_pixels(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"lossless": True} if format == "WEBP" else {}
    data = encode(Image.fromarray(RAMP), format, exif=exif, **quality)
    expected = pillow_pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = read_image(data)
    assert torch.equal(image, expected)
    assert image_header_size(data) == tuple(image.shape[1:]) == ((6, 10) if orientation < 5 else (10, 6))


def test_an_orientation_in_xmp_is_applied() -> None:
    """Pillow knows it and torchvision's decoder does not, so that header and pixels would contradict each other."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(Image.fromarray(RAMP), "JPEG", xmp=xmp)
    assert torch.equal(read_image(data), pillow_pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert image_header_size(data) == (10, 6)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 257, 128, 129], [256, 32768, 65407, 65535]], dtype=np.uint16)
    image = read_image(encode(Image.fromarray(values), format))
    assert image[0].tolist() == [[0, 1, 0, 1], [1, 128, 255, 255]]
    assert torch.equal(image[0], image[2])


def test_palette_with_transparency_shows_white() -> None:
    pil_image = Image.new("P", (2, 1))
    pil_image.putpalette([255, 0, 0, 0, 0, 255])
    pil_image.putdata([0, 1])
    image = read_image(encode(pil_image, "PNG", transparency=1))
    assert image[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]


def test_alpha_is_laid_over_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    image = read_image(encode(Image.fromarray(pixels), "PNG"))
    assert image[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [204, 204, 204]]
    assert torch.equal(to_image_tensor(pixels), image)


def test_cmyk_jpeg_has_the_right_colours() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = read_image(encode(red, "JPEG", quality=95)).float().mean((1, 2))
    assert image[0] > 240
    assert image[1:].max() < 15


def test_grey_one_bit_gif_and_bmp() -> None:
    assert read_image(encode(Image.new("1", (3, 2), 1), "PNG")).unique().tolist() == [255]
    assert read_image(encode(Image.new("L", (3, 2), 77), "BMP")).unique().tolist() == [77]
    assert read_image(encode(Image.new("L", (3, 2), 77), "GIF")).shape == (3, 2, 3)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6, 0.98])
def test_a_truncated_jpeg_is_an_error_that_names_it(tmp_path: Path, fraction: float) -> None:
    data = CELLS.read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ValueError, match=r"half\.jpg .*fetch it again or remove it"):
        read_image(path)


def test_a_jpeg_that_ends_in_zeros_is_an_error(tmp_path: Path) -> None:
    data = CELLS.read_bytes()
    (tmp_path / "zeros.jpg").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    with pytest.raises(ValueError, match="zeros"):
        read_image(tmp_path / "zeros.jpg")


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_other_truncated_files_are_errors(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), format)
    (tmp_path / "half").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="half"):
        read_image(tmp_path / "half")


def test_what_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"text\.jpg is not an image"):
        read_image(tmp_path / "text.jpg")
    for function in (read_image, image_header_size):
        with pytest.raises(ValueError, match=r"empty\.jpg is empty"):
            function(tmp_path / "empty.jpg")
        with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
            function(tmp_path / "absent.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_an_image_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    data = encode(Image.new("RGB", (30, 20)), format)
    assert read_image(data).shape == (3, 20, 30)
    monkeypatch.setenv(VARIABLE, "image_pixels=599")
    with pytest.raises(ValueError, match="of 30 × 20 pixels, has more than 599 pixels: cut it into tiles"):
        read_image(data)


def test_header_size_does_not_decode(tmp_path: Path) -> None:
    data = CELLS.read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    assert image_header_size(tmp_path / "half.jpg") == (480, 640)


def test_images_in_memory() -> None:
    expected = torch.from_numpy(RAMP).permute(2, 0, 1)
    floats = RAMP.astype(np.float64) / 255
    for value in (RAMP, Image.fromarray(RAMP), expected, floats, torch.from_numpy(floats).permute(2, 0, 1)):
        assert torch.equal(to_image_tensor(value), expected)
    assert torch.equal(to_image_tensor(RAMP[:, ::-1]), expected.flip(2))  # a view with a negative stride
    grey = to_image_tensor(RAMP[:, :, 0])
    assert torch.equal(grey, expected[:1].expand(3, -1, -1))
    assert torch.equal(to_image_tensor(RAMP[:, :, :1]), grey)
    assert torch.equal(to_image_tensor(RAMP.astype(np.uint16) * 257), expected)
    assert to_image_tensor(np.array([[True, False]]))[0].tolist() == [[255, 0]]


def test_a_pil_image_in_memory_is_turned_upright() -> None:
    pil_image = Image.fromarray(RAMP)
    pil_image.getexif()[0x0112] = 6
    assert torch.equal(to_image_tensor(pil_image), pillow_pixels(ImageOps.exif_transpose(pil_image)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 480, 640), np.uint8), r"must have shape .* got \(3, 480, 640\)"),
        (torch.zeros(480, 640, 3), r"must have shape .* got \(480, 640, 3\)"),
        (np.full((2, 2), 200.0), "divide by 255"),
        (np.full((2, 2), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((2, 2), np.int64), "got int64"),
    ],
)
def test_other_arrays_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_image_tensor(value)


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="got str"):
        to_image_tensor("cells.jpg")


def test_pillow_alone_gives_the_same_pixels(monkeypatch):
    """torchvision's decoder may be absent; nothing but the speed depends on it."""
    path = sorted(Path("samples/bccd/JPEGImages").glob("*.jpg"))[0]
    fast = read_image(path)
    monkeypatch.setattr("vovnet.data.images._fast_jpeg_decoder", lambda: None)
    assert torch.equal(read_image(path), fast)


def test_a_torchvision_without_its_codecs_is_no_damage_of_an_image(monkeypatch):
    def lacks(*args, **kwargs):
        raise RuntimeError("make sure libjpeg and libpng were found")

    path = sorted(Path("samples/bccd/JPEGImages").glob("*.jpg"))[0]
    fast = read_image(path)
    images._fast_jpeg_decoder.cache_clear()
    monkeypatch.setattr("torchvision.io.decode_jpeg", lacks)
    try:
        assert torch.equal(read_image(path), fast)
        assert images._fast_jpeg_decoder() is None
    finally:
        images._fast_jpeg_decoder.cache_clear()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "PNG")]
)
def test_pixels_without_pytorch_are_those_of_the_tensor(mode, suffix, orientation):
    rng = np.random.default_rng(orientation)
    channels = {"RGB": (3,), "RGBA": (4,)}.get(mode, ())
    dtype, most = (np.uint16, 65536) if mode == "I;16" else (np.uint8, 256)
    image = Image.fromarray(rng.integers(0, most, (7, 9, *channels), dtype=dtype))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    (image.convert("P") if mode == "P" else image).save(file, suffix, exif=exif)
    pixels, tensor = read_pixels(file.getvalue()), read_image(file.getvalue())
    assert pixels.shape == ((7, 9, 3) if orientation < 5 else (9, 7, 3))
    assert np.array_equal(pixels, tensor.permute(1, 2, 0).numpy())


def test_both_decoders_refuse_the_same_damage():
    """The check decodes with Pillow, training with torchvision: what one reads, the other must read."""
    data = min(Path("samples/bccd/JPEGImages").glob("*.jpg")).read_bytes()
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(0, 256)
        damaged = bytes(damaged[: rng.integers(len(data) // 2, 2 * len(data))])
        results = []
        for read in (read_pixels, read_image):
            try:
                read(damaged)
                results.append(True)
            except ValueError:
                results.append(False)
        assert results[0] == results[1]
        verdicts.add(results[0])
    assert verdicts == {True, False}
