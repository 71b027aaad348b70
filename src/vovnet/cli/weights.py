"""`vovnet weights`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import weights_app
from vovnet.cli.options import Json, Switch
from vovnet.cli.output import Output, metric


@weights_app.command(name="import")
def import_weights(source: str, *, output: Path, overwrite: Switch = False, json_file: Json = None) -> int:
    """Convert weights of another project; fails if any tensor is missing or unexpected.

    VoVNet-Detectron checkpoints become complete Faster or Mask R-CNNs; of all other projects the backbone is imported.

    Parameters
    ----------
    source:
        A file (.pth, .pth.tar, .ckpt, .safetensors, or .npz with Caffe's names), a URL, timm/NAME on the hub, or
        torchvision/NAME. Known are the tensor names of VoVNets of the original code, its detectors, detectron2, timm
        and Caffe, and those of torchvision's ResNets and DenseNets, PeleeNet and MobileNet.
    output:
        The .safetensors file to write.
    overwrite:
        Replace the output file if it exists.
    """
    out = Output(json_file)
    from dataclasses import asdict

    from vovnet.weights.importing import import_weights as run

    report = run(source, output, overwrite=overwrite)
    options, pixels, aside = (
        ", ".join(f"{key} {value}" for key, value in part.items())
        for part in (report.options, report.pixels, report.set_aside)
    )
    out.table(
        ["found", ""],
        [
            ["names as in", report.scheme],
            ["model", f"{report.model}: {options}" if options else report.model],
            ["norm", report.norm],
            ["images", pixels],
            ["classes", metric(None) if report.num_classes is None else str(report.num_classes)],
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
