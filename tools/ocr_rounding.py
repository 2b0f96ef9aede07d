#!/usr/bin/env python3
"""Which layers of PP-OCRv4's detector need float32: rounding emulated on the CPU, in PyTorch.

Values are rounded where a GPU's kernels store them: behind a convolution (with the bias, ReLU, and
of a depthwise one all that follows), behind a chain of pointwise operators. Sums are float32.
Prints the largest difference of the map from real Paddle's in float32 (the cases of DATA/golden),
for the whole network in each format and for parts of it, with the part of the multiplications that
is in float16; --layers: for each layer alone. FOLDER is what make_ocr_peers.py wrote.
"""

import argparse
import json
import pathlib

import torch

from ocr_goldens import input_of, read
from peer_onnx import FUNCTIONS, OnnxNet

POINTWISE = ("HardSwish", "Add", "Mul", "HardSigmoid", "Sigmoid", "Relu")
CONVOLUTIONS = ("Conv", "ConvTranspose")


def float16(t):
    return t.half().float()


def bfloat16(t):
    return t.bfloat16().float()


def tf32(t):
    """10 bits of mantissa, to nearest."""
    bits = t.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class Emulation:
    def __init__(self, path):
        self.net = OnnxNet(path).eval()
        self.nodes = self.net.nodes
        self.readers = {}
        for i, node in enumerate(self.nodes):
            for name in node["in"]:
                if isinstance(name, str):
                    self.readers.setdefault(name, []).append(i)
        # whose result stays in registers
        self.inner = {i for i in range(len(self.nodes)) if self.is_inner(i)}

    def next_of(self, i):
        readers = self.readers.get(self.nodes[i]["out"][0], [])
        return readers[0] if len(readers) == 1 else None

    def is_inner(self, i):
        node, to = self.nodes[i], self.next_of(i)
        if to is None or self.nodes[to]["op"] not in POINTWISE:
            return False
        if node["op"] == "Conv" and node["attrs"]["group"] > 1:
            return True
        if node["op"] in CONVOLUTIONS:
            return self.nodes[to]["op"] == "Relu"
        return node["op"] in POINTWISE

    def run(self, x, rounded, form=float16, products=None):
        """With these nodes in `form`; other convolutions' operands as `products` makes them."""
        values, narrow = {self.net.input: x}, set()
        self.work = {}
        for i, node in enumerate(self.nodes):
            half = i in rounded
            convolves = node["op"] in CONVOLUTIONS
            inputs = []
            for k, name in enumerate(node["in"]):
                if not isinstance(name, str):
                    inputs.append(name)
                    continue
                value = values[name] if name in values else getattr(self.net, name)
                if half and (name not in narrow if name in values else k == 1):
                    value = form(value)
                elif not half and convolves and products is not None and k < 2:
                    value = products(value)
                inputs.append(value)
            y, name = FUNCTIONS[node["op"]](node["attrs"], *inputs), node["out"][0]
            if half:
                narrow.add(name)
                if not (i in self.inner and self.next_of(i) in rounded):
                    y = form(y)
            if convolves:
                pixels = y if node["op"] == "Conv" else inputs[0]
                self.work[i] = inputs[1].numel() * pixels.shape[2] * pixels.shape[3]
            values[name] = y
        return values[self.net.output]

    def share(self, nodes):
        return sum(self.work.get(i, 0) for i in nodes) / sum(self.work.values())


def cases_of(data):
    folder = data / "golden"
    for case in json.loads((folder / "cases.json").read_text()):
        if case["case"].startswith("PP-OCRv4_det"):
            x = torch.from_numpy(input_of(case, folder))
            y = read(folder / case["output"], "float32", case["output_shape"])
            yield case["case"], x, torch.from_numpy(y.copy())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder of golden/")
    parser.add_argument("--layers", action="store_true")
    args = parser.parse_args()
    emulation, cases = Emulation(args.folder / "det"), list(cases_of(args.data))
    print("cases:", ", ".join(name for name, _, _ in cases))
    count = len(emulation.nodes)
    everything = set(range(count))

    def line(title, rounded, **how):
        far = [(emulation.run(x, rounded, **how) - y).abs().max().item() for _, x, y in cases]
        share = f"{emulation.share(rounded):6.1%}" if how.get("form", float16) is float16 else ""
        print(f"{title:46} {' '.join(f'{f:.1e}' for f in far)} {share}", flush=True)

    with torch.no_grad():
        line("float32", set())
        line("float32 by TF32 products", set(), products=tf32)
        line("bfloat16", everything, form=bfloat16)
        line("float16", everything)
        for tenth in range(1, 10):
            line(f"float16: the first {tenth} of 10 parts", set(range(count * tenth // 10)))
        for tenth in range(1, 10):
            line(
                f"float16: the last {tenth} of 10 parts",
                set(range(count * (10 - tenth) // 10, count)),
            )
        dense = [n for n in emulation.nodes if n["op"] == "Conv"]
        large = {
            i for i, n in enumerate(emulation.nodes) if n in dense and emulation.share({i}) > 0.05
        }
        for i in sorted(large):
            line(f"float16: convolution {i} {emulation.nodes[i]['out'][0]}", {i})
        line("float16: those convolutions", large)
        for i in range(count if args.layers else 0):
            node = emulation.nodes[i]
            line(f"{i} {node['op']} {node['out'][0]}", {i})


if __name__ == "__main__":
    main()
