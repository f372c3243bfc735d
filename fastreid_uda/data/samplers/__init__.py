"""Samplers of training batches."""

from .batch_samplers import IdentityBatchSampler, RandomBatchSampler, build_batch_sampler

__all__ = ["IdentityBatchSampler", "RandomBatchSampler", "build_batch_sampler"]
