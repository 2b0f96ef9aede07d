#!/usr/bin/env python3
"""Measures training steps of trireme beside PyTorch and Paddle on the CPU: docs/benchmarks.md.

All take turns in every round, so that a slow minute of the machine hits them alike. Each peer lives
in a process of its own (tools/bench_train_peers.py, with --python's packages); trireme is the
program. scripts/bench_train_cpu.sh makes the environment and calls this. Rounds go on until there
are enough of them or the time is up.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

import bench_cpu

BEGIN, END = "<!-- bench_train.py: begin -->", "<!-- bench_train.py: end -->"
PEERS = {"torch": "PyTorch", "torch_channels_last": "PyTorch channels last", "paddle": "Paddle"}
PACKAGES = ["torch", "torchvision", "paddlepaddle"]
# title, network, batch, steps a round, least ratio to PyTorch
CASES = [
    ("LeNet b64 1x28x28", "lenet", 64, 200, 2.0),
    ("ResNet-18 b16 3x224x224", "resnet18", 16, 3, 1.15),
    ("encoder b16 s64", "encoder", 16, 14, 1.4),
    ("CRNN b32 3x32x160", "crnn", 32, 7, 1.2),
]


LONGEST = 240  # seconds that one answer may take


class Peer:
    def __init__(self, name, args, network, batch):
        script = pathlib.Path(__file__).with_name("bench_train_peers.py")
        self.process = subprocess.Popen(
            [args.python, str(script), name, network, str(batch), str(args.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=bench_cpu.peer_environment(),
        )

    def ask(self, order):
        end = threading.Timer(LONGEST, self.process.kill)
        end.start()
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        end.cancel()
        answer = json.loads(line) if line else {"error": "its process ended, or took too long"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def run(self, steps):
        """Milliseconds of a step."""
        return statistics.median(self.ask({"run": steps})["ms"])

    def memory(self):
        return self.ask({"memory": 1})["step_peak_bytes"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Trireme:
    def __init__(self, args, network, batch):
        self.command = [args.trireme, "bench", "--train", network, "--batch", str(batch)]
        self.command += ["--threads", str(args.threads), "--json", "--steps"]
        self.figures = {}

    def run(self, steps):
        command = [*self.command, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:200])
        self.figures = json.loads(done.stdout)
        return self.figures["step_ms"]

    def memory(self):
        return self.figures["planned_peak_bytes"]

    def close(self):
        pass


def measure(args, case, seconds):
    title, network, batch, steps, _ = case
    begin = time.monotonic()
    last = begin
    runners = {"trireme": Trireme(args, network, batch)}
    for name in PEERS:
        if name != "torch_channels_last" or network in ("resnet18", "crnn", "lenet"):
            runners[name] = Peer(name, args, network, batch)
    times, memory, faults = {}, {}, {}
    for turn in range(args.rounds):
        now = time.monotonic()
        next_round = (now - last) / (2 if turn == 1 else 1)  # the first one starts the peers
        if turn > 0 and now - begin + next_round > seconds:
            break
        last = now
        for name in [n for n in runners if n not in faults]:
            try:
                times.setdefault(name, []).append(batch * 1e3 / runners[name].run(steps))
                if turn == 0:
                    memory[name] = runners[name].memory()
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                faults[name] = str(error)
                times.pop(name, None)
    for runner in runners.values():
        runner.close()
    rates = {name: statistics.median(values) for name, values in times.items()}
    rounds = max(map(len, times.values()), default=0)
    print(f"{title}: {rounds} rounds: {rates} {faults}", file=sys.stderr, flush=True)
    own = runners["trireme"].figures
    return {"rates": rates, "memory": memory, "faults": faults, "own": own, "rounds": rounds}


def best_torch(rates):
    return max((v for name, v in rates.items() if name.startswith("torch")), default=None)


def speed_table(results):
    names = ["trireme", *PEERS]
    titles = " | ".join(["Trireme", *PEERS.values()])
    lines = [f"| network | {titles} | Trireme / best PyTorch | Trireme / Paddle | bar |"]
    lines.append("| --- |" + " ---: |" * (len(names) + 3))
    for case in CASES:
        rates = results.get(case[0], {}).get("rates", {})
        if "trireme" not in rates:
            continue
        cells = [f"{rates[n]:,.1f}" if n in rates else "-" for n in names]
        for peer in (best_torch(rates), rates.get("paddle")):
            cells.append(f"{rates['trireme'] / peer:.2f}" if peer else "-")
        lines.append(f"| {case[0]} | {' | '.join(cells)} | {case[4]} |")
    return "\n".join(lines)


def memory_table(results):
    names = ["trireme", *PEERS]
    titles = " | ".join(["Trireme", "with its kernels' scratch", *PEERS.values()])
    lines = [f"| network | {titles} | Trireme / least PyTorch |"]
    lines.append("| --- |" + " ---: |" * (len(names) + 2))
    for title, result in results.items():
        memory, own = result["memory"], result["own"]
        if "trireme" not in memory:
            continue
        cells = [f"{memory[n] / 2**20:.2f}" if n in memory else "-" for n in names]
        cells.insert(1, f"{own['arena_bytes'] / 2**20:.2f}")
        torch = min((v for n, v in memory.items() if n.startswith("torch")), default=None)
        cells.append(f"{memory['trireme'] / torch:.2f}" if torch else "-")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(args, results):
    bench_cpu.PACKAGES = PACKAGES
    counts = sorted({result["rounds"] for result in results.values()})
    rounds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    faults = [
        f"- {PEERS.get(name, name)}, {title}: {why}"
        for title, result in results.items()
        for name, why in result["faults"].items()
    ]
    return (
        f"Measured {datetime.date.today()} by `scripts/bench_train_cpu.sh`, {args.threads} "
        f"threads, {rounds} rounds in which all take turns: medians. Whole steps (forward, "
        "loss, backward, momentum) on data that stays in memory, float32.\n\n"
        f"- Machine: {bench_cpu.machine()}\n"
        f"- Versions: {bench_cpu.versions(args.python, args.trireme)}\n\n"
        f"### Samples a second\n\n{speed_table(results)}\n\n"
        "### Peak memory of a step, MiB\n\n"
        "What a step holds at its worst moment beyond what lives between steps (parameters, "
        "momentum, the batch): Trireme's plan; for PyTorch the sum of the allocations and releases "
        "that its profiler sees in a step, for Paddle its allocator's peak. Scratch memory of "
        "kernels is in Trireme's second column, and in the peers' figures where it comes from "
        f"their allocators.\n\n{memory_table(results)}\n"
        + ("\nWhat could not run:\n\n" + "\n".join(faults) + "\n" if faults else "")
    )


def write_page(path, text):
    page = path.read_text() if path.exists() else "# Benchmarks\n"
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n## Training on the CPU\n\n{BEGIN}\n{END}\n"
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--trireme", default=str(bench_cpu.ROOT / "build/release/trireme"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--minutes", type=float, default=7, help="after which no round is begun")
    parser.add_argument("--only", default="", help="networks, by commas")
    parser.add_argument("--page", type=pathlib.Path, default=bench_cpu.ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    if bench_cpu.LOAD > 0.3:
        print(f"bench_train: the machine is busy (load {bench_cpu.LOAD:.2f})", file=sys.stderr)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    only = [word for word in args.only.split(",") if word]
    cases = [c for c in CASES if not only or c[1] in only]
    end, results = time.monotonic() + 60 * args.minutes, {}
    for i, case in enumerate(cases):
        seconds = (end - time.monotonic()) / (len(cases) - i)
        results[case[0]] = measure(args, case, seconds)
    write_page(args.page, report(args, results))
    print(f"written: {args.page}")


if __name__ == "__main__":
    main()
