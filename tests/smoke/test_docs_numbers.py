"""Every measured number in the sentences of the documents is that of a record, of the data or of the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vovnet import create_model
from vovnet.profiling.cost import count_multiply_adds, count_parameters

from ..pages import WRITTEN

RECORDS = Path("docs/records")


@cache
def record(name: str) -> Any:
    return json.loads((RECORDS / f"{name}.json").read_text())


@cache
def cost(name: str, classes: int) -> tuple[int, int]:
    """Parameters and multiply-adds."""
    model = create_model(name, num_classes=classes)
    return count_parameters(model), count_multiply_adds(model, model.preprocessing.image_size)


@cache
def runtimes() -> dict[str, dict[str, Any]]:
    """The rows of the record of runtimes."""
    return {f"{row['runtime']}:{row['precision']}": row for row in record("runtimes")["runtimes"]["rows"]}


def voc07(runtime: str) -> float:
    return runtimes()[runtime]["accuracy"]["figures"]["VOC07"]


def milliseconds(runtime: str) -> float:
    return runtimes()[runtime]["boxes"]["median_ms"]


def table2(model: str) -> dict[str, Any]:
    (measurement,) = (row for row in record("table2")["measurements"] if row["name"] == model)
    return measurement


def images(split: str) -> int:
    return len(Path(f"samples/bccd/ImageSets/Main/{split}.txt").read_text().split())


QUOTES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("README.md", lambda: f"`bccd` ({Path('src/vovnet/weights/bccd.safetensors').stat().st_size / 1e6:.0f} MB)"),
    ("README.md", lambda: f"trained from scratch on {record('bccd')['train_images']} images of blood cells in an hour"),
    (
        "README.md",
        lambda: (
            f"{100 * record('bccd')['test']['voc07_map']:.1f} % mAP (VOC07, IoU 0.5) on {images('test')} test images"
        ),
    ),
    ("README.md", lambda: f"{record('bench')['results']['inference_pixels_to_boxes_ms']:.1f} ms (AMD EPYC, 2 threads)"),
    ("docs/limits.md", lambda: f"takes more than {record('campaign')['all']['peak_gib']} GiB"),
    ("README.md", lambda: f"finds almost no platelets (AP {100 * missed_platelets():.1f} %)"),
    (
        "docs/models.md",
        lambda: "{:.2f} million parameters and {:.2f} G multiply-adds with three classes".format(
            *(value / unit for value, unit in zip(cost("ssdfpn320_vovnet19_tiny", 3), (1e6, 1e9), strict=True))
        ),
    ),
    ("docs/models.md", lambda: f"`dsod300_vovnet27_slim` has {cost('dsod300_vovnet27_slim', 3)[1] / 1e9:.2f} G"),
    ("docs/train.md", lambda: "was {:.2f} points instead of {:.2f}".format(*scatter("momentum 0.001", "momentum 0.1"))),
    (
        "docs/onnx.md",
        lambda: (
            f"a VOC07 mAP of {voc07('onnxruntime:int8'):.4f} on val as an int8 file, and of "
            f"{voc07('onnxruntime:float32'):.4f} in float32"
        ),
    ),
    (
        "samples/README.md",
        lambda: f"{sum(map(images, ('train', 'val', 'test')))} microscope images of blood cells",
    ),
    (
        "samples/README.md",
        lambda: "{} train, {} val, {} test".format(*map(images, ("train", "val", "test"))),
    ),
    *(
        (
            f"configs/{name}.yaml",
            lambda record_name=record_name: "{voc07_map:.3f} mAP".format(**record(record_name)["val"]),
        )
        for name, record_name in {
            "bccd_dsod300_vovnet27_slim": "bccd",
            "bccd_refinedet320_vovnet27_slim": "bccd_refinedet320",
            "bccd_ssdfpn320_vovnet19_tiny": "bccd_small",
        }.items()
    ),
)


def missed_platelets() -> float:
    run = json.loads((RECORDS / "bccd_study/ssd300_mobilenet_0.json").read_text())
    return run["test"]["classes"]["Platelets"]["voc07_ap"]


def scatter(*choices: str) -> list[float]:
    """The standard deviations of COCO AP over checkpoints, in points."""
    return [100 * record("norm_statistics")["summary"][choice]["coco_ap"]["std"] for choice in choices]


def sentences(page: str | Path) -> str:
    """The text of a page on one line."""
    return " ".join(Path(page).read_text(encoding="utf-8").replace("\n# ", " ").split())


@pytest.mark.parametrize(("page", "quote"), QUOTES, ids=[f"{page}-{number}" for number, (page, _) in enumerate(QUOTES)])
def test_page_quotes_the_record(page, quote):
    assert quote() in sentences(page), f"{page} does not say: {quote()}"


CLAIMS = {
    ("README.md", "With slightly more multiply-adds than DenseNet-67, VoVNet-27-slim"): lambda: (
        1 < total("dsod300_vovnet27_slim", "multiply_adds") / total("dsod300_densenet67", "multiply_adds") < 1.1
    ),
    ("README.md", "needs a third less memory access"): lambda: (
        0.3
        < 1 - total("dsod300_vovnet27_slim", "memory_access_cost") / total("dsod300_densenet67", "memory_access_cost")
        < 0.37
    ),
    ("README.md", "and is faster"): lambda: (
        table2("dsod300_vovnet27_slim")["latency"]["median_ms"] < table2("dsod300_densenet67")["latency"]["median_ms"]
    ),
    ("README.md", "in an hour on two CPU cores"): lambda: (
        round(record("bccd")["train_hours"]) == 1 and "2 threads" in record("bccd")["trained_on"]
    ),
    ("configs/bccd_dsod300_vovnet27_slim.yaml", "an hour on two CPU cores"): lambda: (
        round(record("bccd")["train_hours"]) == 1 and "2 threads" in record("bccd")["trained_on"]
    ),
    ("docs/train.md", "needs a seventh of the multiply-adds of DSOD300"): lambda: (
        round(cost("dsod300_vovnet27_slim", 3)[1] / cost("ssdfpn320_vovnet19_tiny", 3)[1]) == 7
    ),
    ("docs/deploy.md", "can run several times faster in another runtime than in PyTorch"): lambda: (
        milliseconds("torch:float32") > 3 * min(map(milliseconds, runtimes()))
    ),
    ("docs/deploy.md", "MNN is slower than ONNX Runtime on the x86 machine that was measured"): lambda: (
        milliseconds("mnn:float32") > milliseconds("onnxruntime:float32")
    ),
    ("docs/weights.md", "`bccd_small`, which is smaller, faster and better on the same images"): lambda: (
        record("bccd_small")["parameters"] < record("bccd")["parameters"]
        and record("bccd_small")["multiply_adds"] < record("bccd")["multiply_adds"]
        and record("bccd_small")["test"]["voc07_map"] > record("bccd")["test"]["voc07_map"]
    ),
    ("SECURITY.md", "in more than 20,000 ways"): lambda: record("campaign")["all"]["cases"] > 20_000,
}
"""Sentences without an exact number, and whether the records bear them out."""


def total(model: str, count: str) -> float:
    return table2(model)["cost"]["total"][count]


@pytest.mark.parametrize(("page", "claim"), CLAIMS, ids=[claim[:40] for _, claim in CLAIMS])
def test_page_claims_what_the_records_bear_out(page, claim):
    assert claim in sentences(page), f"{page} does not say: {claim}"
    assert CLAIMS[page, claim]()


# --- No other measured number ----------------------------------------------------------------------------------------

NUMBER = re.compile(
    r"(?<![\w.,×-])\d[\d,]*(?:\.\d+)?\s?"
    r"(?:%|ms\b|MiB\b|GiB\b|MB\b|GB\b|kB\b|points\b|million\b|images/s\b|G\b|k?W\b|J\b|(?:COCO )?m?AP\b)"
    r"|(?<![\w.,×-])0\.\d{2,}"
)


def numbers_of(page: Path) -> list[str]:
    """The numbers with a unit in what a person wrote: not in code, between marks of `make results`, or quoted."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    text = re.sub(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", "", text, flags=re.S)
    text = " ".join(text.split())
    for quoted, quote in QUOTES:
        if quoted == page.as_posix():
            text = text.replace(quote(), "")
    return NUMBER.findall(re.sub(r"`[^`]*`", "", text))


SETTINGS = {
    "docs/data.md": {"10 MB", "10 %"},
    "docs/energy.md": {"20 ms", "100 ms", "95 %", "10 %", "2 kW"},
    "docs/export.md": {"0.99", "0.001", "0.002", "5 %", "0.01"},
    "docs/glossary.md": {"0.95", "95 %"},
    "docs/gpu.md": {"12 MB", "95 %", "5 %", "0.45", "20 %"},
    "docs/measure.md": {"95 %", "100 %", "1 GiB"},
    "docs/predict.md": {"50 MiB", "0.45"},
    "docs/train.md": {"1 %", "0.01", "0.05", "4 GiB", "2.8 GB", "0.999", "0.001"},
}
"""Numbers of each page that nobody measured: limits, settings, published values, definitions, sums."""
HISTORY = Path("CHANGELOG.md")
"""Says what was so when it was written."""


@pytest.mark.parametrize("page", [page for page in WRITTEN if page != HISTORY], ids=str)
def test_page_has_no_other_number_with_a_unit(page):
    others = set(numbers_of(page)) - SETTINGS.get(page.as_posix(), set())
    assert not others, f"quote {', '.join(sorted(others))} from a record in QUOTES, or list them under SETTINGS"


@pytest.mark.parametrize("page", SETTINGS)
def test_listed_numbers_are_there(page):
    assert SETTINGS[page] <= set(numbers_of(Path(page)))


def test_a_measured_number_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("With `--batch 4 ms` it takes 12.5 ms.\n<!-- a -->5 %<!-- /a -->\n```\n7 %\n```\nmAP 0.812, v0.1\n")
    assert numbers_of(page) == ["12.5 ms", "0.812"]
