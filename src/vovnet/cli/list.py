"""`vovnet list`."""

from __future__ import annotations

from vovnet.cli.app import app
from vovnet.cli.options import Json
from vovnet.cli.output import Output
from vovnet.names import BACKBONE_NAMES, DETECTORS, published_configs, shipped_weights


@app.command(name="list")
def list_names(*, json_file: Json = None) -> int:
    """List detectors, backbones, bundled weights and published configs."""
    out = Output(json_file)
    names = {
        "models": sorted(DETECTORS),
        "backbones": sorted(BACKBONE_NAMES),
        "weights": sorted(shipped_weights()),
        "configs": sorted(published_configs()),
    }
    rows = [[kind if number == 0 else "", name] for kind, items in names.items() for number, name in enumerate(items)]
    out.table(["kind", "names"], rows)
    out.json(names)
    return 0
