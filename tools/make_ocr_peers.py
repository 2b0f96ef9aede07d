#!/usr/bin/env python3
"""Writes PP-OCRv4's networks as what tools/peer_onnx.py rebuilds in PyTorch, without onnx.

The ONNX files are those of the package rapidocr_onnxruntime. Each becomes FOLDER/<det|rec|cls>.json
(nodes of the graph at one input shape, simplified) and .npz (its constants, and an input with ONNX
Runtime's output). `peer_onnx.py FOLDER` then compares, wherever torch is. Needs onnx, onnxruntime,
rapidocr_onnxruntime.
"""

import argparse
import importlib.util
import json
import pathlib
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

NETWORKS = {
    "det": ("ch_PP-OCRv4_det_infer.onnx", (1, 3, 640, 640)),
    "rec": ("ch_PP-OCRv4_rec_infer.onnx", (6, 3, 48, 320)),
    "cls": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", (6, 3, 48, 192)),
}


def folder_of_models():
    place = importlib.util.find_spec("rapidocr_onnxruntime").submodule_search_locations[0]
    return pathlib.Path(place) / "models"


def at_shape(source, shape):
    """The graph at this input shape, with what follows from it folded by ONNX Runtime."""
    model = onnx.load(source)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape):
        dim.dim_value = size
    with tempfile.TemporaryDirectory() as work:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = f"{work}/out.onnx"
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        return onnx.load(f"{work}/out.onnx").graph


class Net:
    """Nodes as dictionaries, constants as arrays."""

    def __init__(self, graph):
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.nodes = [
            {
                "op": n.op_type,
                "in": list(n.input),
                "out": list(n.output),
                "attrs": {a.name: self.plain(a) for a in n.attribute},
            }
            for n in graph.node
        ]

    @staticmethod
    def plain(attribute):
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        return value if isinstance(value, (int, float)) else list(value)

    def scalar(self, name):
        value = self.constants.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def index(self):
        self.readers, self.writer = {}, {}
        for node in self.nodes:
            for name in node["in"]:
                self.readers.setdefault(name, []).append(node)
            self.writer[node["out"][0]] = node

    def only_reader(self, name):
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name != self.output else None

    def become(self, node, op, inputs, attrs, gone):
        node.update(op=op, attrs=attrs, **{"in": inputs})
        self.nodes = [n for n in self.nodes if not any(n is g for g in gone)]
        self.index()

    # ---- what frameworks have as one function

    def hardswish(self, node):
        """x * clip(x + 3, 0, 6) / 6, named by its last node."""
        if node["op"] != "Div" or self.scalar(node["in"][1]) != 6:
            return False
        product = self.writer.get(node["in"][0])
        if not product or product["op"] != "Mul":
            return False
        x, clip = product["in"][0], self.writer.get(product["in"][1])
        if not clip or clip["op"] != "Clip":
            return False
        add = self.writer.get(clip["in"][0])
        if not add or add["op"] != "Add" or add["in"][0] != x or self.scalar(add["in"][1]) != 3:
            return False
        self.become(node, "HardSwish", [x], {}, [product, clip, add])
        return True

    def swish(self, node):
        if node["op"] != "Mul":
            return False
        gate = self.writer.get(node["in"][1])
        if not gate or gate["op"] != "Sigmoid" or gate["in"] != node["in"][:1]:
            return False
        self.become(node, "Swish", [node["in"][0]], {}, [gate])
        return True

    def layer_norm(self, node):
        """(x - mean) / sqrt(mean((x - mean)^2) + eps) * scale + bias over the last axis."""
        steps = [node]
        for op in ("Mul", "Div"):
            before = self.writer.get(steps[-1]["in"][0])
            if not before or before["op"] != op:
                return False
            steps.append(before)
        if node["op"] != "Add" or steps[1]["in"][1] not in self.constants:
            return False
        root = self.writer.get(steps[2]["in"][1])
        if not root or root["op"] != "Sqrt":
            return False
        added = self.writer[root["in"][0]]
        variance = self.writer[added["in"][0]]
        square = self.writer[variance["in"][0]]
        centred = self.writer[steps[2]["in"][0]]
        turn = centred if centred["op"] == "Transpose" else None
        minus = self.writer[turn["in"][0]] if turn else centred
        mean = self.writer[minus["in"][1]]
        gone = [*steps[1:], root, added, variance, square, minus, mean]
        x = minus["in"][0]
        if turn:  # the mean was taken before the axes are turned
            turn["in"] = [x]
            x = turn["out"][0]
        attrs = {"epsilon": self.scalar(added["in"][1])}
        self.become(node, "LayerNorm", [x, steps[1]["in"][1], node["in"][1]], attrs, gone)
        return True

    # ---- constants that go into the convolution in front

    def into_convolution(self, node):
        if node["op"] not in ("Mul", "Add", "BatchNormalization"):
            return False
        data = [i for i in node["in"] if i not in self.constants]
        if len(data) != 1:
            return False
        conv = self.writer.get(data[0])
        if not conv or conv["op"] not in ("Conv", "ConvTranspose"):
            return False
        if self.only_reader(conv["out"][0]) is not node:
            return False
        axis = 0 if conv["op"] == "Conv" else 1  # of the weight's output channels
        weight = self.constants[conv["in"][1]].astype(numpy.float64)
        channels = weight.shape[axis]
        scale, shift = self.scale_and_shift(node, data[0], channels)
        if scale is None:
            return False
        bias = self.constants[conv["in"][2]].astype(numpy.float64) if len(conv["in"]) > 2 else 0
        shape = [1] * weight.ndim
        shape[axis] = channels
        name = node["out"][0]
        self.constants[f"{name}.weight"] = (weight * scale.reshape(shape)).astype(numpy.float32)
        self.constants[f"{name}.bias"] = (bias * scale + shift).astype(numpy.float32)
        inputs = [conv["in"][0], f"{name}.weight", f"{name}.bias"]
        self.become(node, conv["op"], inputs, conv["attrs"], [conv])
        return True

    def scale_and_shift(self, node, data, channels):
        if node["op"] == "BatchNormalization":
            scale, shift, mean, variance = (
                self.constants[i].astype(numpy.float64) for i in node["in"][1:]
            )
            factor = scale / numpy.sqrt(variance + node["attrs"]["epsilon"])
            return factor, shift - mean * factor
        value = self.constants[next(i for i in node["in"] if i != data)].astype(numpy.float64)
        if value.size != 1 and not (value.size == channels and value.ndim > 2):
            return None, None
        value = numpy.broadcast_to(value.reshape(-1), (channels,))
        one, zero = numpy.ones(channels), numpy.zeros(channels)
        return (value, zero) if node["op"] == "Mul" else (one, value)

    def simplify(self):
        self.index()
        rules = (self.hardswish, self.swish, self.layer_norm, self.into_convolution)
        while any(rule(node) for node in self.nodes for rule in rules):
            pass

    def save(self, path, sample):
        for node in self.nodes:
            if node["op"] == "Resize":
                node["attrs"]["scales"] = self.constants[node["in"][2]].tolist()
                node["in"] = node["in"][:1]
        names = {}
        for node in self.nodes:
            node["in"] = [self.operand(node, i, names) for i in node["in"]]
        text = {"input": self.input, "output": self.output, "nodes": self.nodes}
        path.with_suffix(".json").write_text(json.dumps(text))
        constants = {short: self.constants[name] for name, short in names.items()}
        numpy.savez(path.with_suffix(".npz"), **constants, **sample)

    def operand(self, node, name, names):
        """A value's name; what is no data (factors, shapes, axes) stands there itself."""
        value = self.constants.get(name)
        if value is None:
            return name
        if value.dtype != numpy.float32:
            return value.reshape(-1).tolist()
        if value.size == 1 and node["op"] in ("Add", "Mul"):
            return value.item()
        return names.setdefault(name, f"c{len(names)}")


def sample_of(source, shape):
    """An input and what ONNX Runtime makes of it."""
    x = numpy.random.default_rng(1).standard_normal(shape, dtype=numpy.float32)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    return {"x": x, "y": session.run(None, {session.get_inputs()[0].name: x})[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="where the files go")
    parser.add_argument("--models", type=pathlib.Path, help="of the ONNX files")
    args = parser.parse_args()
    models = args.models or folder_of_models()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, (file, shape) in NETWORKS.items():
        net = Net(at_shape(models / file, shape))
        net.simplify()
        net.save(args.folder / name, sample_of(models / file, shape))
        print(f"{name}: {len(net.nodes)} nodes")


if __name__ == "__main__":
    main()
