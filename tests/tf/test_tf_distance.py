"""The statistics of batch norm on the user's data, asked of Keras through training steps alone."""

from __future__ import annotations

import numpy as np
from tf_models import narrow

from zoo.choose import distance
from zoo_tf.start import keras


def test_statistics_are_those_of_each_layers_inputs() -> None:
    """Against Keras's own outputs of every layer before a batch norm, in training mode."""
    engine = narrow(classes=4)
    engine.set_trainable(engine.blocks)
    images = np.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype(np.float32)
    before = engine.state()
    keys = distance.pairs(engine)
    found = distance.statistics(engine, keys, [{"images": images}])
    assert all(np.array_equal(before[key], value) for key, value in engine.state().items())

    norms = [x for x in engine.module.layers if isinstance(x, keras.layers.BatchNormalization)]
    probe = keras.Model(engine.module.inputs, [layer.input for layer in norms])
    outputs = probe(images.transpose(0, 2, 3, 1), training=True)
    assert len(norms) == len(keys) > 20
    for layer, output in zip(norms, outputs, strict=True):
        values = np.asarray(output, np.float64)
        mean, variance = (f"{layer.name}/moving_{name}" for name in ("mean", "variance"))
        np.testing.assert_allclose(found[mean], values.mean((0, 1, 2)), atol=2e-3)
        np.testing.assert_allclose(found[variance], values.var((0, 1, 2)), rtol=2e-2, atol=2e-3)
