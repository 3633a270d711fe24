"""ResNet-20 of leanfit's CIFAR-10 checkpoint in Keras, as .onnx and .tflite: the same weights for three runtimes.

    python benchmarks/keras_resnet20.py resnet20_cifar10.npz OUT     # in an environment with tensorflow-cpu and tf2onnx
    leanfit bench OUT/resnet20.onnx OUT/resnet20.onnx@openvino OUT/resnet20.tflite --seconds 20

The .npz holds the checkpoint's state dict: np.savez(path, **{k: v.numpy() for k, v in torch.load(...).items()}).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def convolved(x: Any, weights: Any, name: str, stride: int) -> Any:
    """A convolution of 3 by 3 and its batch norm, padded as torch pads."""
    kernel = weights[f"{name}.weight"]
    x = keras.layers.ZeroPadding2D(1)(x)
    layer = keras.layers.Conv2D(kernel.shape[0], 3, strides=stride, padding="valid", use_bias=False)
    x = layer(x)
    layer.set_weights([kernel.transpose(2, 3, 1, 0)])
    norm = keras.layers.BatchNormalization(epsilon=1e-5)
    x = norm(x)
    place = name.replace("conv", "bn")
    norm.set_weights([weights[f"{place}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    return x


def resnet20(weights: Any) -> keras.Model:
    """He et al. 2016, section 4.2, with shortcuts of option A."""
    given = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(convolved(given, weights, "conv1", 1))
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = keras.layers.ReLU()(convolved(x, weights, f"{place}.conv1", stride))
            y = convolved(y, weights, f"{place}.conv2", 1)
            if stride == 2:
                more = (y.shape[-1] - x.shape[-1]) // 2
                x = keras.ops.pad(x[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [more, more]])
            x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    head = "fc" if "fc.weight" in weights else "linear"
    last = keras.layers.Dense(10)
    out = last(keras.layers.GlobalAveragePooling2D()(x))
    last.set_weights([weights[f"{head}.weight"].T, weights[f"{head}.bias"]])
    return keras.Model(given, out)


def main() -> None:
    """Write both files."""
    weights, folder = np.load(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    model = resnet20(weights)
    model(np.zeros((1, 32, 32, 3), np.float32))  # Keras exports only what was called
    model.export(str(folder / "resnet20.onnx"), format="onnx")
    (folder / "resnet20.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


if __name__ == "__main__":
    main()
