"""Small values of real Paddle's tensor functions for tests/train:

    python tools/make_tensor_goldens.py tests/train/data

writes tensors.json: for each case inputs, the result as float32, and gradients of
sum(result * weights) by the floating inputs (see golden_cases.py). Needs paddle 3.3.1.
"""
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from golden_cases import golden, write

rng = np.random.default_rng(11)
cases = {}


def noise(*shape, scale=1.0, shift=0.0):
    return (rng.standard_normal(shape) * scale + shift).astype("float32")


def case(name, f, *inputs, constant=()):
    cases[name] = golden(lambda *t: f(*t).astype("float32"), *inputs, constant=constant)


x, y = noise(3, 4), noise(3, 4)
cube, other = noise(2, 3, 4), noise(2, 4, 3)
# JSON has no NaN: they are quotients.
up = np.array([1.5, 0, 1, -1, -2, 0], "float32")
down = np.array([1, 0, 0, 0, 1, 1], "float32")
small = rng.uniform(-0.9, 0.9, (3, 4)).astype("float32")
above = rng.uniform(1.1, 3, (3, 4)).astype("float32")
whole = np.array([[0, 3, 2], [1, 0, 3]])

for name in "log1p log2 log10 acosh".split():
    case(name, getattr(paddle, name), above)
for name in "asin acos atanh atan sinh cosh asinh expm1 tan neg".split():
    case(name, getattr(paddle, name), small)
for name in "sign trunc".split():
    case(name, getattr(paddle, name), above, constant=(0,))
for name in "isnan isinf isfinite".split():
    case(name, lambda a, b, n=name: getattr(paddle, n)(a / b), up, down, constant=(0, 1))
for name in "fmax fmin atan2 mod".split():
    case(name, getattr(paddle, name), x, y)
for name in "bitwise_and bitwise_or bitwise_xor".split():
    case(name, getattr(paddle, name), whole, whole[::-1].copy())
case("bitwise_not", paddle.bitwise_not, whole)
case("lerp", paddle.lerp, x, y, small)
case("lerp_number", lambda a, b: paddle.lerp(a, b, 0.3), x, y)
case("nan_to_num", lambda a, b: paddle.nan_to_num(a / b, 0.5, 7.0, -9.0), up, down, constant=(0, 1))
case("nan_to_num_plain", paddle.nan_to_num, x)
case("isclose", lambda a, b: paddle.isclose(a, b, atol=0.5), x, y, constant=(0, 1))
case("isclose_strange", lambda a, b: paddle.isclose(a / b, a / b), up, down, constant=(0, 1))
case(
    "isclose_equal_nan",
    lambda a, b: paddle.isclose(a / b, a / b, equal_nan=True),
    up,
    down,
    constant=(0, 1),
)
case("allclose", lambda a, b: paddle.allclose(a, b, atol=10.0), x, y, constant=(0, 1))
case("equal_all", paddle.equal_all, x, x, constant=(0, 1))
case("var", lambda a: paddle.var(a, axis=1), cube)
case("var_all", lambda a: paddle.var(a, unbiased=False), x)
case("std", lambda a: paddle.std(a, axis=[0, 2], keepdim=True), cube)
case("logsumexp", lambda a: paddle.logsumexp(a, axis=-1), cube)
case("count_nonzero", lambda a: paddle.count_nonzero(a, axis=1), whole)
case("median", paddle.median, x)
case("median_axis", lambda a: paddle.median(a, axis=1, keepdim=True), cube)
case("median_even", lambda a: paddle.median(a, axis=-1), cube)
case("median_min", lambda a: paddle.median(a, axis=-1, mode="min")[0], cube)
case("cumprod", lambda a: paddle.cumprod(a, dim=1), above)
case("bincount", lambda a: paddle.bincount(a, minlength=6), whole.ravel())
case("bincount_weights", lambda a, w: paddle.bincount(a, w), whole.ravel(), noise(6), constant=(1,))
case("mm", paddle.mm, x, noise(4, 2))
case("bmm", paddle.bmm, cube, other)
case("mv", paddle.mv, x, noise(4))
case("dot", paddle.dot, noise(5), noise(5))
case("dot_rows", paddle.dot, x, y)
case("outer", paddle.outer, noise(3), noise(4))
case("inner", paddle.inner, cube, noise(2, 4))
case(
    "addmm", lambda c, a, b: paddle.addmm(c, a, b, beta=0.5, alpha=2.0), noise(3, 2), x, noise(4, 2)
)
case("kron", paddle.kron, x, noise(2, 3))
case("kron_ranks", paddle.kron, noise(3), noise(2, 2))
case("cross", paddle.cross, cube, noise(2, 3, 4))
case("cross_axis", lambda a, b: paddle.cross(a, b, axis=0), x, y)
case("trace", lambda a: paddle.trace(a, offset=1, axis1=1, axis2=2), cube)
case("tensordot", lambda a, b: paddle.tensordot(a, b, axes=2), cube, noise(3, 4, 5))
case(
    "tensordot_lists",
    lambda a, b: paddle.tensordot(a, b, axes=[[0, 2], [1, 0]]),
    cube,
    noise(4, 2, 3),
)
for i, equation in enumerate(
    [
        "bij,bjk->bik",
        "ij,kj->ik",
        "ij->ji",
        "ij->",
        "ij,ij->i",
        "...ij,...jk->...ik",
        "i,j",
        "bij,bkj->bki",
    ]
):
    a = noise(3) if equation == "i,j" else x if equation[0] == "i" else cube
    b = {
        "bij,bjk->bik": other,
        "ij,kj->ik": noise(2, 4),
        "ij,ij->i": y,
        "...ij,...jk->...ik": noise(2, 4, 2),
        "i,j": noise(4),
        "bij,bkj->bki": noise(2, 5, 4),
    }.get(equation)
    case(f"einsum{i}", lambda *t, e=equation: paddle.einsum(e, *t), *([a] if b is None else [a, b]))
case("einsum_three", lambda *t: paddle.einsum("ij,jk,kl->il", *t), x, noise(4, 2), noise(2, 3))
case("norm", lambda a: paddle.linalg.norm(a, p=3, axis=1), x)
case("norm_two", lambda a: paddle.linalg.norm(a), x)

case("eye", lambda a: a + paddle.eye(3, 4), x)
case("linspace", lambda a: a * paddle.linspace(-1, 2, 4), x)
case("diag", lambda a: paddle.diag(a, 1, padding_value=2), noise(3), constant=(0,))
case("diag_of", lambda a: paddle.diag(a, -1), noise(4, 3))
case("diagonal", lambda a: paddle.diagonal(a, 1, 1, 2), cube)
case("diag_embed", lambda a: paddle.diag_embed(a, 1), x)
case("tril", lambda a: paddle.tril(a, -1), cube)
case("triu", lambda a: paddle.triu(a, 1), cube)
case("meshgrid", lambda a, b: paddle.multiply(*paddle.meshgrid(a, b)), noise(3), noise(2))
case("roll", lambda a: paddle.roll(a, [1, -2], [0, 2]), cube)
case("roll_flat", lambda a: paddle.roll(a, 5), x)
case("moveaxis", lambda a: paddle.moveaxis(a, [0, 1], [-1, 0]), cube)
case("expand_as", lambda a, b: paddle.expand_as(a, b) * b, noise(1, 4), x)
case(
    "broadcast_tensors", lambda a, b: paddle.add(*paddle.broadcast_tensors([a, b])), x, noise(1, 4)
)
case("unbind", lambda a: paddle.add_n(paddle.unbind(a, 1)), cube)
case("repeat", lambda a: paddle.repeat_interleave(a, 3, 1), x)
case("repeat_flat", lambda a: paddle.repeat_interleave(a, 2), x)
case("repeat_each", lambda a, r: paddle.repeat_interleave(a, r, 0), x, np.array([2, 0, 3]))
case("index_select", lambda a, i: paddle.index_select(a, i, axis=1), x, np.array([3, 0, 3]))
case("index_sample", paddle.index_sample, x, np.array([[3, 0], [1, 1], [2, 3]]))
case(
    "take_along_axis",
    lambda a, i: paddle.take_along_axis(a, i, 1),
    x,
    np.array([[3, 0], [1, 1], [2, 3]]),
)
case("masked_select", lambda a, m: paddle.masked_select(a, m > 0), x, np.array([0, 1, 1, 0]))
case("nonzero", paddle.nonzero, whole)
numbers = np.array([3, 1, 2, 1, 3, 3])
for i in range(4):
    case(f"unique{i}", lambda a, k=i: paddle.unique(a, True, True, True)[k], numbers)
case("scatter", paddle.scatter, x, np.array([2, 0]), noise(2, 4))
case(
    "scatter_add",
    lambda a, i, u: paddle.scatter(a, i, u, overwrite=False),
    x,
    np.array([1, 1]),
    noise(2, 4),
)
case(
    "scatter_nd",
    lambda i, u: paddle.scatter_nd(i, u, [3, 4]),
    np.array([[1, 2], [0, 0], [1, 2]]),
    noise(3),
)
case("scatter_nd_add", paddle.scatter_nd_add, x, np.array([[1], [1]]), noise(2, 4))
case("index_add", lambda a, i, v: paddle.index_add(a, i, 1, v), x, np.array([3, 3]), noise(3, 2))
case(
    "index_put",
    lambda a, i, j, v: paddle.index_put(a, (i, j), v),
    x,
    np.array([0, 2]),
    np.array([1, -1]),
    noise(2),
)
case(
    "index_put_add",
    lambda a, i, v: paddle.index_put(a, (i,), v, True),
    x,
    np.array([0, 0]),
    noise(4),
)
case(
    "index_put_mask",
    lambda a, m, v: paddle.index_put(a, (m > 0,), v),
    x,
    np.array([[0, 1, 0, 0]] * 3),
    noise(1),
)
case(
    "put_along_axis",
    lambda a, i, v: paddle.put_along_axis(a, i, v, 1),
    x,
    np.array([[3], [1], [2]]),
    noise(3, 1),
)
case(
    "put_along_axis_add",
    lambda a, i, v: paddle.put_along_axis(a, i, v, 1, "add"),
    x,
    np.array([[3], [1], [2]]),
    noise(3, 1),
)
case("masked_fill", lambda a, m: paddle.masked_fill(a, m > 0, 0.5), x, np.array([0, 1, 1, 0]))
case("sort", lambda a: paddle.sort(a, axis=0, descending=True), x)
case("argsort", lambda a: paddle.argsort(a, axis=1), x, constant=(0,))
case(
    "searchsorted",
    lambda a, b: paddle.searchsorted(a, b, right=True),
    np.sort(x),
    y,
    constant=(0, 1),
)

picture = noise(2, 3, 5, 6)
theta = np.array([[[0.8, 0.3, 0.1], [-0.2, 1.1, -0.3]], [[1, 0, 0.5], [0, 1.3, 0]]], "float32")
for corners in (True, False):
    case(
        f"affine_grid{int(corners)}",
        lambda t, c=corners: F.affine_grid(t, [2, 3, 4, 5], align_corners=c),
        theta,
    )
grid = rng.uniform(-1.3, 1.3, (2, 4, 3, 2)).astype("float32")
for mode in ("bilinear", "nearest"):
    for padding in ("zeros", "border", "reflection"):
        for corners in (True, False):
            case(
                f"grid_sample_{mode}_{padding}{int(corners)}",
                lambda a, g, m=mode, p=padding, c=corners: F.grid_sample(a, g, m, p, c),
                picture,
                grid,
                constant=(1,) if mode == "nearest" else (),
            )
for corners in (True, False):
    case(
        f"bicubic{int(corners)}",
        lambda a, c=corners: F.interpolate(a, size=[7, 4], mode="bicubic", align_corners=c),
        picture,
    )
case("bicubic_scale", lambda a: F.interpolate(a, scale_factor=[1.5, 2], mode="bicubic"), picture)
rows = np.array([[0, 2], [2, 1]])
case(
    "embedding_max_norm",
    lambda i, w: F.embedding(i, w * 1, max_norm=0.7),
    rows,
    noise(4, 3),
    constant=(1,),
)
case(
    "embedding_max_norm_one",
    lambda i, w: F.embedding(i, w * 1, max_norm=0.7, norm_type=1.0),
    rows,
    noise(4, 3),
    constant=(1,),
)

# ---- matrices
matrices, high, wide = noise(2, 3, 3), noise(2, 4, 3), noise(3, 5)


def definite(a):
    return a @ a.transpose([0, 2, 1]) + 3 * paddle.eye(3)


def together(parts):
    return paddle.concat([part.flatten() for part in parts])


case("inv", paddle.linalg.inv, matrices)
case("det", paddle.linalg.det, matrices)
case("solve", lambda a, b: paddle.linalg.solve(definite(a), b), matrices, noise(2, 3, 2))
case("solve_vector", paddle.linalg.solve, noise(3, 3), noise(3))
case("cholesky", lambda a: paddle.linalg.cholesky(definite(a)), matrices)
case("cholesky_upper", lambda a: paddle.linalg.cholesky(definite(a), upper=True), matrices)
for matrix_name, matrix in (("square", matrices), ("high", high)):
    # Both at once: Paddle's gradient of one alone does not run.
    case(f"qr_{matrix_name}", lambda a: together(paddle.linalg.qr(a)), matrix)
case("qr_wide_r", lambda a: paddle.linalg.qr(a, mode="r"), wide, constant=(0,))
case("qr_complete", lambda a: paddle.linalg.qr(a, mode="complete")[1], high, constant=(0,))
# Vectors have no sign: their squares.
for matrix_name, matrix in (("square", matrices), ("high", high), ("wide", wide)):
    case(f"svd_{matrix_name}", lambda a: paddle.linalg.svd(a)[1], matrix)
    for i in (0, 2):
        case(f"svd_{matrix_name}_{i}", lambda a, i=i: paddle.linalg.svd(a)[i] ** 2, matrix)
case("svd_full", lambda a: paddle.linalg.svd(a, full_matrices=True)[0] ** 2, high, constant=(0,))


def eigh(a):
    values, vectors = paddle.linalg.eigh(a + a.transpose([0, 2, 1]))
    return together([values, vectors**2])


case("eigh", eigh, matrices[:1])  # of a batch Paddle's gradient fits the first matrix alone


# ---- weights of layers


def normed(layer, dim):
    def f(x, v, g):
        made = layer()
        paddle.nn.utils.weight_norm(made, dim=dim)
        for key, value in (("weight_v", v), ("weight_g", g)):
            del made._parameters[key]
            object.__setattr__(made, key, value)
        return made(x)

    return f


def linear():
    return paddle.nn.Linear(4, 3, bias_attr=False)


def conv():
    return paddle.nn.Conv2D(2, 3, 2, bias_attr=False)


def spectral(layer, u_size, v_size, rounds):
    def f(x, w):
        made = layer()
        made.weight.set_value(w)
        paddle.nn.utils.spectral_norm(made, n_power_iterations=rounds)
        made.weight_u.set_value(paddle.ones([u_size]) / u_size**0.5)
        made.weight_v.set_value(paddle.ones([v_size]) / v_size**0.5)
        del made._parameters["weight_orig"]
        object.__setattr__(made, "weight_orig", w)
        return made(x)

    return f


case("weight_norm0", normed(linear, 0), noise(2, 4), noise(4, 3), noise(4))
case("weight_norm1", normed(linear, 1), noise(2, 4), noise(4, 3), noise(3))
case("weight_norm_all", normed(linear, None), noise(2, 4), noise(4, 3), noise(1))
case("weight_norm_conv", normed(conv, 0), noise(1, 2, 4, 4), noise(3, 2, 2, 2), noise(3))
case("spectral_norm", spectral(linear, 3, 4, 2), noise(2, 4), noise(4, 3))
case("spectral_norm_conv", spectral(conv, 3, 8, 1), noise(1, 2, 4, 4), noise(3, 2, 2, 2))

write(f"{sys.argv[1]}/tensors.json", cases)
