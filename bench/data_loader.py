"""The peer of bench/data_loader.cpp: torchvision's ImageFolder and torch's DataLoader.

data_loader.py FOLDER [WORKERS [BATCH [EPOCHS]]] prints the same JSON object.
data_loader.py --make FOLDER [COUNT] writes COUNT (512) synthetic photographs of about 500 x 375.
"""

import json
import sys
import time
from pathlib import Path


def make(folder, count):
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(count):
        width, height = int(random.integers(440, 560)), int(random.integers(330, 420))
        # Smooth shapes and fine grain: about 50 kB a file, as photographs of this size have.
        noise = np.zeros((height, width, 3))
        for cells in (4, 12, 40, 120):
            grid = random.normal(0, 1, (cells * height // width + 1, cells, 3)) * (
                300 / cells**0.75
            )
            small = Image.fromarray((grid.clip(-127, 127) + 128).astype(np.uint8))
            noise += np.asarray(small.resize((width, height), Image.BICUBIC), float) - 128
        pixels = (noise + 128 + random.normal(0, 4, (height, width, 1))).clip(0, 255)
        path = folder / f"class{i % 8}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=85)


def bench(folder, workers, batch, epochs):
    import torch
    from torchvision import datasets
    from torchvision import transforms as t

    torch.set_num_threads(1)
    steps = t.Compose(
        [
            t.RandomResizedCrop(224),
            t.RandomHorizontalFlip(),
            t.ToTensor(),
            t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    data = datasets.ImageFolder(str(folder), steps)
    loader = torch.utils.data.DataLoader(
        data, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    rates = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        pictures = sum(len(x) for x, _ in loader)
        rates.append(round(pictures / (time.perf_counter() - start), 1))
    print(json.dumps({"pictures": len(data), "pictures_per_s": rates[1:]}))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 512)
    else:
        numbers = [int(a) for a in sys.argv[2:]] + [2, 64, 3][len(sys.argv) - 2 :]
        bench(Path(sys.argv[1]), *numbers)
