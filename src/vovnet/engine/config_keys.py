"""What is wrong with a config, in one sentence, and what somebody may have meant by a key that it does not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from vovnet.errors import counted, did_you_mean, listed, nearest
from vovnet.printing import line, quoted

# Names that other programs use, without "_" and "-", some with their section → the key here.
_SYNONYMS = {
    **dict.fromkeys(("lr", "lr0", "baselr", "initiallr"), "optimizer.learning_rate"),
    **dict.fromkeys(("wd", "decay", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(
        ("clip", "gradclip", "clipgrad", "gradientclip", "gradientclipping", "maxnorm", "gradnorm"),
        "optimizer.clip_norm",
    ),
    **dict.fromkeys(("optim", "optimizertype", "optimizer.type", "optimizer.name"), "optimizer.kind"),
    **dict.fromkeys(("solver", "solvertype"), "optimizer.kind"),
    **dict.fromkeys(("scheduler", "lrscheduler", "lrpolicy", "lrschedule", "coslr"), "schedule.kind"),
    **dict.fromkeys(("schedule.type", "schedule.name"), "schedule.kind"),
    **dict.fromkeys(("epoch", "maxepochs", "maxepoch", "numepochs", "nepochs"), "schedule.epochs"),
    **dict.fromkeys(("iters", "iter", "maxiter", "maxiters", "steps", "maxsteps", "numsteps"), "schedule.iterations"),
    **dict.fromkeys(("warmup", "warmupiters", "warmupsteps"), "schedule.warmup_iterations"),
    **dict.fromkeys(("lrsteps", "stepvalue", "stepvalues", "schedule.step"), "schedule.milestones"),
    **dict.fromkeys(("batch", "bs", "imsperbatch", "trainbatchsize", "totalbatchsize"), "batch_size"),
    **dict.fromkeys(("microbatch", "imagespergpu", "samplespergpu", "batchsizepergpu"), "micro_batch_size"),
    **dict.fromkeys(("accumulate", "gradaccum", "gradaccumulation", "gradientaccumulation"), "micro_batch_size"),
    **dict.fromkeys(("dataset", "datapath", "dataroot", "datadir", "datasetdir", "dir", "path"), "data.root"),
    **dict.fromkeys(("valid", "validation", "valsplit"), "data.val"),
    **dict.fromkeys(("trainsplit",), "data.train"),
    **dict.fromkeys(("fliplr", "hflip"), "augment.flip"),
    **dict.fromkeys(("flipud", "vflip"), "augment.flip_vertical"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "device"),
    **dict.fromkeys(("numworkers", "nworkers", "numthreads"), "workers"),
    **dict.fromkeys(("amp", "dtype", "fp16", "bf16", "half"), "precision"),
    **dict.fromkeys(("ema", "modelema"), "ema_decay"),
    **dict.fromkeys(("syncbatchnorm",), "sync_bn"),
    **dict.fromkeys(("ghostbatchsize", "ghostbatch", "virtualbatchsize", "normgroup"), "norm_batch_size"),
    **dict.fromkeys(("memoryformat", "nhwc"), "channels_last"),
    **dict.fromkeys(("torchcompile", "cudagraphs", "cudagraph"), "compile"),
    **dict.fromkeys(("bnmomentum", "batchnormmomentum"), "norm_momentum"),
    **dict.fromkeys(("outputdir", "outdir", "savedir", "workdir", "project", "logdir", "name"), "output"),
    **dict.fromkeys(("pretrained", "backboneweight", "imagenet"), "backbone_weights"),
    **dict.fromkeys(
        ("checkpoint", "initcheckpoint", "ckpt", "loadfrom", "initweights", "finetune", "finetunefrom"), "weights"
    ),
    **dict.fromkeys(("arch", "architecture", "network", "detector"), "model"),
    **dict.fromkeys(("evalevery", "evalinterval", "valinterval", "evalperiod"), "evaluate_every"),
    **dict.fromkeys(("patience", "earlystopping", "earlystoppingpatience"), "early_stop"),
    **dict.fromkeys(("autoanchor", "anchorsfromdata"), "default_boxes"),
    **dict.fromkeys(("saveevery", "saveperiod", "checkpointperiod", "snapshot"), "checkpoint_every"),
    **dict.fromkeys(("display", "printfreq", "loginterval"), "log_every"),
}
_NO_KEYS = {
    **dict.fromkeys(
        ("imgsz", "imgsize", "imagesize", "inputsize", "size"),
        "the model states the size of its input; for Mask R-CNN and Faster R-CNN set model_options.image_size",
    ),
    **dict.fromkeys(
        ("anchors", "width", "rois", "init", "stem", "identity", "ese", "style"),
        "it is an option of some models or backbones: set it under model_options, as docs/models.md says",
    ),
    **dict.fromkeys(("freeze", "frozen", "freezeat", "freezelayers"), "no setting freezes layers"),
    **dict.fromkeys(("dropout", "labelsmoothing", "mosaic", "mixup"), "there is no such setting"),
    **dict.fromkeys(
        ("antialias", "interpolation", "mean", "std", "channelorder", "pixels"),
        "set it under model_options.pixels, which has the keys mean, std, channel_order and antialias",
    ),
    **dict.fromkeys(
        ("nc", "nclass", "nclasses", "numclass", "numclasses", "classes", "names"), "the classes come from the data"
    ),
}

# pydantic's types of problems that speak of Python's types.
_PLAIN_TYPES = {"tuple_type": "a list", "dict_type": "a section with keys and values"}
_MOST_PROBLEMS = 5


def explain(schema: type[BaseModel], error: ValidationError) -> str:
    """The first problems and the number of the others."""
    shown = [line(problem, 400) for problem in islice(_problems(schema, error), _MOST_PROBLEMS)]
    while len(shown) > 1 and len("; ".join(shown)) > 400:
        shown.pop()
    more = error.error_count() - len(shown)
    return "; ".join(shown) + (f"; and {counted(more, 'other problem')}" if more > 0 else "")


def _problems(schema: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        name = ".".join(line(str(part), 60) for part in problem["loc"])
        if not name:
            yield message
        elif problem["type"] == "extra_forbidden":
            for key in _leaves(name, problem["input"]):
                yield f"unknown key {quoted(key)}{hint(schema, key)}"
        elif problem["type"] in ("model_type", "model_attributes_type"):
            keys = [f"{name}.{key}" for key in keys_of(schema, name.split("."))]
            yield f"{name} is a section, got {quoted(problem['input'])}; set its keys: {listed(keys, length=100)}"
        else:
            if problem["type"] in _PLAIN_TYPES:
                message = f"must be {_PLAIN_TYPES[problem['type']]}"
            got = "" if problem["type"] in ("missing", "value_error") else f", got {quoted(problem['input'])}"
            yield f"{name}: {message[:1].lower()}{message[1:]}{got}"


def _leaves(name: str, value: Any) -> Iterator[str]:
    """The dotted keys in an unknown section, or its own name if it is a value."""
    if not isinstance(value, dict) or not value:
        yield name
        return
    for key, inner in value.items():
        yield from _leaves(f"{name}.{line(str(key), 60)}", inner)


def hint(schema: type[BaseModel], key: str, cutoff: float = 0.6) -> str:
    """ ", did you mean …?" for an unknown dotted key, or what else helps. cutoff: how alike names must be, 0 to 1."""
    *parents, last = line(key).split(".")
    plain, known = _plain(last), list(_dotted_keys(schema))
    synonym = _SYNONYMS.get(_plain(line(key))) or _SYNONYMS.get(plain, "")
    same = [name for name in known if _plain(name.split(".")[-1]) == plain]
    same = same or [name for name in known if name in (synonym, synonym.split(".")[-1])]
    if same:
        return f", did you mean {' or '.join(map(repr, same))}?"
    if plain in _NO_KEYS and "model_options" in known:
        return f": {_NO_KEYS[plain]}"
    siblings, prefix = keys_of(schema, parents), "".join(f"{parent}." for parent in parents)
    if not siblings:  # no such section
        siblings, prefix = keys_of(schema, []), ""
    by_last = {name.split(".")[-1]: name for name in reversed(known)}  # of two, the first
    near = nearest(last, by_last, cutoff)
    elsewhere = f", did you mean {by_last[near]!r}?" if near else ""
    beside = did_you_mean(last, siblings, prefix, cutoff=cutoff)
    return beside or elsewhere or f" (known keys: {listed(siblings, length=100)})"


def keys_of(schema: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """The keys of the section at the path `parents`, none if there is no such section."""
    section: Any = schema
    for parent in parents:
        if parent.isdigit():  # of a list of sections
            continue
        field = section.model_fields.get(parent)
        section = None if field is None else section_in(field.annotation)
        if section is None:
            return []
    return list(section.model_fields)


def _dotted_keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys that hold values; those of sections in lists are left out."""
    for name, field in schema.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, or null, or a list of them; None if it holds values."""
    while not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        if not get_args(annotation):
            return None
        annotation = get_args(annotation)[0]  # tuple[DataSource, ...]
    return annotation


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
