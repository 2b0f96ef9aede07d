#!/usr/bin/env python3
"""PyTorch on a GPU as the peer of tools/bench_gpu.py, in a process of its own.

Usage: bench_gpu_peers.py CASE, where CASE is JSON: {"network", "batch", "mode": "train"|"infer",
"dtype": "float32"|"tf32"|"float16"|"bfloat16", "optimizer", "length", "form", "net"}. Forms are
eager, compiled (training), and in inference also graph (the eager form as a CUDA graph) and
torch.compile's modes reduce-overhead and max-autotune. "net": what make_ocr_peers.py wrote, instead
of a network of peer_nets.py. Orders and answers are lines of JSON: {"run": SECONDS} answers
{"rate": samples a second, the median of windows, "peak_bytes": N, "graph_bytes": N of them that
CUDA graphs keep}, and with "net" "far": the largest difference from ONNX Runtime in float32. Data
lies on the device; half precision is torch.autocast with GradScaler for float16 in training, half
weights in inference. Between orders it keeps no memory but its state.
"""

import json
import os
import statistics
import sys
import time

import torch
from torch import nn

from peer_nets import CLASSES, torch_net
from peer_onnx import OnnxNet, difference

TEXT = 10  # of the labels of lines
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def data(case):
    network, batch = case["network"], case["batch"]
    if network == "bert_base":
        shape = (batch, case["length"])
        return torch.randint(0, 30522, shape), torch.randint(0, 30522, shape)
    shapes = {"lenet": (1, 28, 28), "crnn": (3, 32, 160)}
    x = torch.randn(batch, *shapes.get(network, (3, 224, 224)))
    if network == "crnn":
        return x, torch.randint(1, CLASSES, (batch, TEXT))
    return x, torch.randint(0, 10 if network == "lenet" else 1000, (batch,))


def prepare(case):
    tf32 = case["dtype"] == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    if "net" in case:
        net = OnnxNet(case["net"]).cuda()
        x, y = net.sample[0].cuda(), None
    else:
        net = torch_net(case["network"]).cuda()
        x, y = (t.cuda() for t in data(case))
    if x.dim() == 4 and case["network"] != "lenet":
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return net, x, y


def training(case):
    net, x, y = prepare(case)
    optimizer = {
        "momentum": lambda p: torch.optim.SGD(p, 0.01, 0.9, fused=True),
        "adam": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
        "adamw": lambda p: torch.optim.AdamW(p, 1e-4, weight_decay=0.01, fused=True),
    }[case["optimizer"]](net.parameters())
    half = HALF.get(case["dtype"])
    scaler = torch.amp.GradScaler(enabled=half is torch.float16)
    # Small networks are bound by launches: CUDA graphs are what torch.compile has against that.
    mode = "reduce-overhead" if case["network"] == "lenet" else "default"
    forward = torch.compile(net, mode=mode) if case["form"] == "compiled" else net

    def loss():
        with torch.autocast("cuda", dtype=half, enabled=half is not None):
            out = forward(x)
            if case["network"] != "crnn":
                return nn.functional.cross_entropy(out.flatten(0, -2), y.flatten())
        steps, texts = (torch.full((len(x),), n) for n in (out.shape[1], TEXT))
        log = nn.functional.log_softmax(out.float().transpose(0, 1), -1)
        return nn.functional.ctc_loss(log, y, steps, texts)

    def step():
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss()).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def inference(case):
    """The step, and the network."""
    net, x, _ = prepare(case)
    half = HALF.get(case["dtype"], torch.float32)
    net, x = net.eval().to(half), x.to(half)
    form = case["form"]
    forward = net if form in ("eager", "graph") else torch.compile(net, mode=form)

    def step():
        with torch.no_grad():
            forward(x)

    if form != "graph":
        return step, net
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay, net


def kept_by_graphs():
    """Bytes of CUDA graphs' private pools, and how many of them count as allocated."""
    pools = [s for s in torch.cuda.memory_snapshot() if tuple(s["segment_pool_id"]) != (0, 0)]
    return sum(s["total_size"] for s in pools), sum(s["allocated_size"] for s in pools)


def measure(step, samples, seconds):
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    each = max(1, int(seconds / 5 / (time.perf_counter() - start)))
    torch.cuda.reset_peak_memory_stats()
    rates = []
    for _ in range(5):
        a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        a.record()
        for _ in range(each):
            step()
        b.record()
        b.synchronize()
        rates.append(samples * each * 1e3 / a.elapsed_time(b))
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()  # graphs' pools stay: what replays use of them is not in the peak
    kept, allocated = kept_by_graphs()
    rate = statistics.median(rates)
    return {"rate": rate, "peak_bytes": peak - allocated + kept, "graph_bytes": kept}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print: not among the answers
    case, step, more = json.loads(sys.argv[1]), None, {}
    samples = case["batch"] * case.get("length", 1)
    for line in sys.stdin:
        try:
            if step is None:
                if case["mode"] == "train":
                    step = training(case)
                else:
                    step, net = inference(case)
                    if "net" in case:
                        dtype = next(net.parameters()).dtype
                        more["far"] = difference(net, "cuda", dtype)
                for _ in range(5):
                    step()
            answer = dict(measure(step, samples, json.loads(line)["run"]), **more)
        except Exception as error:  # what a peer cannot do is part of the result
            answer = {"error": (str(error).strip() or type(error).__name__).splitlines()[0][:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
