"""A description of a detector with three classes, to change with `dataclasses.replace`."""

from vovnet.runtime.export_info import ExportInfo

INFO = ExportInfo(
    detector="dsod300_vovnet27_slim",
    class_names=("RBC", "WBC", "Platelets"),
    category_ids=(1, 2, 3),
    image_size=(300, 300),
    keep_ratio=False,
    antialias=True,
    score_threshold=0.01,
    nms_threshold=0.45,
    candidates=400,
    top_k=200,
    masks=False,
    precision="float32",
    weights_sha256="0" * 64,
    vovnet="0.1.0",
)
