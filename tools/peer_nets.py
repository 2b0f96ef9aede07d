"""The networks of `trireme bench --train` in PyTorch: same layers, same sizes."""

# PP-OCR's MobileNetV3 at half the channels: kernel, expanded, out, squeeze, activation, stride down
CRNN_SMALL = [
    (3, 16, 16, True, "relu", 1),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
]
CLASSES = 6625  # of the recogniser


def channels(value):
    """Half of them, a multiple of 8, never less than nine tenths."""
    value *= 0.5
    near = max(8, int(value + 4) // 8 * 8)
    return near + 8 if near < 0.9 * value else near


def torch_net(network):
    """A new network of that name in training mode."""
    import torch
    import torchvision
    from torch import nn

    def part(i, o, kernel, stride, groups, act):
        layers = [
            nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(o),
        ]
        acts = {"relu": nn.ReLU, "hardswish": nn.Hardswish}
        return nn.Sequential(*layers, *([acts[act](inplace=True)] if act else []))

    class Squeeze(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

        def forward(self, x):
            y = self.b(nn.functional.relu(self.a(x.mean((2, 3), keepdim=True))))
            return x * torch.clamp(0.2 * y + 0.5, 0, 1)

    class Block(nn.Module):
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

    class Crnn(nn.Module):
        def __init__(self):
            super().__init__()
            i = channels(16)
            parts = [part(3, i, 3, 2, 1, "hardswish")]
            for kernel, mid, o, squeeze, act, down in CRNN_SMALL:
                parts.append(Block(i, kernel, channels(mid), channels(o), squeeze, act, down))
                i = channels(o)
            parts += [part(i, channels(576), 1, 1, 1, "hardswish"), nn.MaxPool2d(2, 2)]
            self.backbone = nn.Sequential(*parts)
            self.lstm = nn.LSTM(channels(576), 48, 2, bidirectional=True, batch_first=True)
            self.fc = nn.Linear(96, CLASSES)

        def forward(self, x):
            return self.fc(self.lstm(self.backbone(x).squeeze(2).transpose(1, 2))[0])

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(5000, 256)
            layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", batch_first=True)
            self.t = nn.TransformerEncoder(layer, 4)
            self.o = nn.Linear(256, 2)

        def forward(self, ids):
            return self.o(self.t(self.e(ids)).mean(1))

    def lenet():
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5)),
            *(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120)),
            *(nn.Linear(120, 84), nn.Linear(84, 10)),
        )

    class Bert(nn.Module):
        """PaddleNLP's BertForMaskedLM at the size of BERT-base, without dropout."""

        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(30522, 768), nn.Embedding(512, 768)
            self.types, self.norm = nn.Embedding(2, 768), nn.LayerNorm(768, 1e-12)
            layer = nn.TransformerEncoderLayer(768, 12, 3072, 0.0, "gelu", batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 12)
            self.transform, self.head_norm = nn.Linear(768, 768), nn.LayerNorm(768, 1e-12)
            self.bias = nn.Parameter(torch.zeros(30522))

        def forward(self, ids):
            places = torch.arange(ids.shape[1], device=ids.device)
            x = self.words(ids) + self.places(places) + self.types(torch.zeros_like(ids))
            x = self.transform(self.encoder(self.norm(x)))
            x = self.head_norm(nn.functional.gelu(x))
            return nn.functional.linear(x, self.words.weight, self.bias)

    make = {"lenet": lenet, "encoder": Encoder, "crnn": Crnn, "bert_base": Bert}
    return (make.get(network) or getattr(torchvision.models, network))().train()
