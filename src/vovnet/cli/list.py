"""`vovnet list`."""

from __future__ import annotations

from vovnet.cli.app import app
from vovnet.cli.output import Json, Output


@app.command(name="list")
def list_names(*, json_file: Json = None) -> int:
    """Models, backbones and shipped weights.

    Parameters
    ----------
    json_file:
        Write the names as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.weights.find import shipped_weights
    from vovnet.zoo import BACKBONES, DETECTORS

    names = {"models": sorted(DETECTORS), "backbones": sorted(BACKBONES), "weights": sorted(shipped_weights())}
    out.table(["kind", "names"], [[kind, "\n".join(items)] for kind, items in names.items()])
    out.json(names)
    return 0
