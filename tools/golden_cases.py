"""Cases of real Paddle's functions as JSON: what the makers of goldens share."""
import json

import numpy as np
import paddle


def pack(a):
    a = np.asarray(a)
    kind = "int64" if a.dtype.kind in "iu" else "float32"
    return {
        "shape": list(a.shape),
        "dtype": kind,
        "data": [float(f"{v:.6g}") if kind == "float32" else int(v) for v in a.ravel()],
    }


def run(f, tensors, parameters=()):
    out = f(*tensors)
    w = paddle.to_tensor(
        np.cos(np.arange(int(np.prod(out.shape)))).astype("float32").reshape(out.shape)
    )
    if out.stop_gradient:
        return out, []
    wanted = [t for t in tensors if not t.stop_gradient] + list(parameters)
    (out * w).sum().backward()
    return out, [pack(t.grad.numpy()) if t.grad is not None else None for t in wanted]


def golden(f, *inputs, constant=()):
    """Inputs, result and gradients; `constant`: indices of floating inputs that get no gradient."""
    tensors = []
    for i, a in enumerate(inputs):
        t = paddle.to_tensor(a)
        t.stop_gradient = a.dtype.kind != "f" or i in constant
        tensors.append(t)
    out, grads = run(f, tensors)
    return {
        "inputs": [pack(a) for a in inputs],
        "constant": list(constant),
        "output": pack(out.numpy()),
        "grads": grads,
    }


def write(path, cases):
    with open(path, "w") as f:
        f.write(
            "{\n"
            + ",\n".join(
                f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in cases.items()
            )
            + "\n}\n"
        )
