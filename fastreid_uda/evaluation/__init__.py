"""Scores of a re-identification model on a query and a gallery.

Letters used for shapes throughout the package: Q queries, G gallery images, D feature dimensions,
B queries of one block.

Importing this package imports nothing: `ranking`, `reranking` and `feature_files` stay usable
without torch and fast-reid, only `reid_evaluator` needs them.
"""
