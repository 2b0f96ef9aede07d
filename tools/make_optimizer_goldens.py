#!/usr/bin/env python3
"""Writes tests/train/data/optimizers.json: what Paddle's optimizers make of given gradients.

Run with a Python that has paddlepaddle 3.3.1:  make_optimizer_goldens.py OUTPUT
Weights and gradients follow formulas that the test repeats, so that only results are stored.
"""
import json
import sys

import numpy as np
import paddle
from paddle import nn, optimizer
from paddle.regularizer import L1Decay, L2Decay

SHAPES = [[3, 5], [7], [2, 2]]
STEPS = 8


def values(kind, k, step, shape):
    i = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64)
    if kind == "weight":
        return np.cos(0.9 * i + k).reshape(shape).astype("float32")
    return (1.5 * np.sin(0.7 * i + 1.3 * step + k)).reshape(shape).astype("float32")


def parameters(plain, dtype="float32"):
    made = []
    for k, shape in enumerate(SHAPES):
        attr = paddle.ParamAttr(
            name=f"p{k}",
            initializer=nn.initializer.Assign(values("weight", k, 0, shape)),
            learning_rate=0.5 if k == 1 and not plain else 1.0,
            regularizer=L1Decay(0.02) if k == 2 and not plain else None,
            need_clip=plain or k != 2,
        )
        made.append(paddle.create_parameter(shape, "float32", attr=attr))
    if dtype != "float32":
        made = [p.astype(dtype) for p in made]
    return made


def run(name, make, plain=True, groups=None, dtype="float32", clip=None):
    with paddle.utils.unique_name.guard():
        params = parameters(plain, dtype)
        kinds = {
            "global": nn.ClipGradByGlobalNorm(2.0),
            "norm": nn.ClipGradByNorm(1.5),
            "value": nn.ClipGradByValue(1.0, -0.6),
            None: None,
        }
        given = groups(params) if groups else params
        opt = make(parameters=given, grad_clip=kinds[clip])
        after = []
        for step in range(STEPS):
            for k, p in enumerate(params):
                if name == "adam_missing" and k == 1 and step % 2 == 1:
                    continue
                g = paddle.to_tensor(values("grad", k, step, SHAPES[k])).astype(dtype)
                (p * g).sum().backward()
            opt.step()
            opt.clear_grad(set_to_zero=False)  # as here: a parameter without gradient rests
            if step in (0, 4, STEPS - 1):
                after.append([p.astype("float32").numpy().ravel().tolist() for p in params])
        state = {}
        for key, value in opt.state_dict().items():
            if hasattr(value, "numpy"):
                state[key] = [list(value.shape), value.astype("float32").numpy().ravel().tolist()]
        return {"name": name, "after": after, "state": state}


def halved(params):
    return [
        {"params": params[:1], "learning_rate": 0.3, "weight_decay": 0.1},
        {"params": params[1:], "grad_clip": nn.ClipGradByGlobalNorm(0.7)},
    ]


def no_bias(name):
    return name != "p1"


def cases():
    o = optimizer
    lr = 0.05
    f = lambda cls, **kw: lambda **more: cls(learning_rate=lr, **kw, **more)
    yield run("sgd", f(o.SGD))
    yield run("sgd_all", f(o.SGD, weight_decay=0.01), plain=False, clip="global")
    yield run("sgd_norm", f(o.SGD, weight_decay=L1Decay(0.03)), plain=False, clip="norm")
    yield run("sgd_value", f(o.SGD, weight_decay=L2Decay(0.03)), plain=False, clip="value")
    yield run("momentum", f(o.Momentum))
    yield run("momentum_all", f(o.Momentum, weight_decay=0.02), plain=False, clip="global")
    yield run("momentum_groups", f(o.Momentum, weight_decay=0.02), groups=halved)
    yield run("nesterov", f(o.Momentum, use_nesterov=True, weight_decay=0.02), plain=False)
    yield run("adam", f(o.Adam))
    yield run("adam_all", f(o.Adam, weight_decay=0.02), plain=False, clip="global")
    yield run("adam_missing", f(o.Adam))
    yield run("adam_amsgrad", f(o.Adam, amsgrad=True))
    yield run("adamw", f(o.AdamW))
    yield run(
        "adamw_all",
        f(o.AdamW, weight_decay=0.1, apply_decay_param_fun=no_bias),
        plain=False,
        clip="global",
    )
    yield run("adamax", f(o.Adamax, weight_decay=0.02), plain=False)
    yield run("rmsprop", f(o.RMSProp))
    yield run(
        "rmsprop_centered",
        f(o.RMSProp, centered=True, momentum=0.8, weight_decay=0.02),
        plain=False,
    )
    yield run(
        "adagrad", f(o.Adagrad, initial_accumulator_value=0.1, weight_decay=0.02), plain=False
    )
    exclude = lambda p: p.name == "p1"
    yield run("lamb", f(o.Lamb, exclude_from_weight_decay_fn=exclude))
    yield run(
        "lamb_always",
        f(o.Lamb, exclude_from_weight_decay_fn=exclude, always_adapt=True),
        plain=False,
        clip="global",
    )
    yield run("adadelta", f(o.Adadelta, weight_decay=0.02), plain=False)
    yield run("nadam", f(o.NAdam, weight_decay=0.02), plain=False)
    yield run("radam", f(o.RAdam, weight_decay=0.02), plain=False)
    yield run("rprop", f(o.Rprop, learning_rate_range=(0.001, 0.2)))


def main():
    document = {"by": f"PaddlePaddle {paddle.__version__}", "cases": list(cases())}
    text = json.dumps(document, separators=(",", ":"))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write(text.replace('{"name"', '\n{"name"') + "\n")


main()
