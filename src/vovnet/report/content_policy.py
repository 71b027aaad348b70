"""What a page of ours may load: nothing from anywhere else, and no script but those that were written into it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence


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
