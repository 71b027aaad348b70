"""Tables and sets of texts that keep keys in place of them."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from vovnet.data.keys import KeySet, are_among, are_repeated, keys_of
from vovnet.data.text_table import TextTable

ENTRIES = {f"name {number}": f"\udcff{number}" * (number % 5) for number in range(300)}


def test_a_table_is_like_a_dictionary() -> None:
    table = TextTable(ENTRIES.items())
    assert dict(table) == ENTRIES
    assert list(table) == list(ENTRIES)
    assert list(table.values()) == list(ENTRIES.values())
    assert table == ENTRIES
    assert table.get("name") is None
    assert "name 7" in table
    assert 7 not in table
    position = table.position("name 7")
    assert position is not None
    assert (table.key_at(position), table.value_at(position)) == ("name 7", ENTRIES["name 7"])
    with pytest.raises(KeyError):
        table["another"]
    assert pickle.loads(pickle.dumps(table)) == ENTRIES
    assert not TextTable()


def test_of_a_repeated_key_the_first_entry_is_found() -> None:
    assert TextTable([("a", "1"), ("b", "2"), ("a", "3")])["a"] == "1"


def test_a_set_of_keys() -> None:
    names = KeySet(keys_of(ENTRIES))
    assert all(name in names for name in ENTRIES)
    assert "name" not in names
    assert Path("name 1") in names
    assert "a" not in KeySet(keys_of(()))


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_keys_agree_with_numpy(count: int) -> None:
    numbers = random.Random(count)
    values, others = (np.array([numbers.randrange(40) for _ in range(count)], np.int64) for _ in "12")
    assert are_among(values, others).tolist() == np.isin(values, others).tolist()
    assert are_among(values, others[:0]).tolist() == [False] * count
    expected = [values.tolist().count(value) > 1 for value in values.tolist()]
    assert are_repeated(values).tolist() == expected
