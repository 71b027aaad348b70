"""`vovnet weights`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import weights_app
from vovnet.cli.output import Json, Output, figure


@weights_app.command(name="import")
def import_weights(source: str, *, output: Path, json_file: Json = None) -> int:
    """Translate a VoVNet checkpoint of others into a file of ours; refused if anything is missing or left over.

    Of VoVNet-Detectron, whole Faster and Mask R-CNNs become detectors; of all else the backbone is taken.

    Parameters
    ----------
    source:
        A file (.pth, .safetensors, .npz with Caffe's names), an address, or a name on the hub, timm/NAME. Known are the
        names of the original code, of its detectors, of detectron2's and timm's VoVNets, and of Caffe.
    output:
        The file to write, .safetensors.
    json_file:
        Write what was found as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from dataclasses import asdict

    from vovnet.weights.importing import import_weights as run

    report = run(source, output)
    options, pixels, aside = (
        ", ".join(f"{key} {value}" for key, value in part.items())
        for part in (report.options, report.pixels, report.set_aside)
    )
    out.table(
        ["found", ""],
        [
            ["names as in", report.scheme],
            ["model", f"{report.model}: {options}"],
            ["norm", report.norm],
            ["images", pixels],
            ["classes", figure(None) if report.num_classes is None else str(report.num_classes)],
            ["tensors", f"{report.tensors}, {report.parameters:,} parameters"],
            ["set aside", aside or "nothing"],
            ["SHA-256 of the source", report.source_sha256],
        ],
    )
    whole = report.kind == "detector"
    use = f"vovnet predict SOURCE --weights {report.output}" if whole else f"backbone_weights={report.output}"
    out.say(f"weights in {report.output}; {'use' if whole else 'start from'} them with {use}")
    out.json(asdict(report))
    return 0
