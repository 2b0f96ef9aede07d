#!/usr/bin/env python3
"""Measures trireme beside PyTorch on a GPU: docs/benchmarks.md.

Both take turns in every round on the same card. PyTorch lives in a process a case and form (eager,
torch.compile; tools/bench_gpu_peers.py), trireme is the program. scripts/bench_gpu.sh calls this.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

BEGIN, END = "<!-- bench_gpu.py: begin -->", "<!-- bench_gpu.py: end -->"
ROOT = pathlib.Path(__file__).resolve().parent.parent
TITLES = {"eager": "PyTorch", "compiled": "torch.compile"}


def train(title, network, batch, dtype, optimizer, bar, peer="compiled", **more):
    case = dict(title=title, network=network, batch=batch, mode="train", dtype=dtype)
    return dict(case, optimizer=optimizer, bar=bar, peer=peer, **more)


def infer(batch, bar, peer):
    title = f"ResNet-50 inference float16 b{batch}"
    case = dict(title=title, network="resnet50", batch=batch, mode="infer", dtype="float16")
    return dict(case, bar=bar, peer=peer)


R50 = "ResNet-50 training b256 "
CASES = {
    "r50_float16": train(R50 + "float16", "resnet50", 256, "float16", "momentum", 1.25),
    "r50_bfloat16": train(R50 + "bfloat16", "resnet50", 256, "bfloat16", "momentum", 1.25),
    "r50_tf32": train(R50 + "TF32", "resnet50", 256, "tf32", "momentum", 1.2, peer="eager"),
    "r50_b1": infer(1, "3,000/s", "compiled"),
    "r50_b8": infer(8, "17,000/s", "eager"),
    "r50_b128": infer(128, "40,000/s", "compiled"),
    "bert": train(
        *("BERT-base training b64 s512 bfloat16, tokens", "bert_base", 64, "bfloat16", "adamw"),
        *(1.4,),
        length=512,
    ),
    "crnn": train("CRNN training b256 float16", "crnn", 256, "float16", "adamw", 1.3),
    "lenet": train("LeNet training b64", "lenet", 64, "float32", "adam", 3),
    "r50_float32": train(R50 + "float32", "resnet50", 256, "float32", "momentum", None, peer=""),
}


class Peer:
    def __init__(self, args, case, form):
        script = pathlib.Path(__file__).with_name("bench_gpu_peers.py")
        order = json.dumps(dict(case, compile=form == "compiled"))
        self.process = subprocess.Popen(
            [args.python, str(script), order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, seconds):
        self.process.stdin.write(json.dumps({"run": seconds}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Trireme:
    def __init__(self, args, case, models):
        device = ["--device", args.device, "--json"]
        if case["mode"] == "infer":
            model = models / case["network"]
            if not model.exists():
                self.program([args.trireme, "export", "--network", case["network"]], model)
            shape = f"{case['batch']}x3x224x224"
            precision = ["--precision", case["dtype"], "--repeat", "20"]
            self.command = [args.trireme, "bench", str(model), "--shape", shape, *precision]
        else:
            self.command = [args.trireme, "bench", "--train", case["network"]]
            self.command += ["--batch", str(case["batch"]), "--optimizer", case["optimizer"]]
            if "length" in case:
                self.command += ["--shape", str(case["length"])]
            if case["dtype"] != "float32":
                self.command += ["--amp", args.amp, "--dtype", case["dtype"]]
        self.command += device
        # float32 is that, in PyTorch's convolutions as well
        tf32 = "0" if case["dtype"] == "float32" else "1"
        self.environment = dict(os.environ, FLAGS_allow_tf32_cudnn=tf32)
        self.samples = case.get("length", 1)

    @staticmethod
    def program(command, output):
        subprocess.run([*command, "--output", str(output)], check=True, capture_output=True)

    def run(self, _):
        done = subprocess.run(self.command, capture_output=True, text=True, env=self.environment)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:300])
        figures = json.loads(done.stdout)
        rate = figures["samples_per_s"] * self.samples
        return {"rate": rate, "peak_bytes": figures["peak_bytes"]}

    def close(self):
        pass


def measure(args, name, models):
    case = CASES[name]
    runners = {"trireme": Trireme(args, case, models)}
    if not args.no_peers:
        forms = ["eager"] if case["peer"] == "eager" else ["eager", "compiled"]
        runners.update({form: Peer(args, case, form) for form in forms if case["peer"]})
    rates, peaks, faults = {}, {}, {}
    for _ in range(args.rounds):
        for form in [f for f in runners if f not in faults]:
            try:
                answer = runners[form].run(args.seconds)
                rates.setdefault(form, []).append(answer["rate"])
                peaks[form] = answer["peak_bytes"]
            except (RuntimeError, OSError) as error:
                faults[form] = str(error)
                rates.pop(form, None)
    for runner in runners.values():
        runner.close()
    rates = {form: statistics.median(values) for form, values in rates.items()}
    print(f"{name}: {rates} {peaks} {faults}", file=sys.stderr, flush=True)
    return {"rates": rates, "peaks": peaks, "faults": faults}


def ratio(result, case, of):
    own, peer = result[of].get("trireme"), result[of].get(case["peer"] or "")
    return f"{own / peer:.2f}" if own and peer else "-"


def table(results):
    lines = [
        "| work | Trireme/s | PyTorch/s | torch.compile/s | ratio | bar | MiB | PyTorch's MiB |"
    ]
    lines.append("| --- |" + " ---: |" * 7)
    for name, result in results.items():
        case = CASES[name]
        cells = [f"{result['rates'][f]:,.0f}" if f in result["rates"] else "-" for f in FORMS]
        bar = {None: "-"}.get(case["bar"], case["bar"])
        peaks = result["peaks"]
        memory = [f"{peaks[f] / 2**20:,.0f}" if peaks.get(f) else "-" for f in ("trireme", "eager")]
        if "compiled" in peaks:
            memory[1] += f" / {peaks['compiled'] / 2**20:,.0f}"
        row = [case["title"], *cells, ratio(result, case, "rates"), str(bar), *memory]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


FORMS = ("trireme", "eager", "compiled")


def amp_lines(results):
    """What half precision gives over float32, of the network that is measured in both."""
    wide = results.get("r50_float32", {})
    lines = []
    for name in ("r50_float16", "r50_bfloat16"):
        half = results.get(name, {})
        if "trireme" not in wide.get("rates", {}) or "trireme" not in half.get("rates", {}):
            continue
        speed = half["rates"]["trireme"] / wide["rates"]["trireme"]
        memory = half["peaks"]["trireme"] / wide["peaks"]["trireme"] - 1
        lines.append(f"- {CASES[name]['title']} over float32: {speed:.2f}x, memory {memory:+.0%}")
    return lines


def cpu_line(args, results):
    """The same step on this machine's CPU."""
    if args.no_cpu or "trireme" not in results.get("r50_float32", {}).get("rates", {}):
        return []
    command = [args.trireme, "bench", "--train", "resnet50", "--batch", "16", "--steps", "3"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    if done.returncode:
        return []
    cpu = json.loads(done.stdout)["samples_per_s"]
    gpu = results["r50_float32"]["rates"]["trireme"]
    return [f"- ResNet-50 training in float32, this card over its host's CPU: {gpu / cpu:,.0f}x"]


def card(args):
    code = "import torch; print(torch.cuda.get_device_name(), torch.__version__,"
    code += " torch.backends.cudnn.version())"
    done = subprocess.run([args.python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "unknown (no PyTorch)"


def report(args, results, last=()):
    name = card(args)
    rounds = "1 round" if args.rounds == 1 else f"{args.rounds} rounds"
    lines = [
        f"Measured {datetime.date.today()} by `scripts/bench_gpu.sh`, {rounds} in "
        "which all take turns: medians. Whole steps (forward, loss, backward, update) on data that "
        f"lies on the device; half precision is {args.amp} in Trireme, autocast in PyTorch.\n",
        f"- Card, PyTorch, its cuDNN: {name}",
        "- PyTorch's peaks leave out what its CUDA graphs keep to themselves (LeNet, inference).",
        *amp_lines(results),
        *last,
        "",
        table(results),
    ]
    faults = [
        f"- {TITLES.get(form, form)}, {CASES[n]['title']}: {why}"
        for n, result in results.items()
        for form, why in result["faults"].items()
    ]
    if faults:
        lines += ["", "What could not run:", "", *faults]
    return "\n".join(lines) + "\n"


def write_page(path, text):
    page = path.read_text() if path.exists() else "# Benchmarks\n"
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n## GPU\n\n{BEGIN}\n{END}\n"
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--trireme", default=str(ROOT / "build/cuda/trireme"))
    parser.add_argument("--device", default="gpu:0")
    parser.add_argument("--amp", default="O2", choices=["O1", "O2"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of one measurement of a peer")
    parser.add_argument("--only", default="", help=f"by commas, of {', '.join(CASES)}")
    parser.add_argument(
        "--results", type=pathlib.Path, help="JSON: rows of earlier calls are kept, new ones added"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-cpu", action="store_true")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    only = [word for word in args.only.split(",") if word] or list(CASES)
    unknown = [name for name in only if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    results = {}
    if args.results and args.results.exists():
        results = json.loads(args.results.read_text())
    with tempfile.TemporaryDirectory() as models:
        for name in only:
            results[name] = measure(args, name, pathlib.Path(models))
            if args.results:
                args.results.write_text(json.dumps(results))
            write_page(args.page, report(args, results))
    text = report(args, results, cpu_line(args, results))
    write_page(args.page, text)
    print(text)


if __name__ == "__main__":
    main()
