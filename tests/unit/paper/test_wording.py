"""Texts of old records in today's words."""

from __future__ import annotations

import pytest

from vovnet.paper.wording import current_wording


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CPU, 1 threads, x86_64", "CPU, 1 thread, x86_64"),
        ("CPU, 11 threads, x86_64", "CPU, 11 threads, x86_64"),
        ("peak resident set of a clean process, less", "peak resident set of a fresh process, less"),
        (
            "no CPU package counter in /sys/class/powercap: "
            "this machine has none, or a virtual machine or container hides it",
            "no RAPL counter in /sys/class/powercap; it is absent or hidden by a virtual machine or container",
        ),
        ("board power is not published", "board power is not published"),
    ],
)
def test_only_outdated_words_change(old, new):
    assert current_wording(old) == new
