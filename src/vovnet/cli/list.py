"""`vovnet list`."""

from __future__ import annotations

from vovnet.cli.app import app
from vovnet.cli.options import Json
from vovnet.cli.output import Output


@app.command(name="list")
def list_names(*, json_file: Json = None) -> int:
    """List detectors, backbones, bundled weights and published configs."""
    out = Output(json_file)
    from vovnet.engine.config import published_configs
    from vovnet.weights.find import shipped_weights
    from vovnet.zoo import BACKBONES, DETECTORS

    names = {"models": sorted(DETECTORS), "backbones": sorted(BACKBONES), "weights": sorted(shipped_weights())}
    names["configs"] = sorted(published_configs())
    out.table(["kind", "names"], [[kind, "\n".join(items)] for kind, items in names.items()])
    out.json(names)
    return 0
