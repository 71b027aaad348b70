"""Weights of VoVNet backbones: ours, and those of other sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.files import replacing
from vovnet.weights.file import read_tensors
from vovnet.weights.find import find_file, is_address
from vovnet.weights.translate import VARIANTS, check_shapes, classes_in, shapes_of, translate
from vovnet.zoo import create_backbone as create_bare_backbone

FORMAT = "vovnet-backbone-1"


@dataclass(frozen=True)
class BackboneWeights:
    """A backbone's weights under our names, and what they presuppose.

    source: where they come from; model: a name that `create_backbone` knows; options: those of its options that the
    weights need; pixels: `mean`, `std` (0–255 scale) and `channel_order` of the images that they were trained on, the
    fields of `Preprocessing` of these names; state: parameters and buffers, with the classifier's where there is one.
    """

    source: str
    model: str
    options: Mapping[str, Any]
    pixels: Mapping[str, Any]
    state: Mapping[str, Tensor]

    @property
    def num_classes(self) -> int | None:
        """Classes of the classifier, None without one."""
        return len(self.state["head.bias"]) if "head.bias" in self.state else None

    def options_for(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options to build backbone `name` with: the caller's, and those that the weights need.

        Weights of batch norms fit a norm "frozen" too. Raises ValueError where they contradict each other, or for a
        backbone that is not of the weights' variant.
        """
        if VARIANTS.get(name) != VARIANTS[self.model]:
            raise ValueError(f"{self.source} holds weights of {self.model}, not of {name}")
        needed = {**self.options, "bottleneck": False}
        if needed["norm"] == "batch" and options.get("norm") != "group":
            del needed["norm"]
        if not options.get("features_only"):
            if self.num_classes is None:
                raise ValueError(f"{self.source} holds no classifier; features_only=True does without")
            needed["num_classes"] = self.num_classes
        for option in options.keys() & needed.keys():
            if options[option] != needed[option]:
                raise UsageError(
                    f"{self.source} needs {option}={needed[option]!r}, got {option}={options[option]!r}; leave it out"
                )
        return {**options, **needed}

    def load_into(self, backbone: nn.Module) -> None:
        """Give the backbone these weights, and their `pixels` as an attribute."""
        own = backbone.state_dict().keys()
        backbone.load_state_dict({name: tensor for name, tensor in self.state.items() if name in own})
        backbone.pixels = dict(self.pixels)  # type: ignore[assignment]  # a module may hold any attribute


@dataclass(frozen=True)
class ImportReport:
    """What `import_weights` found and wrote.

    kind: what was written; scheme: whose names the file uses; model: a name that `create_backbone` or `create_model`
    knows; options, pixels: of the backbone, as in `BackboneWeights`; norm: its own, "batch", "group", or "frozen batch"
    (statistics that count no steps, which become those of a batch norm in a backbone, and stay frozen in a detector);
    tensors, parameters: of all that was written, a backbone's classifier too, parameters being trainable values;
    num_classes: None without a classifier; set_aside: tensors that were not imported, such as those of a detector's
    other parts, by the beginning of their names.
    """

    kind: Literal["backbone", "detector"]
    source: str
    source_sha256: str
    scheme: str
    model: str
    options: Mapping[str, Any]
    norm: str
    pixels: Mapping[str, Any]
    tensors: int
    parameters: int
    num_classes: int | None
    set_aside: Mapping[str, int]
    output: str


def create_backbone(name: str, *, weights: str | Path | None = None, **options: Any) -> nn.Module:
    """A backbone by name, for example "vovnet39" or "timm/convnext_tiny"; see `vovnet.zoo.create_backbone`.

    weights: for a VoVNet; a file, a URL, or a name on the hub such as "timm/ese_vovnet39b.ra_in1k", see `read_weights`.
        They set the options that they need (stem, identity, ese, norm, num_classes), and the attribute `pixels`, which
        says how their images are normalised.
    """
    if weights is None:
        return create_bare_backbone(name, **options)
    pretrained = read_weights(weights)
    backbone = create_bare_backbone(name, **pretrained.options_for(name, options))
    pretrained.load_into(backbone)
    return backbone


def read_weights(source: str | Path) -> BackboneWeights:
    """The weights in a file, at an address, or on the hub under a name such as "timm/ese_vovnet39b.ra_in1k".

    The file is one that `import_weights` has written, or one that it could read. Raises FileNotFoundError, OSError for
    a broken download, or ValueError when the file is damaged or is no VoVNet's.
    """
    tensors, metadata = _read(source)
    if metadata.get("format") == FORMAT:
        return _ours(tensors, metadata, str(source))
    found = translate(tensors, str(source))
    return BackboneWeights(str(source), found.model, found.options, found.pixels, found.state)


def _read(source: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What an address sent that is no such file is thrown away, so that the next try fetches it again."""
    path = find_file(source)
    try:
        return read_tensors(path)
    except ValueError:
        if is_address(source):
            path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class ForeignFile:
    """The tensors of a file of another source.

    source: as the caller calls it; origin: what is written of it beside imported weights, "source" (the file's name or
    its address) and "source_sha256".
    """

    source: str
    tensors: Mapping[str, Tensor]
    origin: Mapping[str, str]


def read_foreign(source: str | Path) -> ForeignFile:
    """Read a file that is still to be imported. Raises as `read_weights` does, and ValueError for a file of ours."""
    path = find_file(source)
    tensors, metadata = _read(source)
    if metadata.get("format", "").startswith("vovnet-"):
        raise ValueError(f"{source} is imported already, it holds weights of {metadata.get('model')}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    name = path.name if path == Path(source) else str(source)
    return ForeignFile(str(source), tensors, {"source": name, "source_sha256": sha256})


def import_weights(source: str | Path, output: str | Path) -> ImportReport:
    """Read a VoVNet's checkpoint of another source and write the backbone as our safetensors file, with what its use
    needs. `vovnet.weights.importing` also takes whole detectors.

    source: a file, an address, or a name on the hub, with the names of VoVNet.pytorch, VoVNet-Detectron,
    vovnet-detectron2, timm, or the authors' Caffe code. Variant, norm and classifier are found from names and shapes;
    stem, identity, eSE and preprocessing are those of that source. A detector's other parts are set aside.

    Raises as `read_weights` does; ValueError also when a tensor of the backbone is missing, left over or misshapen.
    """
    output = safetensors_path(output)
    return import_backbone(read_foreign(source), output)


def safetensors_path(output: str | Path) -> Path:
    """Where imported weights go. Raises ValueError for the name of another kind of file."""
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"imported weights are written to a file that ends in .safetensors, got {output}")
    return output


def import_backbone(file: ForeignFile, output: Path) -> ImportReport:
    """`import_weights` of a file that is read already."""
    found = translate(file.tensors, file.source)
    weights = BackboneWeights(file.source, found.model, found.options, found.pixels, found.state)
    _save(weights, {**file.origin, "source_scheme": found.scheme}, output)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return ImportReport(
        kind="backbone",
        source=file.source,
        source_sha256=file.origin["source_sha256"],
        scheme=found.scheme,
        model=found.model,
        options=found.options,
        norm=found.norm,
        pixels=found.pixels,
        tensors=len(found.state),
        parameters=sum(tensor.numel() for name, tensor in found.state.items() if not name.endswith(buffers)),
        num_classes=weights.num_classes,
        set_aside=found.set_aside,
        output=str(output),
    )


def _save(weights: BackboneWeights, origin: Mapping[str, str], output: Path) -> None:
    from safetensors.torch import save

    metadata = {
        "format": FORMAT,
        "model": weights.model,
        "model_options": json.dumps(dict(weights.options)),
        "pixels": json.dumps(dict(weights.pixels)),
        **origin,
    }
    content = save(dict(weights.state), metadata)
    with replacing(output) as temporary:
        temporary.write_bytes(content)


def _ours(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str) -> BackboneWeights:
    try:
        model, options = metadata["model"], json.loads(metadata["model_options"])
        head = [tensors[name] for name in ("head.weight", "head.bias") if name in tensors]
        expected = shapes_of(model, options, classes_in(head))
        stated = json.loads(metadata["pixels"])
        pixels = {"mean": tuple(stated["mean"]), "std": tuple(stated["std"]), "channel_order": stated["channel_order"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source} has damaged metadata ({error!r}); import or fetch it again") from None
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_shapes(found, expected, f"{source} is no whole {model}")
    return BackboneWeights(source, model, options, pixels, tensors)
