"""How the three traditions prepare a photograph; the names are Keras's.

Sources: torchvision's ImageNet transforms; keras.applications.imagenet_utils.preprocess_input.
"""

from __future__ import annotations

from zoo.cards import ImagePreprocess

PRESETS = {
    "torch": ImagePreprocess(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "tf": ImagePreprocess(224, 224, scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "caffe": ImagePreprocess(224, 224, scale=1.0, mean=(103.939, 116.779, 123.68), channels="BGR"),
}
