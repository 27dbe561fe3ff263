"""Connected pieces of a three-dimensional mask, with numpy alone.

How it works: a mask is a list of runs, stretches of set voxels within a row. There are a few hundred times fewer runs
than voxels, and two runs of neighbouring rows touch when their stretches overlap, which binary search finds for all
runs at once. Pieces then are the connected components of that small graph.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


def without_small_pieces(mask: Mask, voxels: int) -> Mask:
    """The mask without those face-connected pieces that have fewer than `voxels` voxels."""
    depth, height, width = mask.shape
    # an empty voxel after each row and an empty row after each slice: no run reaches or touches across an edge
    padded = np.zeros((depth, height + 1, width + 1), dtype=np.bool_)
    padded[:, :height, :width] = mask
    flat = padded.reshape(-1)
    edges = np.flatnonzero(np.diff(flat.view(np.int8), prepend=np.int8(0)))
    starts, stops = edges[0::2], edges[1::2]
    if starts.size == 0:
        return mask.copy()
    below = _touching(starts, stops, width + 1)
    behind = _touching(starts, stops, (width + 1) * (height + 1))
    piece = _pieces(starts.size, np.concatenate([below, behind], axis=1))
    size = np.bincount(piece, weights=stops - starts, minlength=starts.size)
    small = size[piece] < voxels
    change = np.zeros(flat.size + 1, dtype=np.int8)
    change[starts[~small]] = 1
    change[stops[~small]] = -1
    kept = np.cumsum(change[:-1], dtype=np.int8).view(np.bool_)
    return kept.reshape(padded.shape)[:, :height, :width].copy()


def _touching(starts: Indices, stops: Indices, shift: int) -> Indices:
    """Pairs of runs that overlap when the first is moved by `shift`: two rows, a column per pair."""
    first = np.searchsorted(stops, starts + shift, side="right")
    last = np.searchsorted(starts, stops + shift, side="left")
    count = np.maximum(last - first, 0)
    one = np.repeat(np.arange(starts.size), count)
    nth = np.arange(one.size) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([one, np.repeat(first, count) + nth])


def _pieces(runs: int, pairs: Indices) -> Indices:
    """For each run the lowest run of its piece."""
    root = np.arange(runs)
    while True:
        one, other = root[pairs[0]], root[pairs[1]]
        if np.array_equal(one, other):
            return root
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(root, higher := root[root]):
            root = higher
