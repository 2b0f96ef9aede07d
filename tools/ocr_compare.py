#!/usr/bin/env python3
"""Compares `trireme ocr` with RapidOCR: boxes (hmean at IoU 0.5), text (character error rate).

Runs in a Python that has rapidocr_paddle (or rapidocr_onnxruntime); both have PP-OCRv4 models.

    python tools/ocr_compare.py --trireme build/release/trireme PICTURE... [-- ocr's options]
"""

import argparse
import json
import os
import subprocess
import sys

from shapely.geometry import Polygon


def peer_engine():
    try:
        from rapidocr_paddle import RapidOCR
    except ImportError:
        from rapidocr_onnxruntime import RapidOCR
    return RapidOCR()


def read_with_peer(files, cache):
    known = {}
    if cache and os.path.exists(cache):
        with open(cache, encoding="utf-8") as file:
            known = json.load(file)
    missing = [f for f in files if os.path.basename(f) not in known]
    if missing:
        engine = peer_engine()
        for path in missing:
            lines, _ = engine(path)
            known[os.path.basename(path)] = [
                {"box": box, "text": text, "score": score} for box, text, score in lines or []
            ]
        if cache:
            with open(cache, "w", encoding="utf-8") as file:
                json.dump(known, file, ensure_ascii=False)
    return known


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def iou(a, b):
    p, q = Polygon(a["box"]), Polygon(b["box"])
    if not p.is_valid or not q.is_valid:
        return 0.0
    common = p.intersection(q).area
    return common / (p.area + q.area - common) if common else 0.0


def match(expected, got):
    """Pairs of lines, best overlap first."""
    pairs = sorted(
        ((iou(e, g), i, j) for i, e in enumerate(expected) for j, g in enumerate(got)), reverse=True
    )
    left, right, matched = set(), set(), []
    for overlap, i, j in pairs:
        if overlap >= 0.5 and i not in left and j not in right:
            left.add(i)
            right.add(j)
            matched.append((i, j))
    return matched


def compare(expected, got, verbose):
    matched = match(expected, got)
    errors = 0
    for i, j in matched:
        distance = edit_distance(expected[i]["text"], got[j]["text"])
        errors += distance
        if distance and verbose:
            print(f'    {expected[i]["text"]!r} -> {got[j]["text"]!r}')
    for k, lines, side in ((0, expected, "missing"), (1, got, "extra")):
        for n in set(range(len(lines))) - {pair[k] for pair in matched}:
            errors += len(lines[n]["text"])
            if verbose:
                print(f'    {side}: {lines[n]["text"]!r}')
    return len(matched), errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trireme", default="build/release/trireme")
    parser.add_argument("--cache", help="JSON file that keeps what the peer read")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("pictures", nargs="+")
    argv, extra = sys.argv[1:], []
    if "--" in argv:
        argv, extra = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    args = parser.parse_args(argv)
    expected = read_with_peer(args.pictures, args.cache)
    output = subprocess.run(
        [args.trireme, "ocr", *args.pictures, "--json", "-", *extra],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout
    got = json.loads(output)
    total = dict(expected=0, got=0, matched=0, errors=0, characters=0)
    for path in args.pictures:
        name = os.path.basename(path)
        matched, errors = compare(expected[name], got[name], args.verbose)
        characters = sum(len(line["text"]) for line in expected[name])
        print(
            f"{name}: {len(expected[name])} lines expected, {len(got[name])} got, {matched} match, "
            f"{errors} of {characters} characters differ"
        )
        for key, value in zip(
            total, (len(expected[name]), len(got[name]), matched, errors, characters)
        ):
            total[key] += value
    hmean = 2 * total["matched"] / max(1, total["expected"] + total["got"])
    rate = total["errors"] / max(1, total["characters"])
    print(
        f"hmean at IoU 0.5: {hmean:.4f}   character error rate: {100 * rate:.2f} %   "
        f"({total['expected']} lines, {total['characters']} characters)"
    )
    return 0 if hmean >= 0.97 and rate <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
