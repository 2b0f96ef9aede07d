#!/usr/bin/env python3
"""One peer of tools/bench_cpu.py, in a process of its own: orders and answers are lines of JSON.

Usage: bench_peers.py PEER THREADS. Each order is one line:
  {"load": {"onnx": FILE, "paddle": FOLDER, "shape": [...], "integers": LIMIT or null}}
  {"load": {"picture": FILE}}              for rapidocr_*: the whole pipeline on a picture
  {"run": N}                               answers {"ms": [N times]}
A peer that cannot do it answers {"error": TEXT}.
"""

import json
import os
import pathlib
import sys
import time


def make_input(order):
    import numpy

    random = numpy.random.default_rng(1)
    if order["integers"]:
        return random.integers(0, order["integers"], order["shape"], dtype=numpy.int64)
    return random.standard_normal(order["shape"], dtype=numpy.float32)


def load_onnxruntime(order, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        order["onnx"], options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: make_input(order)}
    return lambda: session.run(None, feed)


def load_openvino(order, threads, precision):
    import openvino

    core = openvino.Core()
    model = core.read_model(order["onnx"])
    model.reshape({model.inputs[0]: order["shape"]})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    data = make_input(order)
    return lambda: request.infer({0: data})


def load_paddle(order, threads, onednn):
    from paddle import inference

    folder = pathlib.Path(order["paddle"])
    program = next(
        p for p in (folder / "inference.pdmodel", folder / "inference.json") if p.exists()
    )
    config = inference.Config(str(program), str(folder / "inference.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads)
    if onednn:
        config.enable_mkldnn()
        config.set_mkldnn_cache_capacity(10)
    else:
        config.disable_mkldnn()
    if program.suffix == ".pdmodel":
        config.enable_memory_optim()
    predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    target = predictor.get_output_handle(predictor.get_output_names()[0])
    data = make_input(order)

    def run():
        source.reshape(data.shape)
        source.copy_from_cpu(data)
        predictor.run()
        target.copy_to_cpu()

    return run


def load_pipeline(order, engine):
    return lambda: engine(order["picture"])


def loader(peer, threads):
    """The function that turns a "load" order into a function to be timed."""
    if peer == "onnxruntime":
        return lambda order: load_onnxruntime(order, threads)
    if peer.startswith("openvino_"):
        return lambda order: load_openvino(order, threads, peer.split("_")[1])
    if peer == "paddle_onednn":
        return lambda order: load_paddle(order, threads, True)
    if peer == "paddle_plain":
        return lambda order: load_paddle(order, threads, False)
    if peer == "rapidocr_onnxruntime":
        from rapidocr_onnxruntime import RapidOCR

        engine = RapidOCR(intra_op_num_threads=threads)
    elif peer == "rapidocr_paddle":
        from rapidocr_paddle import RapidOCR

        engine = RapidOCR(cpu_math_library_num_threads=threads)
    else:
        sys.exit(f"no peer is called {peer}")
    return lambda order: load_pipeline(order, engine)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print: not among the answers
    peer, threads = sys.argv[1], int(sys.argv[2])
    load, run = None, None
    for line in sys.stdin:
        order = json.loads(line)
        answer = {}
        try:
            if "load" in order:
                load = load or loader(peer, threads)
                run = None
                run = load(order["load"])
                for _ in range(3):
                    run()
            else:
                answer["ms"] = []
                for _ in range(order["run"]):
                    start = time.perf_counter()
                    run()
                    answer["ms"].append((time.perf_counter() - start) * 1e3)
        except Exception as error:  # what a peer cannot do is part of the result
            answer["error"] = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
