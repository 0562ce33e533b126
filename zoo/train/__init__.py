"""Training, saving and judging: the loop in the core that is the same for every framework."""

from zoo.train.features import FeatureCache, backbone_graph, export
from zoo.train.finder import RateSearch, find_lr
from zoo.train.history import History
from zoo.train.loop import CHECKPOINT_SECONDS
from zoo.train.metrics import evaluate, paired_interval, softmax, wilson_interval
from zoo.train.schedule import rate
from zoo.train.store import load, read_meta, save
from zoo.train.tensors import weights_hash
from zoo.train.training import check_head, fit, fit_head

__all__ = [
    "CHECKPOINT_SECONDS",
    "FeatureCache",
    "History",
    "RateSearch",
    "backbone_graph",
    "check_head",
    "evaluate",
    "export",
    "find_lr",
    "fit",
    "fit_head",
    "load",
    "paired_interval",
    "rate",
    "read_meta",
    "save",
    "softmax",
    "weights_hash",
    "wilson_interval",
]
