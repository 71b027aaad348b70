"""`vovnet weights`: import and push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vovnet.cli.app import weights_app
from vovnet.cli.options import Json, Switch
from vovnet.cli.output import Output, metric
from vovnet.errors import listed
from vovnet.names import sample_images
from vovnet.printing import shell_word

Licence = Annotated[
    str,
    Parameter(
        name=("--licence", "--license"),
        help="Licence of the weights by its name on the hub, such as apache-2.0, mit, cc-by-4.0 or other.",
    ),
]


@weights_app.command(name="import")
def import_weights(
    source: str, *, output: Path | None = None, overwrite: Switch = False, json_file: Json = None
) -> int:
    """Convert weights of another project; fails if any tensor is missing or unexpected.

    VoVNet-Detectron checkpoints become complete Faster or Mask R-CNNs; of all other projects the backbone is imported.

    Parameters
    ----------
    source:
        A file (.pth, .pth.tar, .pth.zip, .ckpt, .safetensors, or .npz with Caffe's names), a URL, hf:OWNER/NAME or
        timm/NAME on the hub, torchvision/NAME or pytorchcv/NAME. Known are the tensor names of VoVNets of the original
        code, its detectors, detectron2, timm, pytorchcv and Caffe, and those of torchvision's ResNets and DenseNets,
        PeleeNet and MobileNet.
    output:
        The .safetensors file to write; by default weights/NAME.safetensors, with the name of the source.
    overwrite:
        Replace the output file if it exists.
    """
    out = Output(json_file)
    from dataclasses import asdict

    from vovnet.weights.importing import default_output
    from vovnet.weights.importing import import_weights as run

    report = run(source, output or default_output(source), overwrite=overwrite)
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
    out.say(f"weights in {report.output}")
    out.say(_use(shell_word(report.output), is_detector=whole))
    out.json(asdict(report))
    return 0


def _use(weights: str, *, is_detector: bool) -> str:
    """How to use weights: a command for those of a detector, a setting of a config for those of a backbone."""
    if not is_detector:
        return f"a run starts from them with the setting backbone_weights={weights}"
    return f"next: vovnet predict {shell_word(sample_images()[0])} --weights {weights}"


@weights_app.command
def push(
    weights: str,
    repository: str,
    *,
    licence: Licence,
    private: Switch = False,
    revision: str | None = None,
    to: Path | None = None,
    json_file: Json = None,
) -> int:
    """Put weights and a card that tells of them on the Hugging Face Hub; hf:OWNER/NAME then loads them anywhere.

    The card holds what the file itself says: classes, accuracy, how it was trained. The login is the hub's own: hf auth
    login, or a token in HF_TOKEN.

    Parameters
    ----------
    weights:
        A .safetensors file of a detector or of a backbone, a run's folder, or bundled weights by name.
    repository:
        OWNER/NAME on the hub, made if it is missing.
    private:
        Make the repository private if it is new; refuse one that is public.
    revision:
        Branch to push to, made if it is missing; else main.
    to:
        Only write what would be pushed, to this folder, which must be new or empty. Asks nobody.
    """
    out = Output(json_file)
    from vovnet.report.model_card import make_card
    from vovnet.weights.find import find_weights
    from vovnet.weights.hub import HUB_FILE
    from vovnet.weights.pushing import hub_name, local_paths, write_folder
    from vovnet.weights.pushing import push as upload

    name = hub_name(repository, revision)
    path = find_weights(weights)
    card = make_card(path, name, licence)
    files: dict[str, Path | bytes] = {HUB_FILE: path, "README.md": card.text.encode()}
    if paths := local_paths(card.record):
        out.say(
            f"the record in the weights is published with them, and names paths of this machine: {listed(paths, 3)}"
        )
    address = None
    if to is None:
        address = upload(files, repository, private=private, revision=revision)
        out.say(f"{HUB_FILE} and README.md are in {address}")
        out.say(_use(name, is_detector=card.is_detector))
    else:
        write_folder(files, to)
        out.say(f"{HUB_FILE} and README.md are in {to}; nothing was pushed")
    out.json(
        {"name": name, "address": address, "folder": None if to is None else str(to), "files": sorted(files),
         "local_paths": paths}
    )  # fmt: skip
    return 0
