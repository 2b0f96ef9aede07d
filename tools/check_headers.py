#!/usr/bin/env python3
"""Compiles each public header alone and prints the compiler's user time.

A header fails that needs another one before it, or that is too slow to compile. The aim is 0.25 s;
machines are noisy and differ, so it fails only above --limit (default: 0.5 s, or 1.6 times what the
standard headers take that all need, where that is more), the best of --runs.
Usage: tools/check_headers.py [--limit S] [--runs N] [HEADER...]
"""

import argparse
import os
import pathlib
import subprocess
import sys

AIM = 0.25
NEEDED = ("functional", "memory", "string", "vector")


def user_seconds(command):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), errors, usage.ru_utime


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("headers", nargs="*", type=pathlib.Path)
    parser.add_argument("--limit", type=float, help="seconds")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many is taken")
    parser.add_argument("--cxx", default=os.environ.get("CXX", "g++"))
    args = parser.parse_args()
    command = [args.cxx, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{root / 'include'}", "-x", "c++", os.devnull]

    def measured(headers):
        """The compiler's status and messages, and the best time."""
        best = None
        for _ in range(args.runs):
            included = [word for header in headers for word in ("-include", str(header))]
            code, errors, seconds = user_seconds([*command, *included])
            if code:
                return code, errors, seconds
            best = seconds if best is None else min(best, seconds)
        return 0, "", best

    failed = False
    if args.limit is None:
        needed = measured(NEEDED)[2]
        args.limit = max(0.5, 1.6 * needed)
        print(f"the standard headers that all need: {needed:.2f} s; limit {args.limit:.2f} s")
    for header in args.headers or sorted((root / "include" / "trireme").rglob("*.h")):
        code, errors, best = measured([header])
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
