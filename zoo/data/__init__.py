"""Data: opening it, splitting it, and turning it into the arrays that a network takes."""

from zoo.data.augment import Augmentation, augmentation
from zoo.data.batches import batches, data_threads, prepare
from zoo.data.dataset import Dataset, Input, Kind
from zoo.data.inputs import open_inputs
from zoo.data.parts import DataParts, find_parts
from zoo.data.seen import Seen, refuse_seen, seen, seen_from_dict, seen_to_dict, share_seen
from zoo.data.sources import open_data
from zoo.data.split import epoch_order, folds, split
from zoo.data.text import token_lengths, train_tokenizer

__all__ = [
    "Augmentation",
    "DataParts",
    "Dataset",
    "Input",
    "Kind",
    "Seen",
    "augmentation",
    "batches",
    "data_threads",
    "epoch_order",
    "find_parts",
    "folds",
    "open_data",
    "open_inputs",
    "prepare",
    "refuse_seen",
    "seen",
    "seen_from_dict",
    "seen_to_dict",
    "share_seen",
    "split",
    "token_lengths",
    "train_tokenizer",
]
