#!/usr/bin/env python3
"""Checks the include lines of src/ against the layers of docs/design.md, section 2.

A file may include its own folder, folders strictly below it, and the public headers. Siblings never
see each other. The programs on top (serve, ocr, cli, python) build on public headers and on base
alone; ocr, which is about pictures, on image as well.
Usage: tools/check_layers.py [ROOT]; prints FILE:LINE: for every breach and exits 1 if there is one.
"""

import pathlib
import re
import sys

LEVEL = {
    "base": 0,
    "graph": 1,
    "device": 1,
    "image": 1,
    "ops": 2,
    "passes": 3,
    "runtime": 4,
    "formats": 4,
    "train": 5,
    "infer": 5,
    "serve": 6,
    "ocr": 6,
    "cli": 7,
    "python": 7,
}
PUBLIC_ONLY = {"serve", "ocr", "cli", "python"}
ALSO = {("ocr", "image")}  # what a folder of PUBLIC_ONLY may include besides
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def fault(folder, path, root):
    """Why a file of `folder` may not include `path`; None when it may."""
    if path.startswith("trireme/"):
        return None if (root / "include" / path).is_file() else "no such public header"
    if path.endswith(".pb.h"):
        return None  # generated beside the build
    other = path.split("/")[0]
    if "/" not in path or ".." in path:
        return 'write the path from src/, as in "base/parallel.h"'
    if other not in LEVEL:
        return None if not (root / "src" / other).exists() else f"folder {other} has no layer"
    if other in (folder, "base") or (folder, other) in ALSO:
        return None
    if folder in PUBLIC_ONLY:
        return f"{folder} builds on public headers and base alone"
    if LEVEL[other] >= LEVEL[folder]:
        return f"{other} (level {LEVEL[other]}) is not below {folder} (level {LEVEL[folder]})"
    return None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    faults = []
    for file in sorted((root / "src").rglob("*")):
        if file.suffix not in {".h", ".cpp", ".cu", ".cuh", ".inc"}:
            continue
        folder = file.relative_to(root / "src").parts[0]
        if folder not in LEVEL:
            faults.append(f"{file.relative_to(root)}:1: folder {folder} has no layer")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            why = match and fault(folder, match[1], root)
            if why:
                faults.append(f"{file.relative_to(root)}:{number}: {match[1]}: {why}")
    print("\n".join(faults) or "layers: in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
