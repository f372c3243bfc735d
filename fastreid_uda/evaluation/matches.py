"""Finds the matches of queries in a gallery, and their ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import compiled
from ..compiled import read_only
from ..errors import UserError

_ROWS_PER_TASK = 16
_FEW_MATCHES = 1024  # up to which counting for every match is faster than searching for every image


class Labels:
    """The identity and camera of each image of one side."""

    def __init__(self, side: str, identities: np.ndarray, camera_ids: np.ndarray) -> None:
        self.side = side
        self.identities, self.camera_ids = np.asarray(identities), np.asarray(camera_ids)
        for name, values in (("identities", self.identities), ("camera ids", self.camera_ids)):
            if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
                raise UserError(
                    f"The {side} {name} are {values.dtype} of shape {values.shape}, but must be "
                    "integers of shape (images,), at least one."
                )
        self.require_rows(len(self.camera_ids))
        self.identities = self.identities.astype(np.int64, copy=False)
        self.camera_ids = self.camera_ids.astype(np.int64, copy=False)

    def __len__(self) -> int:
        return len(self.identities)

    def require_rows(self, rows: int) -> None:
        """Raise a UserError unless there are so many images."""
        if rows != len(self):
            raise UserError(
                f"The {self.side} has {len(self)} identities, but {rows} feature rows or camera "
                "ids; every image needs one of each."
            )


@dataclass(frozen=True)
class Matches:
    """The gallery images with the identity of each query: its matches, and those that are removed.

    Attributes:
        images: (G,) int64, gallery indices by identity, then by camera, ascending within both.
        bounds: (Q, 4) int64: of query q, `images[bounds[q, 0] : bounds[q, 3]]` have the identity;
            from `bounds[q, 1]` to `bounds[q, 2]` also the camera, and are removed.
        counts: (Q,) int64, the number of matches.
    """

    images: np.ndarray
    bounds: np.ndarray
    counts: np.ndarray

    @staticmethod
    def find(queries: Labels, gallery: Labels) -> Matches:
        """Raises a UserError if no query has a match."""
        images = np.lexsort((gallery.camera_ids, gallery.identities))
        identities, starts = np.unique(gallery.identities[images], return_index=True)
        edges = np.append(starts, len(images))
        place = np.searchsorted(identities, queries.identities)
        place = np.minimum(place, len(identities) - 1)
        known = identities[place] == queries.identities
        bounds = np.zeros((len(queries), 4), dtype=np.int64)
        bounds[:, 0], bounds[:, 3] = edges[place], np.where(known, edges[place + 1], edges[place])
        # Cameras are looked up within the identity: (identity, camera) as one ascending number.
        cameras = np.union1d(gallery.camera_ids, queries.camera_ids)
        codes = np.repeat(np.arange(len(identities)), np.diff(edges)) * len(cameras)
        codes += np.searchsorted(cameras, gallery.camera_ids[images])
        wanted = place * len(cameras) + np.searchsorted(cameras, queries.camera_ids)
        bounds[:, 1] = np.where(known, np.searchsorted(codes, wanted, side="left"), bounds[:, 0])
        bounds[:, 2] = np.where(known, np.searchsorted(codes, wanted, side="right"), bounds[:, 0])
        counts = bounds[:, 3] - bounds[:, 0] - (bounds[:, 2] - bounds[:, 1])
        if not counts.any():
            raise UserError(_why_no_match(known.any(), cameras))
        return Matches(read_only(images), bounds, counts)

    def of_queries(self, start: int, stop: int) -> Matches:
        """Those of some queries alone."""
        return Matches(self.images, self.bounds[start:stop], self.counts[start:stop])

    def ranked(self, block: np.ndarray) -> np.ndarray:
        """Ascending ranks of the matches of each query, one query after the other.

        Args:
            block: (B, G) distances of these queries, without NaN.

        Returns:
            (P,) int64, `counts[q]` of query q; ranks are those among the gallery without the
            removed images, and the closest image has rank 1.
        """
        places = np.concatenate([[0], np.cumsum(self.counts)])
        ranks = np.empty(places[-1], dtype=np.int64)
        if compiled.available() and block.dtype == np.float32:
            from . import kernels

            block, bounds = read_only(block), read_only(self.bounds)

            def rank(start: int, stop: int) -> None:
                own, ends = bounds[start:stop], read_only(places[start : stop + 1])
                kernels.rank_rows(block[start:stop], self.images, own, ends, _FEW_MATCHES, ranks)

            compiled.over_rows(rank, len(block), _ROWS_PER_TASK)
        else:
            for query in np.flatnonzero(self.counts).tolist():
                start, removed_start, removed_stop, stop = self.bounds[query]
                matches = self.images[start:removed_start], self.images[removed_stop:stop]
                ranks[places[query] : places[query + 1]] = _match_ranks(
                    block[query],
                    np.sort(np.concatenate(matches)),
                    self.images[removed_start:removed_stop],
                )
        return ranks


def _why_no_match(known: bool, cameras: np.ndarray) -> str:
    if not known:
        return (
            "No query identity occurs in the gallery, so nothing can be scored; give query and "
            "gallery of the same people with the same numbering of identities."
        )
    cause = f" (every camera id is {cameras[0]})" if len(cameras) == 1 else ""
    return (
        f"Every gallery image of a query's identity is from the query's own camera{cause} and "
        "is removed by the protocol; check the camera ids, or without cameras give the gallery "
        "another camera id than the queries."
    )


def _match_ranks(row: np.ndarray, matches: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Ascending ranks of the matches among the gallery without the removed images.

    Args:
        row: (G,) distances of one query.
        matches: (M,) gallery indices, ascending, M >= 1.
        removed: (R,) gallery indices that take no part.

    Returns:
        (M,) int64; the closest image has rank 1.
    """
    matches = matches[np.argsort(row[matches], kind="stable")]
    distances = row[matches]
    ahead = row <= distances[-1]
    ahead[removed] = False
    images = np.flatnonzero(ahead)
    places = np.searchsorted(distances, row[images])  # the first match that an image stands before
    # Among equal distances the index decides: each group of equal matches is searched for it.
    tied = np.flatnonzero(distances[places] == row[images])
    groups = np.searchsorted(distances, distances)
    keys = groups * len(row) + matches
    places[tied] = np.searchsorted(keys, places[tied] * len(row) + images[tied])
    return np.cumsum(np.bincount(places, minlength=len(matches) + 1)[: len(matches)])
