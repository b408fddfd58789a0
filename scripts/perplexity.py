"""Produces tests/golden/perplexity-*.json: what llama.cpp makes of a text with a quantised file.

The text, tests/golden/genesis.txt, is Genesis 37 to 50 in the King James version, which is in the
public domain. It is cut into windows; of each the second half counts, as llama-perplexity does it, and
the first token is that of the beginning where the model wants one.

    python3 -m venv venv
    CMAKE_ARGS=-DGGML_NATIVE=ON venv/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 numpy
    for model in smollm2-135m gemma3-270m; do
        venv/bin/python scripts/perplexity.py $model $model.gguf tests/golden/perplexity-$model.json
    done
"""

import argparse
import json
from pathlib import Path

import numpy as np
from llama_cpp import Llama

WINDOW = 512
TOKENS = 10_240
TEXT = Path(__file__).parent.parent / "tests/golden/genesis.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--windows", type=int, default=TOKENS // WINDOW)
    args = parser.parse_args()
    llama = Llama(args.model, n_ctx=WINDOW, n_batch=WINDOW, n_threads=2, logits_all=True, verbose=False)
    tokens = llama.tokenize(TEXT.read_bytes(), add_bos=False, special=False)
    count = args.windows * WINDOW
    if len(tokens) < count:
        raise SystemExit(f"the text has {len(tokens)} tokens, {count} are needed")
    begins = llama.metadata.get("tokenizer.ggml.add_bos_token", "false") == "true"
    begin = llama.token_bos() if begins else None
    loss, counted = 0.0, 0
    for first in range(0, count, WINDOW):
        window = tokens[first : first + WINDOW]
        if begin is not None:
            window[0] = begin
        llama.reset()
        llama.eval(window)
        logits = np.asarray(llama.scores[WINDOW // 2 - 1 : WINDOW - 1], dtype=np.float64)
        largest = logits.max(axis=1, keepdims=True)
        logsum = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
        targets = window[WINDOW // 2 :]
        loss += (logsum - logits[np.arange(len(targets)), targets]).sum()
        counted += len(targets)
    report = {
        "model": args.name,
        "window": WINDOW,
        "windows": args.windows,
        "first_tokens": tokens[:8],
        "begin": begin,
        "perplexity": float(np.exp(loss / counted)),
    }
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    print(report)


main()
