"""Distributes groups of images over splits so that each split has its share of every class.

Iterative stratification for several labels (Sechidis et al., 2011), with groups in place of single examples.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np


def stratify(
    group_classes: Sequence[Counter[str]], group_sizes: Sequence[int], shares: Sequence[float], seed: int
) -> array[int]:
    """The split of each group, as a position in `shares`.

    The rarest class comes first. Every split has its share of the images within the size of a group; only to give the
    first two splits a class that they would lack may the second have more.

    group_classes: number of images of the group in which each class occurs; "" may stand for images without objects.
    shares: of the splits, above 0 and 1 together. The first one is for training, and has the classes of one group.
    """
    return _Division(group_classes, group_sizes, shares, seed).run()


class _Division:
    def __init__(
        self, group_classes: Sequence[Counter[str]], group_sizes: Sequence[int], shares: Sequence[float], seed: int
    ) -> None:
        self.classes, self.sizes = group_classes, group_sizes
        self.splits = range(len(shares))
        totals: Counter[str] = Counter()
        self.groups_of: dict[str, array[int]] = {}
        shuffled = np.random.default_rng(seed).permutation(len(group_sizes))
        by_size = np.argsort(-np.asarray(group_sizes, np.int64)[shuffled], kind="stable")  # while there is room
        for group in array("q", shuffled[by_size].astype(np.int64).tobytes()):
            totals.update(group_classes[group])
            for name in group_classes[group]:
                self.groups_of.setdefault(name, array("I")).append(group)
        self.rooms = _whole_parts(sum(group_sizes), shares)
        self.wanted = {name: [share * total for share in shares] for name, total in totals.items()}
        self.left = totals  # images of each class in groups that have no split yet
        self.split_of = array("i", [-1]) * len(group_sizes)
        self.has: list[set[str]] = [set() for _ in shares]

    def run(self) -> array[int]:
        for split in self.splits[1:2]:
            self._give_every_class(split)
        while any(self.left.values()):
            name = min((name for name, count in self.left.items() if count), key=lambda name: (self.left[name], name))
            for group in self.groups_of[name]:
                if self.split_of[group] < 0:
                    self._assign(group, self._best_split(group, name))
        for group, split in enumerate(self.split_of):
            if split < 0:  # without any class, not even ""
                self._assign(group, self._best_split(group, ""))
        return self.split_of

    def _give_every_class(self, split: int) -> None:
        """Give a split a group of each class that has another group, which stays for training."""
        free = {name: len(groups) for name, groups in self.groups_of.items()}
        for name in sorted(self.groups_of, key=lambda name: (free[name], name)):
            if name in self.has[split]:
                continue
            candidates = (
                group
                for group in self.groups_of[name]
                if self.split_of[group] < 0 and all(free[other] > 1 for other in self.classes[group])
            )
            # One that also has other classes which the split lacks, and few images.
            best = max(candidates, key=lambda g: self._worth(g, split), default=None)
            if best is not None:
                free.update({other: free[other] - 1 for other in self.classes[best]})
                self._assign(best, split)

    def _worth(self, group: int, split: int) -> tuple[int, int]:
        return len(self.classes[group].keys() - self.has[split]), -self.sizes[group]

    def _best_split(self, group: int, name: str) -> int:
        """The split that wants most images of the class, among those with room for the group."""
        size = self.sizes[group]
        fitting = [split for split in self.splits if self.rooms[split] >= size]
        most_room = max(self.rooms)
        fitting = fitting or [split for split in self.splits if self.rooms[split] == most_room]
        wanted = self.wanted.get(name) or self.rooms
        return max(fitting, key=lambda split: (round(wanted[split], 9), self.rooms[split], -split))

    def _assign(self, group: int, split: int) -> None:
        self.split_of[group] = split
        self.rooms[split] -= self.sizes[group]
        self.has[split].update(self.classes[group])
        for name, count in self.classes[group].items():
            self.wanted[name][split] -= count
            self.left[name] -= count


def _whole_parts(total: int, shares: Iterable[float]) -> list[int]:
    """The shares of a number as whole numbers with this sum: those that lose most by rounding down get one more."""
    exact = [total * share for share in shares]
    parts = [int(part + 1e-9) for part in exact]
    order = sorted(range(len(parts)), key=lambda index: (parts[index] - exact[index], index))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    while 0 in parts and total >= len(parts):  # a split without images is none
        parts[parts.index(max(parts))] -= 1
        parts[parts.index(0)] += 1
    return parts
