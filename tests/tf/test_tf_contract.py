"""The TensorFlow adapter keeps the public contract: keras.applications, KerasHub, somebody's own model.

Of keras.applications the first blocks: tracing a whole MobileNetV2 for each of these tests takes ten minutes.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import tf_models

from zoo.testing import Case, ModelContract
from zoo_tf.engine import KerasEngine


def bert(depth: int | None = None) -> KerasEngine:
    with tempfile.TemporaryDirectory() as folder:
        return tf_models.load(tf_models.bert_folder(Path(folder)), depth=depth)


class TestTensorFlow(ModelContract):
    cases = (
        Case("tf:mobilenet_v1", functools.partial(tf_models.cut, "mobilenet_v1_0.25_224", "conv_pw_3_relu")),
        Case("tf:mobilenet_v2", functools.partial(tf_models.cut, "mobilenet_v2", "block_2_add")),
        Case("tf:inception_v3", functools.partial(tf_models.cut, "inception_v3", "mixed0")),
        Case(
            "tf:nasnet_mobile", functools.partial(tf_models.cut, "nasnet_mobile", "reduction_concat_stem_1")
        ),
        Case("tf:bert", bert, at_depth=bert),
        Case("tf:wrapped", tf_models.wrapped),
    )
