#!/usr/bin/env python3
"""check_export.py: exports models with `trireme convert` and runs them in the peers.

    PYTHON tools/check_export.py [--only WORD] [--formats pir,onnx] [--models DIR ...]
    TRIREME_EXPORT_KEEP=DIR test_formats --gtest_filter='*Export*'; PYTHON ... --cases DIR

PYTHON is one that has paddle, onnxruntime and numpy. Models: ../shared/data/paddle_models, PP-OCRv4
under ~/.cache/trireme/models, and what --models names (folders with inference.json). Each is
converted to every format; real Paddle runs its two, ONNX Runtime the third, and Trireme reads its
Paddle forms back. Their outputs are compared with the source model's in Trireme, at two batch sizes
where the batch is unknown. Prints a line a model and format; the exit status tells of failures.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4


def models(extra):
    data = pathlib.Path(os.environ.get("TRIREME_TEST_DATA", ROOT / "../shared/data"))
    for folder in sorted((data / "paddle_models").glob("*")):
        if (folder / "meta.json").is_file():
            x = np.load(sorted(folder.glob("input*.npy"))[0])
            inputs = [x, np.concatenate([x, x[:1]])]
            yield folder.name, folder, inputs, []
    ocr = pathlib.Path.home() / ".cache/trireme/models/ch_PP-OCRv4"
    shapes = {
        "det": [(1, 3, 64, 96), (2, 3, 96, 160)],
        "rec": [(1, 3, 48, 160), (3, 3, 48, 320)],
        "cls": [(1, 3, 48, 192), (2, 3, 48, 192)],
    }
    for name, sizes in shapes.items():
        if (ocr / name).is_dir():
            options = ["--shape", "-1x3x48x192"] if name == "cls" else []
            yield f"PP-OCRv4_{name}", ocr / name, [noise(s) for s in sizes], options
    for folder in map(pathlib.Path, extra):
        program = json.loads((folder / "inference.json").read_text())
        ops = program["program"]["regions"][0]["blocks"][0]["ops"]
        data_op = next(op for op in ops if op["#"] == "1.data")
        attrs = {a["N"]: a["AT"]["D"] for a in data_op["A"]}
        inputs = []
        for batch in (1, 2):
            dims = [batch if i == 0 else d for i, d in enumerate(attrs["shape"])]
            integers = np.random.default_rng(1).integers(1, 1000, dims)
            inputs.append(integers if "int" in attrs["dtype"] else noise(dims))
        yield folder.name, folder, inputs, []


def noise(shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def run_trireme(program, model, x):
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        done = subprocess.run(
            [program, "predict", model, "--input", f"{folder}/x.npy", "--output", folder],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        count = len(done.stdout.splitlines())
        return [np.load(f"{folder}/{i}.npy") for i in range(count)]


def paddle_runner(folder, program):
    import paddle.inference as inference

    config = inference.Config(str(folder / program), str(folder / "inference.pdiparams"))
    config.disable_gpu()
    config.switch_ir_optim(False)
    config.disable_mkldnn()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)

    def run(*xs):
        for input_name, x in zip(predictor.get_input_names(), xs):
            handle = predictor.get_input_handle(input_name)
            handle.reshape(x.shape)
            handle.copy_from_cpu(x)
        predictor.run()
        names = predictor.get_output_names()
        return [predictor.get_output_handle(n).copy_to_cpu() for n in names]

    return run


def onnx_runner(folder, _):
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [i.name for i in session.get_inputs()]
    return lambda *xs: session.run(None, dict(zip(names, xs)))


PEERS = {
    "pdmodel": (paddle_runner, "inference.pdmodel"),
    "pir": (paddle_runner, "inference.json"),
    "onnx": (onnx_runner, None),
}


def difference(expected, got):
    if len(expected) != len(got):
        return f"{len(got)} outputs, {len(expected)} expected"
    worst = 0.0
    for a, b in zip(expected, got):
        if a.shape != b.shape:
            return f"shape {b.shape}, {a.shape} expected"
        if a.size:
            scale = max(1e-2, float(np.abs(a).max()))
            gap = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) / scale
            worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def check(program, model, kind, inputs, options):
    """The worst difference of the peer and of Trireme's own reading; raises what went wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = [program, "convert", str(model), "--format", kind, "--output", name, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        make, file = PEERS[kind]
        run = make(folder, file)
        results = []
        for x in inputs:
            expected = run_trireme(program, str(model), x)
            results.append(difference(expected, run(x)))
            if kind != "onnx":
                results.append(difference(expected, run_trireme(program, name, x)))
        return results


def check_case(folder, kind):
    """A case that the tests kept: its files in one format in the peer."""

    def arrays(word):
        files = folder.glob(word + "*.npy")
        return [np.load(f) for f in sorted(files, key=lambda f: int(f.stem[len(word) :]))]

    make, file = PEERS[kind]
    return [difference(arrays("out"), make(folder / kind, file)(*arrays("in")))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=str(ROOT / "build/release/trireme"))
    parser.add_argument("--only", default="")
    parser.add_argument("--formats", default="pdmodel,pir,onnx")
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--cases")
    args = parser.parse_args()
    failed = 0
    if args.cases:
        work = [(f.name, f) for f in sorted(pathlib.Path(args.cases).iterdir())]
    else:
        work = [(m[0], m) for m in models(args.models)]
    for name, model in work:
        if args.only not in name:
            continue
        for kind in args.formats.split(","):
            try:
                if args.cases:
                    results = check_case(model, kind)
                else:
                    results = check(args.program, model[1], kind, *model[2:])
                good = all(not isinstance(r, str) and r <= TOLERANCE for r in results)
                text = " ".join(r if isinstance(r, str) else f"{r:.1e}" for r in results)
            except Exception as error:  # a peer's own kinds, too
                good, text = False, " ".join(str(error).split())[-600:]
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {name:22} {kind:8} {text}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
