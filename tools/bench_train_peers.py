#!/usr/bin/env python3
"""One peer of tools/bench_train.py, in a process of its own: orders and answers are lines of JSON.

Usage: bench_train_peers.py torch|torch_channels_last|paddle NETWORK BATCH THREADS. It trains the
network that `trireme bench --train NETWORK` trains: same layers, loss and Momentum(0.01, 0.9). Each
order is one line: {"run": N} answers {"ms": [times of at most N steps]}, {"memory": 1} answers
{"step_peak_bytes": N}: what a step has allocated at its worst moment, beyond what lives between
steps (parameters, momentum, the batch); for torch and Paddle, whose allocators count. A peer that
cannot do it answers {"error": TEXT}.
"""

import json
import os
import sys
import time

import numpy as np

from peer_nets import CLASSES, CRNN_SMALL, channels, torch_net

TEXT = 10
LONGEST = 4  # seconds of a run, whatever the number of steps


def data(network, batch):
    random = np.random.default_rng(1)
    shapes = {"lenet": (1, 28, 28), "crnn": (3, 32, 160)}
    classes = {"lenet": 10, "encoder": 2, "crnn": CLASSES}.get(network, 1000)
    if network == "encoder":
        x = random.integers(0, 5000, (batch, 64))
    else:
        x = random.standard_normal((batch, *shapes.get(network, (3, 224, 224))), dtype=np.float32)
    if network == "crnn":
        return x, random.integers(1, classes, (batch, TEXT))
    return x, random.integers(0, classes, batch)


def highest(changes):
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


def torch_step(network, batch, threads, channels_last):
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    net = torch_net(network)
    x, y = (torch.from_numpy(a) for a in data(network, batch))
    if channels_last and x.dim() == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)

    def loss():
        out = net(x)
        if network != "crnn":
            return nn.functional.cross_entropy(out, y)
        steps, texts = (torch.full((batch,), n) for n in (out.shape[1], TEXT))
        log = nn.functional.log_softmax(out.transpose(0, 1), -1)
        return nn.functional.ctc_loss(log, y, steps, texts)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    def step_peak():
        from torch.profiler import ProfilerActivity, profile

        optimizer.zero_grad(set_to_none=True)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
            step()
        events = prof.profiler.kineto_results.events()
        changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        return highest(n for _, n in changes)

    return step, step_peak


def paddle_step(network, batch, threads):
    import paddle
    from paddle import nn

    if hasattr(paddle, "set_num_threads"):
        paddle.set_num_threads(threads)

    def part(i, o, kernel, stride, groups, act):
        pad = (kernel - 1) // 2
        layers = [
            nn.Conv2D(i, o, kernel, stride, pad, groups=groups, bias_attr=False),
            nn.BatchNorm2D(o),
        ]
        acts = {"relu": nn.ReLU, "hardswish": nn.Hardswish}
        return nn.Sequential(*layers, *([acts[act]()] if act else []))

    class Squeeze(nn.Layer):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = nn.Conv2D(c, c // 4, 1), nn.Conv2D(c // 4, c, 1)

        def forward(self, x):
            y = self.b(nn.functional.relu(self.a(nn.functional.adaptive_avg_pool2d(x, 1))))
            return x * nn.functional.hardsigmoid(y, 0.2, 0.5)

    class Block(nn.Layer):
        def __init__(self, i, kernel, mid, o, squeeze, act, down):
            super().__init__()
            self.body = nn.Sequential(
                part(i, mid, 1, 1, 1, act),
                part(mid, mid, kernel, (down, 1), mid, act),
                *([Squeeze(mid)] if squeeze else []),
                part(mid, o, 1, 1, 1, ""),
            )
            self.residual = down == 1 and i == o

        def forward(self, x):
            return x + self.body(x) if self.residual else self.body(x)

    class Crnn(nn.Layer):
        def __init__(self):
            super().__init__()
            i = channels(16)
            parts = [part(3, i, 3, 2, 1, "hardswish")]
            for kernel, mid, o, squeeze, act, down in CRNN_SMALL:
                parts.append(Block(i, kernel, channels(mid), channels(o), squeeze, act, down))
                i = channels(o)
            parts += [part(i, channels(576), 1, 1, 1, "hardswish"), nn.MaxPool2D(2, 2)]
            self.backbone = nn.Sequential(*parts)
            self.lstm = nn.LSTM(channels(576), 48, 2, direction="bidirectional")
            self.fc = nn.Linear(96, CLASSES)

        def forward(self, x):
            return self.fc(self.lstm(self.backbone(x).squeeze(2).transpose([0, 2, 1]))[0])

    class Encoder(nn.Layer):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(5000, 256)
            layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, activation="gelu")
            self.t = nn.TransformerEncoder(layer, 4)
            self.o = nn.Linear(256, 2)

        def forward(self, ids):
            return self.o(self.t(self.e(ids)).mean(1))

    vision = paddle.vision.models
    make = {"lenet": vision.LeNet, "encoder": Encoder, "crnn": Crnn}
    net = (make.get(network) or getattr(vision, network))()
    net.train()
    x, y = (paddle.to_tensor(a) for a in data(network, batch))
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=net.parameters())

    def loss():
        out = net(x)
        if network != "crnn":
            return nn.functional.cross_entropy(out, y)
        steps, texts = (paddle.full([batch], n, "int64") for n in (out.shape[1], TEXT))
        return nn.functional.ctc_loss(
            out.transpose([1, 0, 2]), y.astype("int32"), steps, texts, 0, "mean"
        )

    def step():
        loss().backward()
        optimizer.step()
        optimizer.clear_grad()

    def step_peak():
        core = paddle.base.core
        core.host_memory_stat_reset_peak_value("Allocated", 0)
        before = core.host_memory_stat_current_value("Allocated", 0)
        step()
        return core.host_memory_stat_peak_value("Allocated", 0) - before

    return step, step_peak


def timed(step, most):
    """Milliseconds of each of at most so many steps, one at least."""
    times = []
    end = time.perf_counter() + LONGEST
    while not times or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print: not among the answers
    peer, network, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    step = step_peak = None
    for line in sys.stdin:
        order = json.loads(line)
        answer = {}
        try:
            if step is None:
                if peer == "paddle":
                    step, step_peak = paddle_step(network, batch, threads)
                else:
                    last = peer == "torch_channels_last"
                    step, step_peak = torch_step(network, batch, threads, last)
                step()
                step()
            if "memory" in order:
                answer["step_peak_bytes"] = step_peak()
            else:
                answer["ms"] = timed(step, order["run"])
        except Exception as error:  # what a peer cannot do is part of the result
            answer["error"] = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
