"""ONNX: export an engine, check it against the native model, run it, cut it, put a head on it, make it smaller.

A file made here needs no framework to be used: preprocessing, labels, provenance and a golden pair of input
and output travel in its metadata.
"""

from zoo.graph.calibrating import calibration_part
from zoo.graph.export import OPSET, export_engine
from zoo.graph.judging import VariantReport, explain_loss, judge_variant
from zoo.graph.parity import verify
from zoo.graph.precision import PRECISIONS, Precision, Settings
from zoo.graph.runtime import OnnxModel, cut_depth
from zoo.graph.script import write_predict_script

__all__ = [
    "OPSET",
    "PRECISIONS",
    "OnnxModel",
    "Precision",
    "Settings",
    "VariantReport",
    "calibration_part",
    "cut_depth",
    "explain_loss",
    "export_engine",
    "judge_variant",
    "verify",
    "write_predict_script",
]
