"""Keras to ONNX without tracing: Keras's own functional graph is walked, layer by layer, into a channels-first one.

Read `walk.py` first. A layer's meaning in ONNX is one function in `lowerings/`, found by the layer's exact class.
What has no such function, or is set to something that the function does not know, is refused by name
(`RefusedError`), and another exporter does it.
"""

from zoo_tf.walker.values import RefusedError
from zoo_tf.walker.writing import export

__all__ = ["RefusedError", "export"]
