"""Pages from templates: text of strangers stays text, and a page loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any


def render(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """The page of a template, by its path in this package. It also gets `style`, `scripts` as they are, and the
    `policy` that allows these alone."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("vovnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": False, "separators": (",", ":")}
    style = (resources.files("vovnet.report") / "page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        policy=content_policy(scripts),
        **values,
    )


def content_policy(scripts: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of a page with these scripts, known by their hashes; without any, none runs.

    Pictures are those in the page itself; with scripts also those that these make.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = "".join(f" 'sha256-{one}'" for one in hashes)
    return (
        "default-src 'none'; "
        + (f"script-src{allowed}; " if scripts else "")
        + f"style-src 'unsafe-inline'; img-src data:{' blob:' if scripts else ''}; "
        "base-uri 'none'; form-action 'none'"
    )
