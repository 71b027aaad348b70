"""An evaluation as one self-contained HTML page: how accurate a detector is, what it loses, and what helps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

from PIL.Image import Image

from vovnet.engine.evaluate import Evaluation
from vovnet.errors import counted
from vovnet.metrics.properties import Group
from vovnet.report import evaluation_advice as advice
from vovnet.report import evaluation_plots as plots
from vovnet.report.document import Figure, Section, Table, escape_markdown
from vovnet.report.page import page_content
from vovnet.report.plotting import Plot, finish_svg

MOST_IMAGES = 12
_LONGEST_SIDE = 480  # pixels of a worst image
_MOST_IN_MATRIX = 40  # classes


def evaluation_page(evaluation: Evaluation, confusion: bytes, worst: Sequence[tuple[str, str, bytes]]) -> bytes:
    """The page, which holds its images and asks for nothing.

    confusion: the confusion matrix as SVG.
    worst: name, caption and `small_copy` of the images with the most errors.
    """
    dataset = evaluation.dataset
    introduction = (
        f"{counted(len(dataset), 'image')} of {escape_markdown(str(dataset.root))}, split "
        f"{escape_markdown(str(dataset.split))}; {evaluation.running}. {_means(evaluation)}"
    )
    sections = [
        Section("What is lost", _losses(evaluation)),
        Section("Classes", [advice.on_classes(evaluation), _class_table(evaluation), _precision_recall(evaluation)]),
        Section("Score thresholds", _thresholds(evaluation)),
        Section("Size, shape and neighbours", _properties(evaluation)),
        Section("Calibration", _calibration(evaluation)),
        Section("Confusion", _confusion(evaluation, confusion)),
    ]
    if worst:
        sections.append(Section("Worst images", _worst(worst)))
    return page_content(title="Evaluation", introduction=introduction, sections=sections)


def _means(evaluation: Evaluation) -> str:
    figures = evaluation.coco.figures
    values = (("VOC07 mAP", evaluation.voc.mean_ap11), ("COCO AP", figures["AP"]), ("AP50", figures["AP50"]))
    return ", ".join(f"{name} {_number(value)}" for name, value in values) + "."


def _losses(evaluation: Evaluation) -> list[str | Table | Figure]:
    errors = evaluation.analysis.errors
    sentence = advice.on_losses(evaluation)
    if errors is None:
        return [sentence]
    table = Table(
        ["kind of error", "AP50 lost", "errors"],
        [[advice.KINDS[kind.name], f"{kind.lost_ap:.3f}", f"{kind.count:,}"] for kind in errors.kinds],
        values=[[None, kind.lost_ap, kind.count] for kind in errors.kinds],
        notes=[
            "By how much AP50 would rise without the errors of one kind alone; so the values do not add up.",
            "Errors are counted at all scores, down to the lowest that the detector reports.",
            f"Without any false positive AP50 would rise by {errors.lost_to_false_positives:.3f}, without any missed "
            f"object by {errors.lost_to_missed:.3f}.",
        ],
    )
    plot = partial(plots.plot_errors, errors, list(advice.KINDS.values()))
    return [sentence, _figure("errors", "AP50 lost to each kind of error", plot), table]


def _class_table(evaluation: Evaluation) -> Table:
    masks = evaluation.coco_masks is not None
    rows = []
    for name, voc, coco, mask in evaluation.classes():
        values = [voc.ap11, voc.ap_area, coco.ap, coco.ap50, *([mask.ap, mask.ap50] if mask else [])]
        rows.append((name, voc.n_objects, values))
    header = [
        "class",
        "objects",
        "VOC07 AP",
        "area AP",
        "COCO AP",
        "AP50",
        *(["mask AP", "mask AP50"] if masks else []),
    ]
    return Table(
        header,
        [[name, f"{objects:,}", *map(_number, values)] for name, objects, values in rows],
        values=[[None, objects, *values] for _, objects, values in rows],
    )


def _precision_recall(evaluation: Evaluation) -> Figure:
    plot = partial(plots.plot_precision_recall, evaluation.voc, evaluation.dataset.class_names)
    return _figure("precision_recall", "Precision against recall at IoU 0.5", plot)


def _thresholds(evaluation: Evaluation) -> list[str | Table | Figure]:
    names, best = evaluation.dataset.class_names, evaluation.best_thresholds
    rows = [
        [name, *([f"{b.threshold:g}", *map(_number, (b.f1, b.precision, b.recall))] if b else ["–"] * 4)]
        for name, b in zip(names, best, strict=True)
    ]
    values = [[None, *((b.threshold, b.f1, b.precision, b.recall) if b else [None] * 4)] for b in best]
    return [
        advice.on_thresholds(evaluation),
        _figure(
            "f1",
            "F1 against the score threshold at IoU 0.5; dots mark the best",
            partial(plots.plot_f1, evaluation.voc, names, best),
        ),
        Table(["class", "best threshold", "F1", "precision", "recall"], rows, values=values),
    ]


def _properties(evaluation: Evaluation) -> list[str | Table | Figure]:
    parts: list[str | Table | Figure] = []
    items = evaluation.analysis.properties
    parts += [advice.on_property(item) for item in items]
    parts += [
        _figure(item.title, f"AP50 and COCO AP by {item.title}", partial(plots.plot_property, item)) for item in items
    ]
    for item in items:
        parts.append(
            Table(
                [item.title, "objects", "never found", "AP50", "COCO AP"],
                [[_marked(g), f"{g.objects:,}", f"{g.missed:,}", _number(g.ap50), _number(g.ap)] for g in item.groups],
                title=f"By {item.title}",
                values=[[None, g.objects, g.missed, g.ap50, g.ap] for g in item.groups],
                notes=[f"{item.rule[0].upper()}{item.rule[1:]}."],
            )
        )
    return parts


def _marked(group: Group) -> str:
    return f"{group.name} (few)" if group.is_few else group.name


def _calibration(evaluation: Evaluation) -> list[str | Table | Figure]:
    analysis = evaluation.analysis
    rows = [("all", analysis.calibration), *zip(evaluation.dataset.class_names, analysis.classes, strict=True)]
    counts = [sum(item.detections for item in of.bins) for _, of in rows]
    return [
        advice.on_calibration(analysis.calibration),
        _figure(
            "calibration",
            "Share of right detections against score, all classes; bars show how many detections there are",
            partial(plots.plot_calibration, analysis.calibration),
        ),
        Table(
            ["class", "detections", "calibration error", "score less precision"],
            [
                [name, f"{count:,}", _number(of.error), "–" if of.bias is None else f"{of.bias:+.3f}"]
                for (name, of), count in zip(rows, counts, strict=True)
            ],
            values=[[None, count, of.error, of.bias] for (_, of), count in zip(rows, counts, strict=True)],
        ),
    ]


def _confusion(evaluation: Evaluation, matrix: bytes) -> list[str | Table | Figure]:
    sentence = advice.on_confusion(evaluation)
    names = evaluation.dataset.class_names
    if len(names) > _MOST_IN_MATRIX:
        return [sentence, f"The matrix of {len(names)} classes is in confusion.png."]
    caption = f"True classes down, predicted ones across, with scores of at least {evaluation.score_threshold:g}"
    return [sentence, Figure("confusion.svg", caption, lambda: finish_svg(matrix))]


def _worst(worst: Sequence[tuple[str, str, bytes]]) -> list[str | Figure]:
    shown = worst[:MOST_IMAGES]
    rest = f"; {len(worst) - len(shown)} more are in worst/" if len(worst) > len(shown) else ""
    sentence = (
        "Dashed boxes are the ground truth, “missed” marks a missed object, “?” a false positive. These have the most "
        f"errors{rest}."
    )
    return [
        sentence,
        *(Figure("image.jpg", f"{name}: {caption}", partial(bytes, content)) for name, caption, content in shown),
    ]


def small_copy(image: Image) -> bytes:
    """A JPEG file of the image as large as the page shows it."""
    small, content = image.copy(), io.BytesIO()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=2.0)
    small.save(content, "JPEG", quality=80)
    return content.getvalue()


def _figure(name: str, caption: str, plot: partial[Plot]) -> Figure:
    return Figure(f"{name}.svg", caption, lambda: plot().svg())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
