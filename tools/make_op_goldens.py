#!/usr/bin/env python3
"""make_op_goldens.py FOLDER: what PaddlePaddle's CPU kernels answer for small cases, as JSON.

Run with an interpreter that has paddle 3.x, on tests/ops/data; tests/ops/golden_test.cpp reads the
results. Floating inputs are not stored: "ramp" names a shape, filled by ramp() here and there.
"""
import json
import sys

import numpy as np
import paddle
import paddle.nn.functional as F

CASES = []


def ramp(shape, seed):
    """101 different values, exact in every floating dtype; none comes twice below 101."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return ((((i + 1) * 37 + seed * 13) % 101 - 50) / 32).astype(np.float32).reshape(shape)


class Ramp:
    def __init__(self, *shape, seed=1, positive=False):
        self.shape, self.seed, self.positive = list(shape), seed, positive

    def value(self):
        v = ramp(self.shape, self.seed)
        return paddle.to_tensor(np.abs(v) + np.float32(0.5) if self.positive else v)

    def json(self):
        out = {"ramp": self.shape, "seed": self.seed}
        if self.positive:
            out["positive"] = True
        return out


class Ints:
    def __init__(self, values, dtype="int64"):
        self.array = np.array(values, dtype)

    def value(self):
        return paddle.to_tensor(self.array)

    def json(self):
        return {
            "ints": self.array.reshape(-1).tolist(),
            "shape": list(self.array.shape),
            "dtype": str(self.array.dtype),
        }


def case(op, inputs, run, **attrs):
    values = [x if x is None else x.value() for x in inputs]
    results = run(*values)
    results = list(results) if isinstance(results, (list, tuple)) else [results]
    outputs = []
    for r in results:
        a = r.numpy()
        data = a.reshape(-1).tolist()
        if a.dtype == np.float32:
            data = [float(f"{v:.6g}") for v in data]
        outputs.append({"shape": list(a.shape), "dtype": str(a.dtype), "data": data})
    CASES.append(
        {
            "op": op,
            "attrs": attrs,
            "inputs": [x if x is None else x.json() for x in inputs],
            "outputs": outputs,
        }
    )


def pools():
    x = Ramp(1, 2, 7, 5)
    for kernel, stride, pad, ceil, exclusive in [
        (3, 2, 1, False, True),
        (3, 2, 1, True, False),
        (2, 2, 0, True, True),
        (2, 2, 0, True, False),
        (3, 1, 1, False, False),
        ([2, 3], [3, 1], [1, 0], False, True),
    ]:
        two = lambda v: v if isinstance(v, list) else [v, v]
        p = two(pad)
        attrs = dict(
            kernel=two(kernel),
            strides=two(stride),
            paddings=[p[0], p[0], p[1], p[1]],
            ceil_mode=ceil,
        )
        case(
            "pool2d",
            [x],
            lambda t: F.max_pool2d(t, kernel, stride, pad, ceil_mode=ceil),
            type="max",
            **attrs,
        )
        case(
            "pool2d",
            [x],
            lambda t: F.avg_pool2d(t, kernel, stride, pad, ceil_mode=ceil, exclusive=exclusive),
            type="avg",
            exclusive=exclusive,
            **attrs,
        )
    for size in ([1, 1], [3, 2], [9, 4]):
        case(
            "pool2d",
            [x],
            lambda t: F.adaptive_avg_pool2d(t, size),
            type="avg",
            kernel=size,
            adaptive=True,
        )
        case(
            "pool2d",
            [x],
            lambda t: F.adaptive_max_pool2d(t, size),
            type="max",
            kernel=size,
            adaptive=True,
        )


def interps():
    x = Ramp(1, 2, 3, 4)
    for size in ([6, 8], [7, 3], [1, 1]):
        case("nearest_interp", [x], lambda t: F.interpolate(t, size, mode="nearest"), size=size)
        for corners, mode in [(False, 0), (False, 1), (True, 0)]:
            case(
                "bilinear_interp",
                [x],
                lambda t: F.interpolate(
                    t, size, mode="bilinear", align_corners=corners, align_mode=mode
                ),
                size=size,
                align_corners=corners,
                align_mode=mode,
            )
    for scale in (2.0, 1.7, 0.6):
        size = [int(3 * scale), int(4 * scale)]
        case(
            "nearest_interp",
            [x],
            lambda t: F.interpolate(t, scale_factor=scale, mode="nearest"),
            size=size,
            scale=[scale, scale],
        )
        case(
            "bilinear_interp",
            [x],
            lambda t: F.interpolate(t, scale_factor=scale, mode="bilinear", align_mode=0),
            size=size,
            scale=[scale, scale],
            align_mode=0,
        )


def norms():
    x, c = Ramp(1, 6, 2, 3), lambda s: Ramp(6, seed=s)
    case(
        "batch_norm",
        [x, c(2), c(3), c(4), Ramp(6, seed=5, positive=True)],
        lambda t, s, b, m, v: F.batch_norm(t, m, v, s, b, epsilon=1e-3),
        epsilon=1e-3,
    )
    for groups in (1, 2, 3, 6):
        case(
            "group_norm",
            [x, c(2), c(3)],
            lambda t, s, b: F.group_norm(t, groups, 1e-4, s, b),
            groups=groups,
            epsilon=1e-4,
        )
    case(
        "group_norm",
        [x, None, None],
        lambda t, s, b: F.group_norm(t, 2, 1e-5),
        groups=2,
        epsilon=1e-5,
    )
    case(
        "instance_norm",
        [x, c(2), c(3)],
        lambda t, s, b: F.instance_norm(t, None, None, s, b, eps=1e-5),
        epsilon=1e-5,
    )
    y = Ramp(2, 3, 11)
    case(
        "layer_norm",
        [y, Ramp(11, seed=2), Ramp(11, seed=3)],
        lambda t, s, b: F.layer_norm(t, [11], s, b, 1e-5),
        axis=2,
        epsilon=1e-5,
    )
    case(
        "layer_norm",
        [y, Ramp(33, seed=2), None],
        lambda t, s, b: F.layer_norm(t, [3, 11], s, None, 1e-6),
        axis=1,
        epsilon=1e-6,
    )
    for axis in (0, 1, -1):
        case("softmax", [y], lambda t: F.softmax(t, axis), axis=axis)
        case("log_softmax", [y], lambda t: F.log_softmax(t, axis), axis=axis)


def shapes():
    x = Ramp(2, 3, 2, 4)
    for perm in ([0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 3, 2]):
        case("transpose", [x], lambda t: paddle.transpose(t, perm), perm=perm)
    for axes, starts, ends, strides in [
        ([1, 2], [1, -2], [3, 100], [1, 1]),
        ([3], [0], [4], [2]),
        ([2, 3], [-1, 3], [-100, 0], [-1, -2]),
        ([0, 1], [1, 2], [2, 0], [1, -1]),
        ([3], [3], [2], [1]),
    ]:
        case(
            "slice",
            [x],
            lambda t: paddle.strided_slice(t, axes, starts, ends, strides),
            axes=axes,
            starts=starts,
            ends=ends,
            strides=strides,
        )
    case("split", [x], lambda t: paddle.split(t, [1, -1, 1], 3), sections=[1, -1, 1], axis=3)
    for axis in (0, 1, -1):
        y = [2, 3, 2, 4]
        y[axis] += 1
        case("concat", [x, Ramp(*y, seed=7), x], lambda *t: paddle.concat(list(t), axis), axis=axis)
        case(
            "stack",
            [x, Ramp(2, 3, 2, 4, seed=9)],
            lambda *t: paddle.stack(list(t), axis),
            axis=axis,
        )
    case("expand", [Ramp(3, 1, 5)], lambda t: paddle.expand(t, [2, 3, 4, -1]), shape=[2, 3, 4, -1])
    case("tile", [Ramp(2, 3)], lambda t: paddle.tile(t, [2, 1, 3]), shape=[2, 1, 3])
    case("tile", [Ramp(2, 3, 2)], lambda t: paddle.tile(t, [2]), shape=[2])
    z = Ramp(1, 2, 3, 3)
    for mode in ("constant", "reflect", "replicate", "circular"):
        case(
            "pad",
            [z],
            lambda t: F.pad(t, [1, 2, 2, 1], mode, 0.5),
            paddings=[0, 0, 0, 0, 2, 1, 1, 2],
            mode=mode,
            value=0.5,
        )
    case(
        "pad",
        [z],
        lambda t: F.pad(t, [1, 0, 0, 1, 1, 2, 0, 1], "constant", -1.0, pad_from_left_axis=True),
        paddings=[1, 0, 0, 1, 1, 2, 0, 1],
        value=-1.0,
    )
    case("flip", [x], lambda t: paddle.flip(t, [1, -1]), axes=[1, -1])
    case("reshape", [x], lambda t: paddle.reshape(t, [0, -1, 2]), shape=[0, -1, 2])
    case("squeeze", [Ramp(1, 3, 1, 2)], lambda t: paddle.squeeze(t, [0, 1]), axes=[0, 1])
    case("squeeze", [Ramp(1, 3, 1, 2)], paddle.squeeze, axes=[])
    case("unsqueeze", [Ramp(3, 2)], lambda t: paddle.unsqueeze(t, [0, -1]), axes=[0, -1])
    case("flatten", [x], lambda t: paddle.flatten(t, 1, -2), start=1, stop=-2)


def indices():
    x = Ramp(4, 5, 3)
    for axis in (0, 1, -1):
        case("gather", [x, Ints([2, 0, 2, 1])], lambda t, i: paddle.gather(t, i, axis), axis=axis)
    case("gather", [x, Ints(3, "int32")], lambda t, i: paddle.gather(t, i, 0), axis=0)
    case("gather_nd", [x, Ints([[3, 4], [0, 1], [2, 0]])], paddle.gather_nd)
    case("gather_nd", [x, Ints([[[3, 4, 2]], [[0, 1, 0]]], "int32")], paddle.gather_nd)
    case("embedding", [Ramp(6, 4), Ints([[5, 0], [2, 2]])], lambda w, i: F.embedding(i, w))
    case(
        "embedding",
        [Ramp(6, 4), Ints([[5, 0], [2, 2]])],
        lambda w, i: F.embedding(i, w, padding_idx=2),
        padding_idx=2,
    )
    case("one_hot", [Ints([1, 0, 3])], lambda t: F.one_hot(t, 4), depth=4)
    for axis, largest in [(0, True), (1, False), (-1, True)]:
        case(
            "topk", [x], lambda t: paddle.topk(t, 2, axis, largest), k=2, axis=axis, largest=largest
        )
    case("topk", [Ints([[3, -4, 9, 0], [7, 8, 1, 2]], "int32")], lambda t: paddle.topk(t, 3), k=3)
    for axis, keepdim in [(0, False), (1, True), (-1, False)]:
        case("argmax", [x], lambda t: paddle.argmax(t, axis, keepdim), axis=axis, keepdim=keepdim)
        case(
            "argmax",
            [x],
            lambda t: paddle.argmin(t, axis, keepdim),
            axis=axis,
            keepdim=keepdim,
            min=True,
        )
    case("argmax", [x], lambda t: paddle.argmax(t), flatten=True)
    case(
        "argmax", [Ints([1, 3, 3, 2])], lambda t: paddle.argmax(t, 0, dtype="int32"), dtype="int32"
    )
    for axis in (0, 1, -1):
        case("cumsum", [x], lambda t: paddle.cumsum(t, axis), axis=axis)
    case(
        "cumsum",
        [Ints([[1, 2], [3, 4]], "int32")],
        lambda t: paddle._C_ops.cumsum(t, -1, True, False, False),
        flatten=True,
    )
    case(
        "cumsum",
        [x],
        lambda t: paddle._C_ops.cumsum(t, 1, False, True, True),
        axis=1,
        exclusive=True,
        reverse=True,
    )


def reductions():
    x = Ramp(2, 3, 4, 5)
    ints = Ints(np.arange(-6, 6).reshape(3, 4) % 5 - 1, "int32")
    for name in ("sum", "mean", "max", "min", "prod"):
        f = getattr(paddle, name)
        for axis, keepdim in [
            ([2, 3], True),
            ([2, 3], False),
            ([1], False),
            ([0, 2], True),
            ([0, 1, 2, 3], False),
            ([1, 3], False),
        ]:
            case(name, [x], lambda t: f(t, axis, keepdim=keepdim), axis=axis, keepdim=keepdim)
    for name in ("sum", "max", "min"):
        case(name, [ints], lambda t: getattr(paddle, name)(t, 1), axis=[1])
    for name in ("any", "all"):
        case(
            name,
            [Ints([[0, 1], [0, 0], [1, 1]], "bool")],
            lambda t: getattr(paddle, name)(t, 1),
            axis=[1],
        )


def rnns():
    for mode, gates in (("LSTM", 4), ("GRU", 3), ("RNN_TANH", 1), ("RNN_RELU", 1)):
        for layers, directions, lengths in [(1, 1, None), (2, 2, None), (1, 2, [3, 1, 2])]:
            hidden, width, batch, steps = 5, 3, 3, 3
            cells = layers * directions
            weights = []
            for cell in range(cells):
                wide = width if cell < directions else hidden * directions
                weights += [
                    Ramp(gates * hidden, wide, seed=cell),
                    Ramp(gates * hidden, hidden, seed=cell + 20),
                ]
            weights += [Ramp(gates * hidden, seed=k + 40) for k in range(2 * cells)]
            state = [
                Ramp(cells, batch, hidden, seed=60),
                Ramp(cells, batch, hidden, seed=61) if mode == "LSTM" else None,
            ]
            length = None if lengths is None else Ints(lengths)

            def run(x, h0, c0, n, *w):
                pre = [h0, c0] if mode == "LSTM" else [h0]
                out, _, final = paddle._C_ops.rnn(
                    x,
                    pre,
                    list(w),
                    n,
                    paddle.zeros([1], "uint8"),
                    0.0,
                    directions == 2,
                    width,
                    hidden,
                    layers,
                    mode,
                    0,
                    True,
                )
                return [out, *final] if mode == "LSTM" else [out, final[0], final[0]]

            case(
                "rnn",
                [Ramp(steps, batch, width), *state, length, *weights],
                run,
                mode=mode,
                hidden=hidden,
                layers=layers,
                bidirectional=directions == 2,
            )


def main():
    paddle.set_device("cpu")
    for part in (pools, interps, norms, shapes, indices, reductions, rnns):
        CASES.clear()
        part()
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
        with open(f"{sys.argv[1]}/paddle_{part.__name__}.json", "w", encoding="utf-8") as f:
            f.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
