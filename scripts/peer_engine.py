"""Measures `thalweg bench engine` against llama.cpp on the same machine, in turns.

In each round llama.cpp and thalweg run every kind of step once, one after the other; medians over the
rounds are compared. A ratio above 1 means that thalweg is faster.

    python3 -m venv venv
    CMAKE_ARGS=-DGGML_NATIVE=ON venv/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36
    venv/bin/python scripts/peer_engine.py target/release/thalweg smollm2-135m.gguf --threads 2
    venv/bin/python scripts/peer_engine.py target/release/thalweg smollm2-135m.gguf --peer-type Q4_0

With `--peer-type` llama.cpp runs the file written anew with this type, such as its fastest of the size.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import llama_cpp

CONTEXT = 64
PREFILL = 512
TOKEN = 5


class Peer:
    """llama.cpp with one model, and its times of steps."""

    def __init__(self, path, threads, requests_max, context):
        self.threads, self.context = threads, context
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        params = llama_cpp.llama_context_default_params()
        # Each sequence has room of its own, so that none attends past what another one left.
        params.n_ctx = max(PREFILL, context + 16) * requests_max
        params.n_batch = params.n_ubatch = max(PREFILL, requests_max)
        params.n_seq_max = requests_max
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False
        self.ctx = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(max(PREFILL, requests_max), 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.ctx)
        llama_cpp.llama_model_free(self.model)

    def decode(self, rows):
        """Computes rows of (sequence, position, whether to sample)."""
        self.batch.n_tokens = len(rows)
        for at, (sequence, position, sample) in enumerate(rows):
            self.batch.token[at] = TOKEN
            self.batch.pos[at] = position
            self.batch.n_seq_id[at] = 1
            self.batch.seq_id[at][0] = sequence
            self.batch.logits[at] = sample
        if llama_cpp.llama_decode(self.ctx, self.batch) != 0:
            raise SystemExit(f"llama.cpp does not compute a step of {len(rows)} rows")

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.ctx), True)

    def seconds(self, requests, tokens, context, steps):
        """Median time of a step of so many requests with so many new tokens each."""
        times = []
        self.clear()
        for request in range(requests):
            for first in range(0, context, PREFILL):
                end = min(first + PREFILL, context)
                self.decode([(request, it, False) for it in range(first, end)])
        for step in range(steps + 1):
            if context == 0:
                self.clear()
            first = context + step if context else 0
            rows = [
                (request, first + it, it == tokens - 1)
                for request in range(requests)
                for it in range(tokens)
            ]
            begin = time.perf_counter()
            self.decode(rows)
            llama_cpp.llama_get_logits(self.ctx)
            times.append(time.perf_counter() - begin)
        return statistics.median(times[1:])


def requantise(path, kind, threads):
    """Writes a file anew with another type of weights; returns where."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = threads
    params.allow_requantize = True
    target = Path(tempfile.mkdtemp()) / f"{Path(path).stem}-{kind}.gguf"
    code = llama_cpp.llama_model_quantize(
        str(path).encode(), str(target).encode(), ctypes.byref(params)
    )
    if code != 0:
        raise SystemExit(f"llama.cpp cannot write {kind} from {path}")
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thalweg")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", default="1,4,8,16,32")
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--peer-type", help="such as Q4_0, Q8_0 or F16")
    parser.add_argument("--same", action="store_true", help="thalweg runs the peer's file too")
    args = parser.parse_args()

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    path = requantise(args.model, args.peer_type, args.threads) if args.peer_type else args.model
    ours = path if args.same else args.model
    batch = [int(it) for it in args.batch.split(",")]
    kinds = [(1, PREFILL, 0)] + [(it, 1, args.context) for it in batch]
    found = {kind: ([], []) for kind in kinds}
    command = [args.thalweg, "bench", "engine", "--model", str(ours), "--json"]
    command += ["--threads", str(args.threads), "--batch", args.batch, "--runs", "3"]
    command += ["--context", str(args.context), "--prefill", str(PREFILL)]
    for _ in range(args.rounds):
        # Its threads wait for work by spinning, so that none may be left when we run.
        peer = Peer(path, args.threads, max(batch), args.context)
        for requests, tokens, context in kinds:
            seconds = peer.seconds(requests, tokens, context, 3)
            found[requests, tokens, context][0].append(requests * tokens / seconds)
        peer.close()
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        rates = [report["prefill"], *report["decode"]]
        for kind, rate in zip(kinds, rates, strict=True):
            found[kind][1].append(rate["tokens_per_second"])
    print(f"{Path(ours).name}, llama.cpp on {Path(path).name}, {args.threads} threads, "
          f"{args.context} tokens before, medians of {args.rounds}")
    print(f"{'step':14} {'llama.cpp':>10} {'thalweg':>10} {'ratio':>6}   tokens/s")
    for kind, (theirs, own) in found.items():
        name = f"prefill {kind[1]}" if kind[1] > 1 else f"decode x{kind[0]}"
        theirs, own = statistics.median(theirs), statistics.median(own)
        print(f"{name:14} {theirs:10.1f} {own:10.1f} {own / theirs:6.2f}")


if __name__ == "__main__":
    main()
