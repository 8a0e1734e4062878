"""Datasets in three fixed splits, and going through them in batches."""

from certiprune.data.augment import Augment
from certiprune.data.batches import batches
from certiprune.data.registry import available, load, names
from certiprune.data.types import Batch, Dataset, DatasetInfo, Split

__all__ = ["Augment", "Batch", "Dataset", "DatasetInfo", "Split", "available", "batches", "load", "names"]
