"""Runs what scripts/gpu-check built on this machine's CUDA device, and writes what it found as JSON.

Called by scripts/gpu-check as: run.py FILE [rehearse].
"""

import ctypes
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

root = pathlib.Path(__file__).resolve().parents[2]
built = root / "target" / "gpu"
file, rehearse = pathlib.Path(sys.argv[1]), "rehearse" in sys.argv[2:]

ROUNDS, STEPS, WARM_UP, BATCH, TIME = (2, 3, 1, 2, 8) if rehearse else (3, 40, 10, 64, 128)
# Seconds: of one test, of one arm, and after which no further round of the arms begins. All together
# stays below half an hour whatever hangs.
TEST_LIMIT, ARM_LIMIT, ROUNDS_LIMIT = 120, 90, 240
DROPPING = {"enabled": True, "schedule": "constant", "theta": 0.5}


def refuse(why):
    sys.exit(f"gpu-check: {why}")


def say(text):
    print(f"gpu-check: {text}", file=sys.stderr, flush=True)


def device_count():
    """CUDA devices by the driver alone: importing torch for it would take seconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def libraries():
    """The folders with libtorch and what it needs, of the torch that this Python would import."""
    found = importlib.util.find_spec("torch")
    if found is None:
        refuse(f"{sys.executable} has no torch: install torch 2.11 with CUDA, or name a Python that has it in PYTHON")
    torch = pathlib.Path(found.submodule_search_locations[0])
    if not (torch / "lib" / "libtorch_cuda.so").exists() and not rehearse:
        refuse(f"the torch in {torch} has no CUDA part: install torch 2.11 with CUDA")
    return [torch / "lib", *sorted(torch.parent.glob("nvidia/*/lib"))]


def call(command, limit, **options):
    """Output, exit status and seconds; a command that hangs is ended and counts as failed."""
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, **options)
        out, err, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        out, err, status = "", f"ended after {limit} s", -1
    return out, err, status, time.monotonic() - began


def run_tests(environment):
    """Each test in a process of its own: a failure on the device takes its process along."""
    suite = built / "suite"
    listing = [suite, "cuda::", "--list", "--ignored", "--format", "terse"]
    out, err, status, _ = call(listing, 120, env=environment)
    names = [line.removesuffix(": test") for line in out.splitlines() if line.endswith(": test")]
    if status != 0 or not names:
        refuse(f"the tests do not start: {err.strip() or out.strip()}")
    rows = []
    environment = {**environment, "TRAINYARD_PYTHON": sys.executable}
    for name in [] if rehearse else names:
        command = [suite, name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]
        out, err, status, seconds = call(command, TEST_LIMIT, env=environment, cwd=root)
        say(f"{name}: {'ok' if status == 0 else 'FAILED'}, {seconds:.0f} s")
        said = [line for line in (out + err).splitlines() if line.endswith((" apart", " waits"))]
        row = {"name": name, "ok": status == 0, "seconds": round(seconds, 1), "said": said}
        if status != 0:
            print(out + err, file=sys.stderr)
            row["output"] = (out + err)[-4000:]
        rows.append(row)
    return rows


def arms():
    """The commands that time a step, by name."""
    steps = [f"--steps={STEPS}", f"--warm-up={WARM_UP}", f"--batch={BATCH}", f"--time={TIME}"]
    numbers = [str(n) for n in (STEPS, WARM_UP, BATCH, TIME)]
    made = {}
    for precision, sections in [("fp32", {}), ("bf16", {"bf16": {"enabled": True}})]:
        for dropping, more in [("", {}), ("_pld", {"progressive_layer_drop": DROPPING})]:
            text = json.dumps({**sections, **more})
            made[f"ours_{precision}{dropping}"] = [built / "gpu_step", "--sections", text, *steps]
        peer = root / "scripts" / "gpu" / "peer.py"
        made[f"torch_{precision}"] = [sys.executable, peer, *numbers, precision]
    if rehearse:
        for name, command in made.items():
            command.append("--rehearse" if name.startswith("ours") else "rehearse")
    return made


def run_benchmark(environment):
    """Every arm once in each round, in turns; then the ratios of the medians."""
    found, failed = {}, {}
    began, done = time.monotonic(), 0
    for number in range(ROUNDS):
        if time.monotonic() - began > ROUNDS_LIMIT:
            break
        commands = list(arms().items())
        for name, command in commands if number % 2 == 0 else reversed(commands):
            if name in failed:
                continue
            # The peer's torch finds its own libraries.
            env = environment if name.startswith("ours") else None
            out, err, status, _ = call(command, ARM_LIMIT, env=env)
            if status != 0:
                failed[name] = (err or out).strip()[-2000:]
                say(f"{name}: FAILED: {failed[name]}")
                continue
            one = json.loads(out.splitlines()[-1])
            found.setdefault(name, []).append(one)
            say(f"{name}: {statistics.median(one['milliseconds']):.2f} ms a step")
        done += 1
    rows = {}
    for name, rounds in found.items():
        times = [ms for one in rounds for ms in one["milliseconds"]]
        rows[name] = {
            "median_ms": statistics.median(times),
            "mean_ms": statistics.fmean(times),
            "medians_of_rounds_ms": [statistics.median(one["milliseconds"]) for one in rounds],
            "steps": len(times),
            "loss": rounds[-1]["loss"],
        }
        if rounds[-1].get("waits") is not None:
            rows[name]["waits_in_a_step"] = rounds[-1]["waits"]
        if rounds[-1].get("depth") is not None:
            rows[name]["mean_depth"] = statistics.fmean(one["depth"] for one in rounds)
            rows[name]["layers"] = rounds[-1]["layers"]

    def ratio(a, b, key):
        return rows[a][key] / rows[b][key] if a in rows and b in rows else None

    ratios = {}
    for precision in ("fp32", "bf16"):
        ours, dropped, torch = (f"ours_{precision}", f"ours_{precision}_pld", f"torch_{precision}")
        ratios[f"step_vs_torch_{precision}"] = ratio(ours, torch, "median_ms")
        # A step with dropping takes as long as its depth asks for: means, not medians.
        ratios[f"pld_on_vs_off_{precision}"] = ratio(dropped, ours, "mean_ms")
    model = "tiny" if rehearse else "BERT-base"
    sizes = {"model": model, "batch": BATCH, "time": TIME, "rounds": done}
    return {**sizes, "arms": rows, "ratios": ratios, "failed": failed}


def machine():
    """What the figures were taken on."""
    query = "import json, torch; p = torch.cuda.get_device_properties(0); print(json.dumps([p.name, p.total_memory, torch.version.cuda]))"
    version = "import torch; print(torch.__version__)"
    known = {"python": platform.python_version(), "processors": os.cpu_count()}
    known["torch"] = call([sys.executable, "-c", version], 120)[0].strip()
    if not known["torch"].startswith("2.11."):
        refuse(f"this Python's torch is {known['torch'] or 'broken'}; the programs were built for 2.11")
    if not rehearse:
        out, err, status, _ = call([sys.executable, "-c", query], 120)
        if status != 0:
            refuse(f"torch finds no CUDA device: {err.strip().splitlines()[-1]}")
        known["device"], known["memory_bytes"], known["cuda"] = json.loads(out)
    return known


def main():
    if not rehearse and device_count() == 0:
        refuse("this machine has no CUDA device, so there is nothing to check; run it on one with an NVIDIA GPU and torch 2.11 for CUDA")
    if not all((built / name).exists() for name in ("suite", "gpu_step")):
        refuse("target/gpu holds no programs: run `scripts/gpu-check build` where Rust is, and bring that folder along")
    found = libraries()
    paths = [str(path) for path in found] + os.environ.get("LD_LIBRARY_PATH", "").split(":")
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path)}
    began = time.monotonic()
    report = {"date": datetime.date.today().isoformat(), "rehearsal": rehearse, "machine": machine()}
    file.parent.mkdir(parents=True, exist_ok=True)
    for part, run in [("tests", run_tests), ("benchmark", run_benchmark)]:
        report[part] = run(environment)
        report["seconds"] = round(time.monotonic() - began)
        # After each, so that what is known is kept if the rest is cut off.
        file.write_text(json.dumps(report, indent=2) + "\n")
    say(f"written to {file}")
    failed = [test["name"] for test in report["tests"] if not test["ok"]]
    failed += list(report["benchmark"]["failed"])
    if failed:
        refuse(f"{len(failed)} failed: {', '.join(failed)}")


main()
