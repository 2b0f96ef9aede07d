#!/usr/bin/env python3
"""The networks that tools/make_ocr_peers.py wrote, in PyTorch: needs torch and numpy alone.

`peer_onnx.py FOLDER` prints how far each is from ONNX Runtime's output, on the CPU.
"""

import json
import pathlib
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional as F


def pads_of(attrs):
    """ONNX's begin..., end... as one number a dimension; these networks pad both ends alike."""
    pads = attrs.get("pads", [0, 0, 0, 0])
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise ValueError(f"pads {pads} differ")
    return pads[:half]


def conv(attrs, x, weight, bias=None):
    how = attrs["strides"], pads_of(attrs), attrs["dilations"], attrs["group"]
    return F.conv2d(x, weight, bias, *how)


def conv_transpose(attrs, x, weight, bias=None):
    how = attrs["strides"], pads_of(attrs), 0, attrs["group"], attrs["dilations"]
    return F.conv_transpose2d(x, weight, bias, *how)


def average_pool(attrs, x):
    kernel, strides = attrs["kernel_shape"], attrs["strides"]
    return F.avg_pool2d(x, kernel, strides, pads_of(attrs), count_include_pad=False)


def max_pool(attrs, x):
    return F.max_pool2d(x, attrs["kernel_shape"], attrs["strides"], pads_of(attrs))


def reshape(_, x, shape):
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def slice_(_, x, starts, ends, axes, steps=None):
    for i, axis in enumerate(axes):
        if steps is not None and steps[i] != 1:
            raise ValueError("a slice with a step")
        x = x.narrow(axis, starts[i], min(ends[i], x.shape[axis]) - starts[i])
    return x


def squeeze(attrs, x, axes=None):
    return x.squeeze(tuple(axes or attrs["axes"]))


def hard_sigmoid(attrs, x):
    return torch.clamp(x * attrs["alpha"] + attrs["beta"], 0, 1)


def gemm(attrs, a, b, c):
    if attrs.get("transA") or attrs.get("alpha", 1) != 1 or attrs.get("beta", 1) != 1:
        raise ValueError(f"a product with {attrs}")
    return torch.addmm(c, a, b.t() if attrs.get("transB") else b)


def resize(attrs, x):
    return F.interpolate(x, scale_factor=attrs["scales"][2:], mode="nearest")


FUNCTIONS = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": average_pool,
    "Concat": lambda attrs, *x: torch.cat(x, attrs["axis"]),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "LayerNorm": lambda attrs, x, w, b: F.layer_norm(x, w.shape, w, b, attrs["epsilon"]),
    "MatMul": lambda _, a, b: a @ b,
    "MaxPool": max_pool,
    "Mul": lambda _, a, b: a * b,
    "Relu": lambda _, x: F.relu(x),
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": slice_,
    "Softmax": lambda attrs, x: torch.softmax(x, attrs["axis"]),
    "Squeeze": squeeze,
    "Swish": lambda _, x: F.silu(x),
    "Transpose": lambda attrs, x: x.permute(attrs["perm"]),
}


class OnnxNet(nn.Module):
    """One input, one output. Inputs of nodes are names of values and parameters, numbers, lists."""

    def __init__(self, path):
        super().__init__()
        path = pathlib.Path(path)
        text = json.loads(path.with_suffix(".json").read_text())
        self.input, self.output, self.nodes = text["input"], text["output"], text["nodes"]
        with numpy.load(path.with_suffix(".npz")) as arrays:
            tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
        self.sample = tensors.pop("x"), tensors.pop("y")
        for name, value in tensors.items():
            self.register_parameter(name, nn.Parameter(value, requires_grad=False))

    def forward(self, x):
        values = {self.input: x}

        def operand(i):
            if not isinstance(i, str):
                return i
            return values[i] if i in values else getattr(self, i)

        for node in self.nodes:
            inputs = [operand(i) for i in node["in"]]
            values[node["out"][0]] = FUNCTIONS[node["op"]](node["attrs"], *inputs)
        return values[self.output]


def difference(net, device="cpu", dtype=torch.float32):
    """The largest one from ONNX Runtime's output in float32."""
    x, expected = net.sample
    with torch.no_grad():
        got = net(x.to(device, dtype))
    return (got.float().cpu() - expected).abs().max().item()


def main():
    worst = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        far = difference(OnnxNet(path).eval())
        worst = max(worst, far)
        print(f"{path.stem}: {far:.1e} from ONNX Runtime")
    return int(not worst < 1e-4)


if __name__ == "__main__":
    sys.exit(main())
