#!/usr/bin/env python3
"""Converts weights of Keras and Flax to safetensors, with torchvision's names and layouts: `fetch.py` runs this.

The converted files lack the classifier. `fetch.py` installs the libraries: h5py, numpy, onnx and safetensors.
"""

import argparse
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

# The tracer normalises photos by ImageNet's mean and deviation, per channel in the order red, green, blue.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# Layers under `features` of torchvision's models that are convolutions.
ALEXNET_CONVOLUTIONS = (0, 3, 6, 8, 10)
VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)

# Epsilon of batch normalisation, which is added to the variance.
EPSILON_KERAS = 1e-3
EPSILON_TORCHVISION = 1e-5

Tensors = dict[str, np.ndarray]


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of NumPy arrays in dictionaries. It refuses all other types, since these could run code."""

    TYPES = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__new__,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.TYPES:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed, only NumPy arrays are")
        return self.TYPES[module, name]


def convert_alexnet(flax: Mapping[str, Mapping[str, np.ndarray]]) -> Tensors:
    """Converts layers `Conv_0` to `Conv_4` with a kernel (rows, columns, in, out) and a bias.

    Their pixels are normalised as the tracer's, so the first layer needs no change.
    """
    if len(flax) != len(ALEXNET_CONVOLUTIONS):
        raise ValueError(f"AlexNet has {len(ALEXNET_CONVOLUTIONS)} convolutions, the file has {len(flax)}")
    tensors = {}
    for position, index in enumerate(ALEXNET_CONVOLUTIONS):
        layer = flax[f"Conv_{position}"]
        tensors[f"features.{index}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        tensors[f"features.{index}.bias"] = layer["bias"]
    return tensors


def convert_vgg16(convolutions: list[tuple[np.ndarray, np.ndarray]]) -> Tensors:
    """Converts pairs of a kernel (out, in, rows, columns) and a bias, from the input to the output of the model."""
    tensors = {}
    for index, (kernel, bias) in zip(VGG16_CONVOLUTIONS, convolutions, strict=True):
        tensors[f"features.{index}.weight"] = kernel
        tensors[f"features.{index}.bias"] = bias
    # Keras subtracts the mean from pixels of 0 to 255, in the order blue, green, red.
    reversed_channels = tensors["features.0.weight"][:, ::-1]
    tensors["features.0.weight"] = reversed_channels * (255 * DEVIATION)[:, None, None]
    return tensors


def convert_mobilenet_v2(keras: Mapping[str, np.ndarray]) -> Tensors:
    """Converts kernels `LAYER/kernel` and normalisations `LAYER/gamma`, `beta`, `moving_mean` and `moving_variance`."""
    tensors = {}
    for convolution, norm, target, target_norm in list_mobilenet_v2_layers():
        # Keras: (rows, columns, in, out); depthwise: (rows, columns, channels, 1).
        order = (2, 3, 0, 1) if convolution.endswith("_depthwise") else (3, 2, 0, 1)
        tensors[f"{target}.weight"] = np.ascontiguousarray(keras[f"{convolution}/kernel"].transpose(order))
        tensors[f"{target_norm}.weight"] = keras[f"{norm}/gamma"]
        tensors[f"{target_norm}.bias"] = keras[f"{norm}/beta"]
        tensors[f"{target_norm}.running_mean"] = keras[f"{norm}/moving_mean"]
        variance = keras[f"{norm}/moving_variance"]
        tensors[f"{target_norm}.running_var"] = variance + np.float32(EPSILON_KERAS - EPSILON_TORCHVISION)
    adapt_to_normalised_pixels(tensors)
    return tensors


def adapt_to_normalised_pixels(tensors: Tensors) -> None:
    """Makes the first layer of MobileNet-v2 take normalised pixels instead of pixels from -1 to 1.

    A pixel from -1 to 1 is 2 * deviation * normalised + (2 * mean - 1). The factor is moved into the kernel. The
    constant shifts the convolution's output, so the normalisation that follows subtracts less.
    """
    kernel = tensors["features.0.0.weight"]
    shifted = kernel * (2 * MEAN - 1)[:, None, None]
    # One contiguous row per filter: the order of a sum, and thus the checksum of the file, depends on the layout.
    shift = shifted.reshape(len(kernel), -1).sum(axis=1)
    tensors["features.0.0.weight"] = kernel * (2 * DEVIATION)[:, None, None]
    tensors["features.0.1.running_mean"] = tensors["features.0.1.running_mean"] - shift


def list_mobilenet_v2_layers() -> Iterator[tuple[str, str, str, str]]:
    """Yields a convolution and its normalisation by Keras's names, then the same by torchvision's names."""
    yield "Conv1", "bn_Conv1", "features.0.0", "features.0.1"
    # The first block has no expansion.
    yield from list_block_layers("expanded_conv", "features.1.conv", ("depthwise", "project"))
    for block in range(1, 17):
        parts = ("expand", "depthwise", "project")
        yield from list_block_layers(f"block_{block}", f"features.{block + 1}.conv", parts)
    yield "Conv_1", "Conv_1_bn", "features.18.0", "features.18.1"


def list_block_layers(block: str, target: str, parts: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    for index, part in enumerate(parts):
        convolution = f"{block}_{part}"
        if part == "project":  # It has no activation, so torchvision does not group it with its normalisation.
            yield convolution, f"{convolution}_BN", f"{target}.{index}", f"{target}.{index + 1}"
        else:
            yield convolution, f"{convolution}_BN", f"{target}.{index}.0", f"{target}.{index}.1"


def read_convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads kernels and biases of all convolutions of an ONNX file, in the order of execution."""
    import onnx

    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    to_array = onnx.numpy_helper.to_array
    return [(to_array(constants[node.input[1]]), to_array(constants[node.input[2]])) for node in nodes]


def read_keras(path: Path, model: str) -> Tensors:
    """Reads the tensors of a nested model in a Keras HDF5 file, by names `LAYER/TENSOR`."""
    import h5py

    tensors = {}
    with h5py.File(path) as file:
        for layer, group in file["model_weights"][model].items():
            tensors |= {f"{layer}/{name}": dataset[()] for name, dataset in group.items()}
    return tensors


def read_flax(path: Path, model: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Reads the layers of a model in a pickled Flax checkpoint."""
    with path.open("rb") as file:
        return ArrayUnpickler(file).load()[model]


def convert(model: str, source: Path) -> Tensors:
    if model == "alexnet":
        return convert_alexnet(read_flax(source, "AlexNet_0"))
    if model == "vgg16":
        return convert_vgg16(read_convolutions(source))
    return convert_mobilenet_v2(read_keras(source, "mobilenetv2_1.00_160"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["alexnet", "vgg16", "mobilenet_v2"])
    parser.add_argument("source", type=Path, help="alexnet: a Flax pickle; vgg16: ONNX; mobilenet_v2: Keras HDF5")
    parser.add_argument("target", type=Path, help="the safetensors file to write")
    arguments = parser.parse_args()

    from safetensors.numpy import save

    arguments.target.write_bytes(save(convert(arguments.model, arguments.source)))


if __name__ == "__main__":
    main()
