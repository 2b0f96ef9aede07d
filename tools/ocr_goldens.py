#!/usr/bin/env python3
"""Runs PP-OCRv4's networks on a device and compares with real Paddle's results in float32.

Prints the largest difference of each case of DATA/golden/cases.json; exit status 1 where one is
larger than --within. The models are those of `trireme model fetch ch_PP-OCRv4`.
"""

import argparse
import json
import lzma
import pathlib
import subprocess
import sys
import tempfile

import numpy

from bench_gpu import DETECTOR_FLOAT32_OPS

FLOAT32_OPS = {"det": DETECTOR_FLOAT32_OPS}
NETWORKS = {"PP-OCRv4_det": "det", "PP-OCRv4_rec": "rec", "ch_ppocr_mobile_v2_cls": "cls"}


def read(path, dtype, shape=(-1,)):
    return numpy.frombuffer(lzma.open(path).read(), dtype).reshape(shape)


def input_of(case, folder):
    path = folder / case["input"]
    if case.get("input_dtype") != "uint8":
        return read(path, numpy.float32, case["input_shape"])
    pixels = read(path, numpy.uint8, case["input_shape"]).astype(numpy.float64)
    return ((pixels / 255 - 0.5) / 0.5).astype(numpy.float32)


def difference(case, folder, got):
    """The largest one, and whether all arg maxes agree."""
    if "output" in case:
        return numpy.abs(got - read(folder / case["output"], numpy.float32, got.shape)).max(), True
    top = case["output_topk"]
    shape = (*got.shape[:-1], top["k"])
    places = read(folder / top["indices"], numpy.int32, shape)
    values = read(folder / top["values"], numpy.float32, shape)
    far = numpy.abs(numpy.take_along_axis(got, places, -1) - values).max()
    sample = case["output_sample"]
    thin = read(folder / sample["values"], numpy.float32, sample["shape"])
    far = max(far, numpy.abs(got[..., :: sample["class_stride"]] - thin).max())
    return far, (got.argmax(-1) == numpy.array(case["output_argmax"])).all()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trireme", default="build/release/trireme")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder of golden/")
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--plain", action="store_true", help="no operators that stay float32")
    parser.add_argument("--within", type=float, default=1e-2)
    args = parser.parse_args()
    folder = args.data / "golden"
    worst = 0
    for case in json.loads((folder / "cases.json").read_text()):
        network = next((n for start, n in NETWORKS.items() if case["case"].startswith(start)), None)
        if network is None:
            continue
        with tempfile.TemporaryDirectory() as work:
            numpy.save(f"{work}/in.npy", input_of(case, folder))
            command = [args.trireme, "predict", args.models / network, "--device", args.device]
            command += ["--input", f"{work}/in.npy", "--precision", args.precision]
            if network in FLOAT32_OPS and not args.plain:
                command += ["--float32-ops", FLOAT32_OPS[network]]
            subprocess.run([*command, "--output", f"{work}/out"], check=True, capture_output=True)
            got = numpy.load(f"{work}/out/0.npy").astype(numpy.float32)
        far, same = difference(case, folder, got.reshape(case["output_shape"]))
        worst = max(worst, far)
        print(f"{case['case']:42} {far:.2e}{'' if same else '  other arg maxes'}")
    print(f"the largest difference: {worst:.2e} (at most {args.within:g})")
    return int(worst > args.within)


if __name__ == "__main__":
    sys.exit(main())
