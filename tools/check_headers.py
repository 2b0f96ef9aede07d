#!/usr/bin/env python3
"""Compiles each public header alone and prints the compiler's user time.

A header fails that needs another one before it, or that is too slow to compile. The aim is 0.25 s;
machines are noisy, so it fails above --limit only (default 0.5 s, the best of --runs).
Usage: tools/check_headers.py [--limit S] [--runs N] [HEADER...]
"""

import argparse
import os
import pathlib
import subprocess
import sys

AIM = 0.25


def user_seconds(command):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), errors, usage.ru_utime


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("headers", nargs="*", type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=0.5, help="seconds (default 0.5)")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many is taken")
    parser.add_argument("--cxx", default=os.environ.get("CXX", "g++"))
    args = parser.parse_args()
    failed = False
    for header in args.headers or sorted((root / "include" / "trireme").rglob("*.h")):
        command = [
            args.cxx,
            "-std=c++20",
            "-fsyntax-only",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{root / 'include'}",
            "-x",
            "c++",
            "-include",
            str(header),
            os.devnull,
        ]
        best = None
        for _ in range(args.runs):
            code, errors, seconds = user_seconds(command)
            if code:
                break
            best = seconds if best is None else min(best, seconds)
        name = header.resolve().relative_to(root)
        if code:
            print(f"{name}: does not compile alone\n{errors}")
            failed = True
            continue
        verdict = "" if best <= AIM else "  over the aim" if best <= args.limit else "  TOO SLOW"
        print(f"{name}: {best:.2f} s{verdict}")
        failed |= best > args.limit
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
