"""Detect blood cells with the shipped weights, measure the accuracy, and measure what one image costs.

If the weights `voc` ship with the package, it also detects on the photographs.

Run with `make demo`; it writes into runs/demo/.
"""

import json
import time
from pathlib import Path

import vovnet
from vovnet.cli.evaluate import print_evaluation
from vovnet.cli.output import Output
from vovnet.data.formats import open_dataset
from vovnet.engine.evaluate import evaluate
from vovnet.media.prediction_files import PredictionWriter
from vovnet.names import shipped_weights
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.profiling.speed import time_interleaved
from vovnet.report.evaluation import write_evaluation

SAMPLES = Path(__file__).parents[1] / "samples"
FOLDER = Path("runs/demo")


def detect_photographs(folder: Path) -> list[Path]:
    """The photographs with what the weights `voc` detect, written into a folder; none if the weights do not ship."""
    if "voc" not in shipped_weights():
        return []
    detector = vovnet.load("voc", device="cpu")
    photos = sorted((SAMPLES / "photos").glob("*.*g"))
    with PredictionWriter(folder) as writer:
        for prediction in detector.stream(photos, keep_images=True):
            writer.write(prediction)
    return photos


def main() -> None:
    started = time.perf_counter()
    out = Output()
    detector = vovnet.load("bccd", device="cpu")

    # Accuracy on the 72 test images, which were used neither for training nor for the choice of the weights.
    dataset = open_dataset(SAMPLES / "bccd", "test", class_names=detector.class_names)
    evaluation = evaluate(detector, dataset, workers=0)
    write_evaluation(evaluation, FOLDER / "test")
    print_evaluation(evaluation, out)

    # Detections as a user gets them: annotated images and COCO results.
    sources = [sample.image_path for sample in dataset.samples[:12]]
    with PredictionWriter(FOLDER) as writer:
        for prediction in detector.stream(sources, keep_images=True):
            writer.write(prediction)

    # The cost of one image: the network alone, and everything from pixels to boxes.
    image = detector.predict(sources[0]).image()
    batch = detector.prepare([image])
    times = time_interleaved(
        {"network": lambda: detector.forward(batch), "pixels to boxes": lambda: detector.predict(image)},
        repetitions=20,
    )
    size = detector.model.preprocessing.image_size
    parameters, multiply_adds = count_parameters(detector.model), count_multiply_adds(detector.model, size)
    rows = [
        ["parameters", f"{parameters:,}"],
        ["multiply-adds per image", f"{multiply_adds:,}"],
        *([f"images/s, {name}", f"{1e3 / latency.median_ms:.1f}"] for name, latency in times.items()),
    ]
    out.table(["DSOD300 with VoVNet-27-slim, batch 1, this CPU", ""], rows)

    photos = detect_photographs(FOLDER / "photos")
    out.say(f"annotated images   {FOLDER / 'drawn'}")
    if photos:
        out.say(f"photographs        {FOLDER / 'photos/drawn'}: {len(photos)} with the weights voc")
    out.say(f"COCO detections    {FOLDER / 'detections.json'} (and .csv)")
    out.say(f"all test images    {FOLDER / 'test'}: detections, curves, the images with the most errors")
    summary = {
        "voc07_map": round(evaluation.voc.mean_ap11 or 0, 4),
        "test_images": len(dataset),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "images_per_s_network": round(1e3 / times["network"].median_ms, 2),
        "images_per_s_pixels_to_boxes": round(1e3 / times["pixels to boxes"].median_ms, 2),
        "seconds": round(time.perf_counter() - started, 1),
        "output": str(FOLDER),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
