"""Check the memory claims: `python benchmarks/peaks.py` runs each case in its own process, prints how much memory it
adds, and writes docs/records/peaks.json. The exit status is 1 if a claim does not hold.

Linux only. A case adds the peak of the process's resident memory less what was resident when it started.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from shared import ROOT, Checked, finish

from vovnet import create_model
from vovnet.data.images import read_image
from vovnet.engine.config import LossConfig, OptimizerConfig
from vovnet.engine.detector import Detector
from vovnet.engine.multi_scale import MultiScale, Scale, detect_multi_scale, published_multi_scale
from vovnet.engine.predicting.drawing import draw_detections
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.masks import paste
from vovnet.provenance import device_name, record_header
from vovnet.structures import Detections, Target
from vovnet.zoo import find_detector

PHOTO = ROOT / "samples/photos/coco_000000184324.jpg"


def multi_scale(choose: Callable[[tuple[Scale, ...]], tuple[Scale, ...]]) -> Callable[[], object]:
    names = [f"class {label}" for label in range(20)]
    detector = Detector(create_model("refinedet320_vovnet27_slim", len(names)), names, range(len(names)))
    published = published_multi_scale(detector.model, "coco")
    image = read_image(PHOTO)
    return lambda: detect_multi_scale(detector, image, MultiScale(choose(published.scales), soft_vote=True))


def one_scale() -> Callable[[], object]:
    """The largest published size, 704×704, twice: a single pass does not fill the allocator's caches."""
    return multi_scale(lambda scales: scales[-1:] * 2)


def all_scales() -> Callable[[], object]:
    """All nine published sizes."""
    return multi_scale(lambda scales: scales)


def train_mask_rcnn() -> Callable[[], object]:
    """One step of Mask R-CNN with VoVNet-39 on one image of 800×1067 with 20 objects."""
    name = "maskrcnn_vovnet39_gn"
    spec, model = find_detector(name), create_model(name, 80).to(memory_format=torch.channels_last).train()
    criterion, optimizer = spec.make_loss(LossConfig().model_dump()), make_optimizer(model, spec, OptimizerConfig())
    corner = torch.rand(20, 2) * torch.tensor([700, 500])
    boxes = torch.cat([corner, corner + 60 + torch.rand(20, 2) * 200], dim=1)
    target = Target.make(boxes, torch.arange(20), masks=torch.ones(20, 800, 1067, dtype=torch.uint8))
    image = model.preprocessing.normalize(torch.randint(0, 256, (1, 3, 800, 1067), dtype=torch.uint8))

    def step() -> None:
        losses = criterion(model(image, [target]), [target])
        sum(losses.values(), torch.zeros(())).backward()
        optimizer.step()

    return step


def hundred_masks() -> Callable[[], object]:
    """Pasting, drawing and encoding 100 masks, large and small, of an image of 4000×3000 pixels."""
    torch.manual_seed(0)
    corner = torch.rand(100, 2) * torch.tensor([3000, 2000])
    boxes = torch.cat([corner, corner + torch.rand(100, 2) * torch.tensor([1000, 1000])], dim=1)
    boxes[0] = torch.tensor([0, 0, 4000, 3000])
    probabilities, labels = torch.rand(100, 28, 28), torch.zeros(100, dtype=torch.int64)
    scores = torch.linspace(1, 0.1, 100)
    image = torch.zeros(3, 3000, 4000, dtype=torch.uint8)

    def predict(count: int) -> None:
        masks = paste(probabilities[:count], boxes[:count], (3000, 4000))
        detections = Detections(boxes[:count], labels[:count], scores[:count], (3000, 4000), masks)
        draw_detections(image, detections, ["object"])
        masks.to_coco()

    predict(0)  # loads the libraries and allocates the annotated image, which are not counted
    return lambda: predict(100)


CASES = {case.__name__: case for case in (one_scale, all_scales, train_mask_rcnn, hundred_masks)}
CLAIMS: dict[str, tuple[str, Callable[[dict[str, dict[str, int]]], bool]]] = {
    "all_scales": (
        "adds at most 10 % more than one scale",
        lambda results: results["all_scales"]["added_mib"] <= 1.1 * results["one_scale"]["added_mib"],
    ),
    "train_mask_rcnn": (
        "whole process below 6144 MiB",
        lambda results: results["train_mask_rcnn"]["process_mib"] < 6144,
    ),
    "hundred_masks": ("adds less than 300 MiB", lambda results: results["hundred_masks"]["added_mib"] < 300),
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(name: str) -> None:
    work = CASES[name]()
    before = peak_mib()
    work()
    print(json.dumps({"added_mib": round(peak_mib() - before), "process_mib": round(peak_mib())}))


def main() -> None:
    results = {}
    for name in CASES:
        printed = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        results[name] = json.loads(printed.stdout)
    claims = {name: text for name, (text, _) in CLAIMS.items()}
    rows = [[name, str(result["added_mib"]), str(result["process_mib"])] for name, result in results.items()]
    device = {"device": device_name(torch.device("cpu"))}
    record = record_header("python benchmarks/peaks.py") | device | {"results": results, "claims": claims}
    broken = [name for name, (_, holds) in CLAIMS.items() if not holds(results)]
    finish(Checked("peaks", record, ["case", "added, MiB", "whole process, MiB"], rows, broken))


if __name__ == "__main__":
    run(sys.argv[1]) if len(sys.argv) > 1 else main()
