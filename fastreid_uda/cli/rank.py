"""Scores saved features: Rank-1, Rank-5, Rank-10, mAP and mINP in percent, as one JSON line."""

from __future__ import annotations

import argparse
import json
import time

from ..evaluation.distances import METRICS
from ..evaluation.feature_files import LabeledFeatures, read_pair
from ..evaluation.ranking import evaluate_ranking
from ..evaluation.reranking import reranked_distances
from ..memory import peak_rss_mb
from ..progress import show_on_stderr
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; the defaults are fast-reid's."""
    files = "Each file holds features (N, D) float, identities (N,) int and camera_ids (N,) int."
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=f"{__doc__} {files}", formatter_class=formatter)
    add = parser.add_argument
    add("query", metavar="QUERY.npz", help="the images to search for")
    add("gallery", metavar="GALLERY.npz", help="the images to search in")
    add("--metric", choices=METRICS, default="cosine", help="distance between features")
    add("--rerank", action="store_true", help="re-rank with the k-reciprocal Jaccard distance")
    add("--k1", type=int, default=20, help="re-ranking: length of the neighbour lists")
    add("--k2", type=int, default=6, help="re-ranking: neighbours averaged, 1 for none")
    add("--lambda", dest="share", type=float, default=0.3, help="re-ranking: share of --metric")
    return parser.parse_args(arguments)


def score(query: LabeledFeatures, gallery: LabeledFeatures, args: argparse.Namespace) -> dict:
    """The printed figures."""
    start = time.perf_counter()
    distances = None
    if args.rerank:
        distances = reranked_distances(
            query.features,
            gallery.features,
            metric=args.metric,
            k1=args.k1,
            k2=args.k2,
            lambda_value=args.share,
        )
    scores = evaluate_ranking(
        query.features,
        gallery.features,
        query.identities,
        gallery.identities,
        query.camera_ids,
        gallery.camera_ids,
        metric=args.metric,
        distances=distances,
    )
    return {
        **scores.percentages(),
        "queries": len(query.features),
        "valid_queries": scores.num_valid_queries,
        "seconds": round(time.perf_counter() - start, 3),
        "peak_rss_mb": peak_rss_mb(),
    }


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    return exit_code(lambda: print(json.dumps(score(*read_pair(args.query, args.gallery), args))))
