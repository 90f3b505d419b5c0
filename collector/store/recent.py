"""The keys of rows that were stored lately, in memory: tells at once which rows of a batch cannot have been stored before.

Owns no file and knows no table. A key is 64 bits of a hash, so a hit is a suspicion, never a verdict: the store looks a suspect up by its whole key. What is not
suspect is new for certain, because every stored row whose time is not before `covered_from_ns` has its key here, and any older row is suspect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Times = NDArray[np.int64]
_EVER = np.iinfo(np.int64).min


class Recent:
    """Keys of one table. One thread uses it. Bounded: the keys of the oldest rows go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._runs: list[tuple[Keys, Times]] = []
        self.covered_from_ns = int(_EVER)

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._runs)

    def suspects(self, keys: Keys, times: Times) -> tuple[NDArray[np.bool_], int, int]:
        """Which rows of a batch may be stored already, or stand twice in the batch; and between which times the rows that they may equal lie."""
        mask = times < self.covered_from_ns
        stored = [times[mask]]
        for run, run_times in self._runs:
            if len(run):
                places = np.searchsorted(run, keys)
                places[places == len(run)] = 0
                hits = run[places] == keys
                stored.append(run_times[places[hits]])
                mask |= hits
        order = np.argsort(keys)
        twins = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        mask[order[twins]] = True
        mask[order[twins + 1]] = True
        near = np.concatenate([*stored, times[mask]])
        return mask, int(near.min()) if len(near) else 0, int(near.max()) if len(near) else 0

    def add(self, keys: Keys, times: Times) -> None:
        """Rows that were stored."""
        order = np.argsort(keys)
        self._runs.append((keys[order], times[order]))
        # Runs of like length are merged, so that there are few of them and each key is moved a logarithmic number of times.
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            later = self._runs.pop()
            self._runs[-1] = _merged([self._runs[-1], later])
        if len(self) > self._capacity + self._capacity // 4:
            self._evict()

    def _evict(self) -> None:
        keys, times = _merged(self._runs)
        cut = max(1, len(times) - self._capacity)
        border = int(np.partition(times, cut - 1)[cut - 1])
        keep = times > border
        self.covered_from_ns = max(self.covered_from_ns, border + 1)
        self._runs = [(keys[keep], times[keep])]


def _merged(runs: list[tuple[Keys, Times]]) -> tuple[Keys, Times]:
    keys = np.concatenate([keys for keys, _ in runs])
    times = np.concatenate([times for _, times in runs])
    order = np.argsort(keys, kind="stable")
    keys, times = keys[order], times[order]
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]  # what was sent again needs no second place
    return keys[first], times[first]
