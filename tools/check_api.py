#!/usr/bin/env python3
"""check_api.py NAMES.tsv: the ordinary (tier 1) names of Paddle that the public headers lack.

NAMES.tsv: name, tier, kind, signature. A name counts as there when a header declares a function,
a type or an alias of that name, or lists it in a macro's table.
"""
import pathlib
import re
import sys

AREAS = (
    "paddle.nn.functional.",
    "paddle.nn.initializer.",
    "paddle.nn.utils.",
    "paddle.nn.",
    "paddle.optimizer.lr.",
    "paddle.optimizer.",
    "paddle.io.",
    "paddle.metric.",
    "paddle.amp.",
    "paddle.vision.transforms.",
    "paddle.vision.models.",
    "paddle.regularizer.",
    "paddle.autograd.",
    "paddle.Tensor.",
    "paddle.linalg.",
    "paddle.",
)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    words = set()
    for header in (root / "include" / "trireme").glob("*.h"):
        text = re.sub(r"//.*", "", header.read_text())
        words |= set(re.findall(r"(?<!:)\b(\w+)(?=\()", text))  # not std::name(
        words |= set(re.findall(r"\b(?:struct|class|using) (?:[\w:]+::)?(\w+)", text))
        words |= set(re.findall(r"\bTRI_\w+\((\w+)", text)) | set(re.findall(r"\bF\((\w+)\)", text))
    missing = {}
    for line in open(sys.argv[1]).read().splitlines()[1:]:
        name, tier, kind, _ = (line.split("\t") + [""] * 3)[:4]
        area = next((a for a in AREAS if name.startswith(a)), "")
        last = name.removeprefix(area)
        if tier != "1" or "." in last or last in words or kind in ("module", "property"):
            continue
        missing.setdefault(area, []).append(last)
    for area, names in missing.items():
        print(f"{area}* ({len(names)}): {' '.join(names)}")


main()
