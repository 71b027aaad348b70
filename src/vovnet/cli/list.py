"""`vovnet list`."""

from __future__ import annotations

from vovnet.cli.app import app
from vovnet.cli.options import Json
from vovnet.cli.output import Output


@app.command(name="list")
def list_names(*, json_file: Json = None) -> int:
    """List detectors, backbones and bundled weights."""
    out = Output(json_file)
    from vovnet.weights.find import shipped_weights
    from vovnet.zoo import BACKBONES, DETECTORS

    names = {"models": sorted(DETECTORS), "backbones": sorted(BACKBONES), "weights": sorted(shipped_weights())}
    out.table(["kind", "names"], [[kind, "\n".join(items)] for kind, items in names.items()])
    out.json(names)
    return 0
