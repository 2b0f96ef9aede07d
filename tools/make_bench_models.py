#!/usr/bin/env python3
"""Writes the networks of the speed table that no package carries, with random weights.

ResNet-50, MobileNetV3-large and BERT-base (sequence of 128), each in Paddle's own format
(OUT/NAME/) and, converted, as ONNX (OUT/NAME.onnx). One input, called x. A network that is there is
left alone.
Usage: make_bench_models.py OUT; needs paddlepaddle and paddle2onnx (tools/bench_requirements.txt).
"""

import pathlib
import shutil
import sys

import paddle
import paddle2onnx
from paddle import nn
from paddle.static import InputSpec

VOCABULARY, POSITIONS, WIDTH, HEADS, LAYERS, LENGTH = 21128, 512, 768, 12, 12, 128


class BertBase(nn.Layer):
    """Token ids [N, 128] -> the pooled first token's two logits; all tokens count (no mask)."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.embedding_norm = nn.LayerNorm(WIDTH, epsilon=1e-12)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu"),
            LAYERS,
        )
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, ids):
        places = paddle.arange(LENGTH, dtype="int64").unsqueeze(0)
        hidden = self.embedding_norm(self.tokens(ids) + self.positions(places))
        first = self.encoder(hidden)[:, 0]
        return self.classifier(paddle.tanh(self.pooler(first)))


def networks():
    picture = [InputSpec([None, 3, 224, 224], "float32", "x")]
    yield "resnet50", paddle.vision.models.resnet50, picture
    yield "mobilenet_v3_large", paddle.vision.models.mobilenet_v3_large, picture
    yield "bert_base", BertBase, [InputSpec([None, LENGTH], "int64", "x")]


def write(out, name, make, spec):
    """Makes the network's files aside and moves them into place when they are complete."""
    if (out / f"{name}.onnx").is_file() and (out / name / "inference.pdiparams").is_file():
        print(f"{name}: is there")
        return
    aside = out / f".{name}"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(out / name, ignore_errors=True)
    paddle.seed(7)
    network = make()
    network.eval()
    paddle.jit.save(network, str(aside / "inference"), input_spec=spec)
    onnx = aside.with_suffix(".onnx.part")
    paddle2onnx.export(
        str(aside / "inference.json"),
        str(aside / "inference.pdiparams"),
        str(onnx),
        opset_version=17,
    )
    aside.rename(out / name)
    onnx.rename(out / f"{name}.onnx")
    print(f"{name}: written")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, make, spec in networks():
        write(out, name, make, spec)


if __name__ == "__main__":
    main()
