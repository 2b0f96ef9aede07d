#!/usr/bin/env python3
"""Measures trireme beside PyTorch on a GPU: docs/benchmarks.md.

PP-OCRv4's networks (--ocr-models, --ocr-peers) reach PyTorch through files that make_ocr_peers.py
writes where onnx is. Both take turns in every round on the same card. PyTorch lives in a process a
case and form (eager, torch.compile ...; tools/bench_gpu_peers.py), trireme is the program.
scripts/bench_gpu.sh calls this.
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
TITLES = {"eager": "PyTorch", "graph": "PyTorch as a CUDA graph", "compiled": "torch.compile"}
EAGER = ("eager", "graph")
COMPILED = ("compiled", "reduce-overhead", "max-autotune")
# The detector as the pipeline runs it on a GPU: src/ocr/detector.h.
DETECTOR_FLOAT32_OPS = "conv2d,depthwise_conv2d,conv2d_transpose"


def train(title, network, batch, dtype, optimizer, bar, peer="compiled", **more):
    case = dict(title=title, network=network, batch=batch, mode="train", dtype=dtype)
    forms = ("eager", "compiled")[: {"eager": 1, "": 0}.get(peer, 2)]
    return dict(case, optimizer=optimizer, bar=bar, peer=peer, forms=forms, **more)


def infer(batch, bar, peer, *modes):
    title = f"ResNet-50 inference float16 b{batch}"
    case = dict(title=title, network="resnet50", batch=batch, mode="infer", dtype="float16")
    return dict(case, shape=f"{batch}x3x224x224", bar=bar, peer=peer, forms=(*EAGER, *modes))


def ocr(role, shape, title, dtype="float16", **more):
    """PP-OCRv4 beside the best that PyTorch has: files of make_ocr_peers.py at the same shapes."""
    case = dict(title=f"PP-OCRv4 {title}, {shape}", mode="infer", dtype=dtype, network=role)
    case.update(batch=int(shape.split("x")[0]), shape=shape, bar=None, peer="best", ocr=role)
    return dict(case, forms=(*EAGER, "reduce-overhead", "max-autotune"), **more)


R50 = "ResNet-50 training b256 "
AMP = ("float16", "float32", "default")
CASES = {
    "r50_float16": train(R50 + "float16", "resnet50", 256, "float16", "momentum", 1.25),
    "r50_bfloat16": train(R50 + "bfloat16", "resnet50", 256, "bfloat16", "momentum", 1.25),
    "r50_tf32": train(R50 + "TF32", "resnet50", 256, "tf32", "momentum", 1.2, peer="eager"),
    "r50_b1": infer(1, "3,000/s", "compiled", "reduce-overhead"),
    "r50_b8": infer(8, "17,000/s", "eager"),
    "r50_b128": infer(128, "40,000/s", "compiled", "max-autotune"),
    "bert": train(
        *("BERT-base training b64 s512 bfloat16, tokens", "bert_base", 64, "bfloat16", "adamw"),
        *(1.4,),
        length=512,
    ),
    "crnn": train("CRNN training b256 float16", "crnn", 256, "float16", "adamw", 1.3),
    "lenet": train("LeNet training b64", "lenet", 64, "float32", "adam", 3),
    "ocr_det": ocr("det", "1x3x640x640", "detector float16"),
    "ocr_det_float32": ocr(
        *("det", "1x3x640x640", "detector as `trireme ocr` has it, float32"),
        dtype="float32",
        float32_ops=DETECTOR_FLOAT32_OPS,
    ),
    "ocr_rec": ocr("rec", "6x3x48x320", "recogniser float16, lines"),
    "ocr_cls": ocr("cls", "6x3x48x192", "classifier float16, lines"),
    # half precision over float32, and over float32 as it is without a setting (some TF32)
    "amp": {f: train(R50 + f, "resnet50", 256, f, "momentum", None, peer="") for f in AMP},
}


class Peer:
    def __init__(self, args, case, form):
        script = pathlib.Path(__file__).with_name("bench_gpu_peers.py")
        order = dict(case, form=form)
        if "ocr" in case:
            order["net"] = str(args.ocr_peers / case["ocr"])
        self.process = subprocess.Popen(
            [args.python, str(script), json.dumps(order)],
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
            model = (args.ocr_models if "ocr" in case else models) / case["network"]
            if "ocr" not in case and not model.exists():
                self.program([args.trireme, "export", "--network", case["network"]], model)
            self.command = [args.trireme, "bench", str(model), "--shape", case["shape"]]
            self.command += ["--precision", case["dtype"], "--repeat", "20"]
            if "float32_ops" in case:
                self.command += ["--float32-ops", case["float32_ops"]]
        else:
            self.command = [args.trireme, "bench", "--train", case["network"]]
            self.command += ["--batch", str(case["batch"]), "--optimizer", case["optimizer"]]
            if "length" in case:
                self.command += ["--shape", str(case["length"])]
            if case["dtype"] not in ("float32", "default"):
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


def runners_of(args, case, models):
    if case is CASES["amp"]:
        return {form: Trireme(args, case[form], models) for form in case}
    runners = {"trireme": Trireme(args, case, models)}
    if not args.no_peers:
        wanted = args.forms.split(",") if args.forms else case["forms"]
        runners.update({f: Peer(args, case, f) for f in case["forms"] if f in wanted})
    return runners


def measure(args, name, models):
    runners = runners_of(args, CASES[name], models)
    rates, peaks, faults, more = {}, {}, {}, {}
    for _ in range(args.rounds):
        for form in [f for f in runners if f not in faults]:
            try:
                answer = runners[form].run(args.seconds)
                rates.setdefault(form, []).append(answer.pop("rate"))
                peaks[form] = answer.pop("peak_bytes")
                more[form] = answer
            except (RuntimeError, OSError) as error:
                faults[form] = str(error)
                rates.pop(form, None)
    for runner in runners.values():
        runner.close()
    rates = {form: statistics.median(values) for form, values in rates.items()}
    print(f"{name}: {rates} {peaks} {more} {faults}", file=sys.stderr, flush=True)
    return {"rates": rates, "peaks": peaks, "faults": faults}


def best(result, forms):
    """The fastest of these forms, or None."""
    return max((f for f in forms if f in result["rates"]), key=result["rates"].get, default=None)


def ratio(result, case):
    forms = {"eager": EAGER, "compiled": COMPILED, "best": EAGER + COMPILED}.get(case["peer"], ())
    peer, own = best(result, forms), result["rates"].get("trireme")
    return f"{own / result['rates'][peer]:.2f}" if own and peer else "-"


def mib(result, form):
    return f"{result['peaks'][form] / 2**20:,.0f}" if result["peaks"].get(form) else "-"


def table(results):
    lines = [
        "| work | Trireme/s | PyTorch/s | torch.compile/s | ratio | bar | MiB | PyTorch's MiB |"
    ]
    lines.append("| --- |" + " ---: |" * 7)
    for name, result in results.items():
        case = CASES[name]
        if name == "amp":
            continue
        forms = [best(result, group) for group in (("trireme",), EAGER, COMPILED)]
        cells = [f"{result['rates'][f]:,.0f}" if f else "-" for f in forms]
        bar = "-" if case["bar"] is None else str(case["bar"])
        # memory of eager PyTorch is that without a CUDA graph
        memory = mib(result, "eager" if "eager" in result["rates"] else forms[1])
        if forms[2]:
            memory += f" / {mib(result, forms[2])}"
        row = [case["title"], *cells, ratio(result, case), bar, mib(result, "trireme"), memory]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def amp_table(args, results):
    """What half precision gives over float32 on the same network."""
    result = results.get("amp", {"rates": {}})
    rates = result["rates"]
    if any(form not in rates for form in AMP):
        return []
    titles = (f"float16, {args.amp}", "float32", "float32 with TF32 in convolutions, the default")
    lines = [
        "AMP against float32, ResNet-50 training b256 (rule of thumb: 1.5 to 2 times the speed, "
        "40 % less memory):\n",
        "| precision | Trireme/s | MiB | speed of float16 over it | memory of float16 |",
        "| --- |" + " ---: |" * 4,
    ]
    for form, title in zip(AMP, titles):
        speed = rates["float16"] / rates[form]
        memory = result["peaks"]["float16"] / result["peaks"][form] - 1
        over = ("-", "-") if form == "float16" else (f"{speed:.2f}", f"{memory:+.0%}")
        row = [title, f"{rates[form]:,.0f}", mib(result, form), *over]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def measure_cpu(args):
    """Images a second of the same step on this machine's CPU; None without a result."""
    command = [args.trireme, "bench", "--train", "resnet50", "--batch", "16", "--steps", "3"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    if done.returncode:
        return None
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), "its CPU")
    cores = len(os.sched_getaffinity(0))
    rate = json.loads(done.stdout)["samples_per_s"]
    return {"rate": rate, "name": f"{model}, {cores} cores"}


def cpu_line(cpu, results):
    gpu = results.get("amp", {"rates": {}})["rates"].get("default")
    if not cpu or not gpu:
        return []
    return [
        f"- ResNet-50 training in float32, nothing set: this card {gpu:,.0f} images/s, its host's "
        f"CPU ({cpu['name']}) {cpu['rate']:,.1f}: {gpu / cpu['rate']:,.0f} times."
    ]


def card(args):
    code = "import torch; print(torch.cuda.get_device_name(), torch.__version__,"
    code += " torch.backends.cudnn.version())"
    done = subprocess.run([args.python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "unknown (no PyTorch)"


def report(args, results, cpu):
    name = card(args)
    rounds = "1 round" if args.rounds == 1 else f"{args.rounds} rounds"
    lines = [
        f"Measured {datetime.date.today()} by `scripts/bench_gpu.sh`, {rounds} in "
        "which all take turns: medians. Whole steps (forward, loss, backward, update) on data that "
        f"lies on the device; half precision is {args.amp} in Trireme, autocast in PyTorch.\n",
        f"- Card, PyTorch, its cuDNN: {name}",
        "- PyTorch/s is the faster of eager and, in inference, its CUDA graph; torch.compile/s "
        "that of its modes. PyTorch's MiB: eager without a graph / torch.compile with what its "
        "graphs keep.",
        *cpu_line(cpu, results),
        "",
        table(results),
        "",
        *amp_table(args, results),
    ]
    faults = [
        f"- {TITLES.get(form, form)}, {CASES[n].get('title', n)}: {why}"
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
    parser.add_argument("--forms", default="", help="of PyTorch, by commas; default: a case's all")
    parser.add_argument(
        "--ocr-models", type=pathlib.Path, help="what `trireme model fetch ch_PP-OCRv4` got"
    )
    parser.add_argument("--ocr-peers", type=pathlib.Path, help="what make_ocr_peers.py wrote")
    parser.add_argument("--only", default="", help=f"by commas, of {', '.join(CASES)}, cpu")
    parser.add_argument(
        "--results", type=pathlib.Path, help="JSON: rows of earlier calls are kept, new ones added"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    only = [word for word in args.only.split(",") if word]
    if not only:
        ocr_too = args.ocr_models and args.ocr_peers
        only = [name for name in CASES if ocr_too or "ocr" not in CASES[name]] + ["cpu"]
    unknown = [name for name in only if name not in CASES and name != "cpu"]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}, cpu")
    if any("ocr" in CASES.get(n, ()) for n in only) and not (args.ocr_models and args.ocr_peers):
        parser.error("the cases ocr_... need --ocr-models and --ocr-peers")
    results, cpu = {}, None
    if args.results and args.results.exists():
        kept = json.loads(args.results.read_text())
        results = {name: kept[name] for name in CASES if name in kept}
        cpu = kept.get("cpu")

    def keep():
        if args.results:
            args.results.write_text(json.dumps({**results, "cpu": cpu}))
        ordered = {name: results[name] for name in CASES if name in results}
        text = report(args, ordered, cpu)
        write_page(args.page, text)
        return text

    with tempfile.TemporaryDirectory() as models:
        for name in only:
            if name == "cpu":
                cpu = measure_cpu(args)
            else:
                results[name] = measure(args, name, pathlib.Path(models))
            text = keep()
    print(text)


if __name__ == "__main__":
    main()
