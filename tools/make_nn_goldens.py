"""Small values of real Paddle for tests/train: python tools/make_nn_goldens.py tests/train/data

functions.json: for each case inputs, the result, and gradients of sum(result * weights) by the
floating inputs, where weights are cos(0), cos(1) ...; of layers the parameters by their names too.
state_dicts.json: names and shapes of layers, and a hash of those of networks. Needs paddle 3.3.1.
"""
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from golden_cases import golden, pack, run, write
from paddle import nn
from paddle.vision import models

ACTIVATIONS = """relu relu6 leaky_relu elu celu selu gelu silu swish mish hardswish hardsigmoid
hardtanh hardshrink softshrink tanhshrink thresholded_relu softplus softsign log_sigmoid softmax
log_softmax glu"""
rng = np.random.default_rng(7)
cases = {}


def noise(*shape, scale=1.0, shift=0.0):
    return (rng.standard_normal(shape) * scale + shift).astype("float32")


def case(name, f, *inputs, constant=()):
    cases[name] = golden(f, *inputs, constant=constant)


def layer_case(name, layer, *inputs, steps=1, evaluate=False, call=None):
    # numpy() may share memory with a tensor that changes.
    state = {k: pack(v.numpy().copy()) for k, v in layer.state_dict().items()}
    tensors = []
    for a in inputs:
        t = paddle.to_tensor(a)
        t.stop_gradient = a.dtype.kind != "f"
        tensors.append(t)
    if evaluate:
        layer.eval()
    names = [k for k, p in layer.named_parameters() if not p.stop_gradient]
    params = [p for _, p in layer.named_parameters() if not p.stop_gradient]
    for _ in range(steps - 1):
        layer(*tensors)
    out, grads = run(call or layer, tensors, params)
    after = {
        k: pack(v.numpy()) for k, v in layer.state_dict().items() if pack(v.numpy()) != state[k]
    }
    cases[name] = {
        "inputs": [pack(a) for a in inputs],
        "state": state,
        "after": after,
        "output": pack(out.numpy()),
        "grads": grads,
        "names": names,
    }


x, y = noise(3, 5), noise(3, 5)
hot = rng.integers(0, 2, (3, 5)).astype("float32")
prob = rng.uniform(0.05, 0.95, (3, 5)).astype("float32")
signs = np.where(hot > 0, 1, -1).astype("float32")
soft = (prob / prob.sum(1, keepdims=True)).astype("float32")
classes = np.array([1, 4, 0])
for reduction in ("mean", "sum", "none"):
    case(
        f"cross_entropy_{reduction}",
        lambda a, b: F.cross_entropy(a, b, reduction=reduction),
        x,
        classes,
    )
weights = rng.uniform(0.5, 2, 5).astype("float32")
case(
    "cross_entropy_weight_ignore",
    lambda a, b, w: F.cross_entropy(a, b, weight=w, ignore_index=4),
    x,
    classes,
    weights,
    constant=(2,),
)
case(
    "cross_entropy_soft",
    lambda a, b: F.cross_entropy(a, b, soft_label=True),
    x,
    soft,
    constant=(1,),
)
case(
    "cross_entropy_soft_weight",
    lambda a, b, w: F.cross_entropy(a, b, weight=w, soft_label=True),
    x,
    soft,
    weights,
    constant=(1, 2),
)
case("cross_entropy_smooth", lambda a, b: F.cross_entropy(a, b, label_smoothing=0.1), x, classes)
case(
    "cross_entropy_axis",
    lambda a, b: F.cross_entropy(a, b, axis=1),
    noise(2, 4, 3),
    rng.integers(0, 4, (2, 3)),
)
case(
    "cross_entropy_probabilities",
    lambda a, b: F.cross_entropy(a, b, use_softmax=False),
    soft,
    classes,
)
case("mse_loss", F.mse_loss, x, y)
case("l1_loss", F.l1_loss, x, y)
case("smooth_l1_loss", lambda a, b: F.smooth_l1_loss(a, b, delta=0.7), x, y)
case(
    "smooth_l1_loss_not_huber", lambda a, b: F.smooth_l1_loss(a, b, delta=0.7, is_huber=False), x, y
)
case("bce", F.binary_cross_entropy, prob, hot, constant=(1,))
case("bce_logits", F.binary_cross_entropy_with_logits, x, hot, constant=(1,))
case(
    "bce_logits_pos",
    lambda a, b, w, p: F.binary_cross_entropy_with_logits(a, b, w, pos_weight=p),
    x,
    prob,
    weights,
    weights[::-1].copy(),
    constant=(1, 2, 3),
)
case(
    "nll_loss",
    lambda a, b, w: F.nll_loss(a, b, w, ignore_index=0),
    np.log(soft),
    classes,
    weights,
    constant=(2,),
)
case(
    "nll_loss_picture",
    lambda a, b: F.nll_loss(a, b, reduction="none"),
    noise(2, 4, 2, 3),
    rng.integers(0, 4, (2, 2, 3)),
)
for reduction in ("mean", "batchmean"):
    case(
        f"kl_div_{reduction}",
        lambda a, b: F.kl_div(a, b, reduction=reduction),
        np.log(prob),
        soft * hot,
        constant=(1,),
    )
case(
    "kl_div_log",
    lambda a, b: F.kl_div(a, b, log_target=True),
    np.log(prob),
    np.log(soft),
    constant=(1,),
)
case(
    "margin_ranking",
    lambda a, b, c: F.margin_ranking_loss(a, b, c, margin=0.3),
    x,
    y,
    signs,
    constant=(2,),
)
case("hinge_embedding", F.hinge_embedding_loss, x, signs, constant=(1,))
case(
    "cosine_embedding",
    lambda a, b, c: F.cosine_embedding_loss(a, b, c, margin=0.1),
    x,
    y,
    np.array([1, -1, 1]),
)
case("triplet", lambda a, b, c: F.triplet_margin_loss(a, b, c, swap=True), x, y, noise(3, 5))
case("focal", lambda a, b: F.sigmoid_focal_loss(a, b), x, hot, constant=(1,))
case("dice", F.dice_loss, soft, classes[:, None])
case("log_loss", F.log_loss, prob[:, :1].copy(), hot[:, :1].copy(), constant=(1,))
case("soft_margin", F.soft_margin_loss, x, signs, constant=(1,))
t, n, c = 6, 2, 5
case(
    "ctc_mean",
    lambda a, b, i, l: F.ctc_loss(a, b, i, l),
    noise(t, n, c),
    np.array([[1, 2, 2], [3, 1, 0]], "int32"),
    np.array([6, 5]),
    np.array([3, 2]),
)
case(
    "ctc_none",
    lambda a, b, i, l: F.ctc_loss(a, b, i, l, reduction="none"),
    noise(t, n, c),
    np.array([[1, 2, 2], [3, 1, 0]], "int32"),
    np.array([6, 5]),
    np.array([3, 2]),
)

for name in ACTIVATIONS.split():
    case(f"act_{name}", getattr(F, name), noise(3, 6, scale=2))
case("act_gelu_tanh", lambda a: F.gelu(a, approximate=True), x)
case("prelu", F.prelu, noise(2, 3, 2), noise(3))

picture = noise(2, 4, 5, 6)
case(
    "conv2d",
    lambda a, w, b: F.conv2d(a, w, b, stride=[2, 1], padding=[1, 2], dilation=[1, 2], groups=2),
    picture,
    noise(6, 2, 3, 2),
    noise(6),
)
case(
    "conv2d_same", lambda a, w: F.conv2d(a, w, stride=2, padding="SAME"), picture, noise(3, 4, 3, 2)
)
case("conv2d_four", lambda a, w: F.conv2d(a, w, padding=[1, 0, 2, 1]), picture, noise(3, 4, 3, 2))
case(
    "conv1d",
    lambda a, w, b: F.conv1d(a, w, b, stride=2, padding=2),
    noise(2, 3, 7),
    noise(4, 3, 3),
    noise(4),
)
case(
    "conv2d_transpose",
    lambda a, w, b: F.conv2d_transpose(a, w, b, stride=2, padding=1, output_padding=1, groups=2),
    picture,
    noise(4, 3, 3, 3),
    noise(6),
)
case(
    "conv2d_transpose_size",
    lambda a, w: F.conv2d_transpose(a, w, stride=2, padding=1, output_size=[10, 11]),
    picture,
    noise(4, 3, 3, 3),
)
case(
    "conv1d_transpose",
    lambda a, w: F.conv1d_transpose(a, w, stride=2, padding=1),
    noise(2, 3, 5),
    noise(3, 2, 4),
)
case("max_pool2d", lambda a: F.max_pool2d(a, 3, 2, 1), picture)
case("max_pool2d_ceil", lambda a: F.max_pool2d(a, 2, 2, 0, ceil_mode=True), picture)
case("avg_pool2d", lambda a: F.avg_pool2d(a, 3, 2, 1), picture)
case("avg_pool2d_inclusive", lambda a: F.avg_pool2d(a, 3, 2, 1, exclusive=False), picture)
case("avg_pool2d_divisor", lambda a: F.avg_pool2d(a, 2, 2, 0, divisor_override=3), picture)
case("max_pool1d", lambda a: F.max_pool1d(a, 3, 2, 1), noise(2, 3, 8))
case("avg_pool1d", lambda a: F.avg_pool1d(a, 3, 2, 1), noise(2, 3, 8))
case("adaptive_avg_pool2d", lambda a: F.adaptive_avg_pool2d(a, [2, 4]), picture)
case("adaptive_avg_pool1d", lambda a: F.adaptive_avg_pool1d(a, 3), noise(2, 3, 8))
case("adaptive_max_pool2d", lambda a: F.adaptive_max_pool2d(a, [2, 3]), picture)
case("layer_norm", lambda a, w, b: F.layer_norm(a, [5, 6], w, b), picture, noise(30), noise(30))
case(
    "group_norm", lambda a, w, b: F.group_norm(a, 2, weight=w, bias=b), picture, noise(4), noise(4)
)
case(
    "instance_norm",
    lambda a, w, b: F.instance_norm(a, weight=w, bias=b),
    picture,
    noise(4),
    noise(4),
)
case(
    "rms_norm",
    lambda a, w: a * paddle.rsqrt((a * a).mean(-1, keepdim=True) + 1e-5) * w,
    x,
    noise(5),
)
case("local_response_norm", lambda a: F.local_response_norm(a, 3), picture)
case("normalize", lambda a: F.normalize(a), x)
case("cosine_similarity", lambda a, b: F.cosine_similarity(a, b), x, y)
case("label_smooth", lambda a: F.label_smooth(a, epsilon=0.2), hot)
case("pad2d", lambda a: F.pad(a, [1, 2, 0, 1], mode="reflect"), picture)
case("pad_constant", lambda a: F.pad(a, [1, 2, 0, 1], value=0.5), picture)
case("pad_all", lambda a: F.pad(a, [1, 0, 0, 2], value=0.5), x)
case("nearest", lambda a: F.interpolate(a, scale_factor=2), picture)
case("bilinear", lambda a: F.interpolate(a, size=[7, 9], mode="bilinear"), picture)
case(
    "bilinear_corners",
    lambda a: F.interpolate(a, size=[7, 9], mode="bilinear", align_corners=True),
    picture,
)
case("pixel_shuffle", lambda a: F.pixel_shuffle(a, 2), picture)
case("pixel_unshuffle", lambda a: F.pixel_unshuffle(a, 2), noise(2, 3, 4, 6))
case("channel_shuffle", lambda a: F.channel_shuffle(a, 2), picture)
case("unfold", lambda a: F.unfold(a, [3, 2], strides=2, paddings=1), picture)
case(
    "embedding",
    lambda i, w: F.embedding(i, w, padding_idx=1),
    np.array([[0, 1], [3, 1]]),
    noise(4, 3),
)
case(
    "attention",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    noise(2, 4, 2, 8),
    noise(2, 4, 2, 8),
    noise(2, 4, 2, 8),
)
case("swiglu", lambda a: F.swiglu(a), noise(3, 6))

paddle.seed(1)
layer_case("BatchNorm2D", nn.BatchNorm2D(4), picture)
layer_case("BatchNorm1D", nn.BatchNorm1D(5, momentum=0.8), noise(4, 5))
layer_case("BatchNorm1D_line", nn.BatchNorm1D(3), noise(2, 3, 7))
layer_case("BatchNorm2D_eval", nn.BatchNorm2D(4), picture, evaluate=True)
layer_case("LayerNorm", nn.LayerNorm(6), picture)
layer_case("Conv2D_reflect", nn.Conv2D(4, 3, 3, padding=1, padding_mode="reflect"), picture)
layer_case("MultiHeadAttention", nn.MultiHeadAttention(8, 2), noise(2, 3, 8))
layer_case(
    "MultiHeadAttention_cross",
    nn.MultiHeadAttention(8, 2, kdim=6, vdim=4),
    noise(2, 3, 8),
    noise(2, 5, 6),
    noise(2, 5, 4),
)
layer_case(
    "EncoderLayer_before",
    nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="gelu", normalize_before=True),
    noise(2, 3, 8),
)
layer_case(
    "DecoderLayer",
    nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0),
    noise(2, 3, 8),
    noise(2, 4, 8),
)
layer_case(
    "Transformer", nn.Transformer(8, 2, 1, 1, 12, dropout=0.0), noise(2, 3, 8), noise(2, 4, 8)
)
for kind in ("LSTM", "GRU", "SimpleRNN"):
    make = getattr(nn, kind)
    layer = make(3, 4, 2, direction="bidirect")
    layer_case(kind, layer, noise(2, 5, 3), call=lambda a, l=layer: l(a)[0])
    cell = getattr(nn, kind + "Cell")(3, 4)
    layer_case(kind + "Cell", cell, noise(2, 3), call=lambda a, l=cell: l(a)[0])


def names(layer):
    return [f"{k} {'x'.join(map(str, v.shape))}" for k, v in layer.state_dict().items()]


def fnv(lines):
    h = 0xCBF29CE484222325
    for byte in "".join(line + "\n" for line in lines).encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return f"{h:016x}"


state = {"layers": {}, "networks": {}}
for name, layer in {
    "LSTM": nn.LSTM(3, 4, 2, direction="bidirect"),
    "GRU": nn.GRU(3, 4),
    "BatchNorm2D": nn.BatchNorm2D(3),
    "InstanceNorm2D": nn.InstanceNorm2D(3),
    "PReLU": nn.PReLU(2),
    "LSTMCell": nn.LSTMCell(3, 4),
    "Conv2DTranspose": nn.Conv2DTranspose(4, 6, 3, groups=2),
    "GroupNorm": nn.GroupNorm(2, 4),
    "Transformer": nn.Transformer(8, 2, 1, 2, 12),
    "LayerNorm": nn.LayerNorm([2, 3]),
}.items():
    state["layers"][name] = names(layer)
for name, make in {
    "lenet": models.LeNet,
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    "resnet101": models.resnet101,
    "mobilenet_v1": models.mobilenet_v1,
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "mobilenet_v3_large": models.mobilenet_v3_large,
    "vgg11": models.vgg11,
    "vgg16": models.vgg16,
}.items():
    lines = names(make())
    state["networks"][name] = {"entries": len(lines), "fnv1a": fnv(lines)}
    if len(sys.argv) > 2:
        open(f"{sys.argv[2]}/{name}.txt", "w").write("\n".join(lines) + "\n")
    del lines

write(f"{sys.argv[1]}/functions.json", cases)
write(f"{sys.argv[1]}/state_dicts.json", state)
