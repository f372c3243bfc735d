"""Numba kernels of labeling; see `fastreid_uda.compiled` for when and how they are imported."""
