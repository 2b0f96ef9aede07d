#!/usr/bin/env python3
"""Measures training steps of trireme beside PyTorch and Paddle on the CPU: docs/benchmarks.md.

All take turns in every round, so that a slow minute of the machine hits them alike. Each peer lives
in a process of its own (tools/bench_train_peers.py, with --python's packages); trireme is the
program. scripts/bench_train_cpu.sh makes the environment and calls this.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

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

    def run(self, steps):
        """Milliseconds of a step, the process's peak of memory."""
        self.process.stdin.write(json.dumps({"run": steps}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return statistics.median(answer["ms"]), answer["rss_peak_bytes"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Trireme:
    def __init__(self, args, network, batch):
        self.command = [args.trireme, "bench", "--train", network, "--batch", str(batch)]
        self.command += ["--threads", str(args.threads), "--json", "--steps"]
        self.figures = {}

    def run(self, steps):
        done = subprocess.run([*self.command, str(steps)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:200])
        self.figures = json.loads(done.stdout)
        return self.figures["step_ms"], self.figures["rss_peak_bytes"]

    def close(self):
        pass


def measure(args, case):
    title, network, batch, steps, _ = case
    runners = {"trireme": Trireme(args, network, batch)}
    for name in PEERS:
        if name != "torch_channels_last" or network in ("resnet18", "crnn", "lenet"):
            runners[name] = Peer(name, args, network, batch)
    times, memory, faults = {}, {}, {}
    for _ in range(args.rounds):
        for name in [n for n in runners if n not in faults]:
            try:
                ms, memory[name] = runners[name].run(steps)
                times.setdefault(name, []).append(batch * 1e3 / ms)
            except (RuntimeError, OSError) as error:
                faults[name] = str(error)
                times.pop(name, None)
    for runner in runners.values():
        runner.close()
    rates = {name: statistics.median(values) for name, values in times.items()}
    print(f"{title}: {rates} {faults}", file=sys.stderr, flush=True)
    own = runners["trireme"].figures
    return {"rates": rates, "memory": memory, "faults": faults, "planned": own}


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
    """The processes' peaks: of all that they hold, their libraries too."""
    names = ["trireme", *PEERS]
    titles = " | ".join(["Trireme", *PEERS.values()])
    lines = [f"| network | {titles} | Trireme planned | pool | Trireme / least PyTorch |"]
    lines.append("| --- |" + " ---: |" * (len(names) + 3))
    for title, result in results.items():
        memory, own = result["memory"], result["planned"]
        if not own:
            continue
        cells = [f"{memory[n] / 2**20:.0f}" if n in memory else "-" for n in names]
        cells += [f"{own[k] / 2**20:.0f}" for k in ("planned_peak_bytes", "peak_bytes")]
        torch = min((v for n, v in memory.items() if n.startswith("torch")), default=None)
        cells.append(f"{memory['trireme'] / torch:.2f}" if torch else "-")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(args, results):
    bench_cpu.PACKAGES = PACKAGES
    faults = [
        f"- {PEERS.get(name, name)}, {title}: {why}"
        for title, result in results.items()
        for name, why in result["faults"].items()
    ]
    return (
        f"Measured {datetime.date.today()} by `scripts/bench_train_cpu.sh`, {args.threads} "
        f"threads, {args.rounds} rounds in which all take turns: medians. Whole steps (forward, "
        "loss, backward, momentum) on data that stays in memory, float32.\n\n"
        f"- Machine: {bench_cpu.machine()}\n"
        f"- Versions: {bench_cpu.versions(args.python, args.trireme)}\n\n"
        f"### Samples a second\n\n{speed_table(results)}\n\n"
        f"### Peak memory of the process, MiB\n\n{memory_table(results)}\n"
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks, by commas")
    parser.add_argument("--page", type=pathlib.Path, default=bench_cpu.ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    if bench_cpu.LOAD > 0.3:
        print(f"bench_train: the machine is busy (load {bench_cpu.LOAD:.2f})", file=sys.stderr)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    only = [word for word in args.only.split(",") if word]
    results = {c[0]: measure(args, c) for c in CASES if not only or c[1] in only}
    write_page(args.page, report(args, results))
    print(f"written: {args.page}")


if __name__ == "__main__":
    main()
