"""Produces tests/golden/*.json: greedy continuations by llama.cpp, the reference of the engine.

The quantised GGUF is first rewritten with every tensor dequantised to F32, because the engine computes
in F32 and because quantised activations leave the F32 path after a few tokens. Each step records the
gap between the two largest logits; where it is tiny, either token is a correct answer.

    python3 -m venv venv
    CMAKE_ARGS=-DGGML_NATIVE=ON venv/bin/pip install llama-cpp-python==0.3.36 gguf numpy
    venv/bin/python scripts/golden.py smollm2-135m smollm2-135m.gguf tests/golden/smollm2-135m.json
    venv/bin/python scripts/golden.py gemma3-270m gemma3-270m.gguf tests/golden/gemma3-270m.json
"""

import argparse
import json
import tempfile
from pathlib import Path

import gguf
import numpy as np
from llama_cpp import Llama

TOKENS = 64
CONTEXT = 1024
THREADS = 2

PARAGRAPH = (
    "The river rises in the hills above the town and runs for forty miles before it meets the sea. "
    "In spring, when the snow melts, it carries silt and branches; in summer it is slow and clear. "
    "Millers built weirs along it, and each weir made a pool where children learned to swim. "
)

PROMPTS = {
    "smollm2-135m": [
        "The capital of France is",
        "Once upon a time, in a small village by the sea,",
        "def fibonacci(n):\n",
        "Water boils at a temperature of",
        "The three primary colours are",
        "A list of fruits:\n1. Apple\n2. Banana\n3.",
        "In 1969, the first humans",
        "The mitochondria is the",
        "To be, or not to be,",
        "SELECT name, age FROM users WHERE",
        "The quick brown fox",
        "Photosynthesis is the process by which",
        "Dear Sir or Madam,\n\nI am writing to",
        "2 + 2 = 4\n3 + 3 = 6\n4 + 4 =",
        "Le chat est assis sur",
        "A",
        "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWrite a haiku about rivers.<|im_end|>\n<|im_start|>assistant\n",
        PARAGRAPH + "The town itself",
        PARAGRAPH * 4 + "In autumn the",
    ],
    "gemma3-270m": [
        "The capital of France is",
        "Once upon a time, in a small village by the sea,",
        "def fibonacci(n):\n",
        "<start_of_turn>user\nWhat is gravity?<end_of_turn>\n<start_of_turn>model\n",
        # Longer than the sliding window of 512 tokens.
        PARAGRAPH * 9 + "In autumn the",
    ],
}


def dequantised(source: Path, target: Path) -> None:
    """Writes `target`: the metadata of `source`, its tensors as F32."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch)
    skipped = {"general.architecture", "general.file_type", "general.quantization_version"}
    for name, field in reader.fields.items():
        if name in skipped or name.startswith("GGUF."):
            continue
        subtype = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=subtype)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits_of(llm: Llama, token_count: int) -> np.ndarray:
    """The logits of the last token evaluated."""
    return np.array(llm.scores[token_count - 1], dtype=np.float32)


def continuation(llm: Llama, prompt: str) -> dict:
    """Greedy tokens after `prompt`, through end-of-sequence tokens, with the gap at each step."""
    tokens = llm.tokenize(prompt.encode(), add_bos=True, special=True)
    llm.reset()
    llm.eval(tokens)
    output, gaps = [], []
    for _ in range(TOKENS):
        logits = logits_of(llm, llm.n_tokens)
        best = int(np.argmax(logits))
        second, first = np.partition(logits, -2)[-2:]
        output.append(best)
        gaps.append(round(float(first - second), 6))
        llm.eval([best])
    return {"prompt": prompt, "tokens": tokens, "output": output, "gaps": gaps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=PROMPTS)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        f32 = Path(scratch) / "f32.gguf"
        dequantised(args.gguf, f32)
        llm = Llama(
            str(f32), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=THREADS, n_threads_batch=THREADS,
            logits_all=True, verbose=False, n_gpu_layers=0, flash_attn=False,
        )
        cases = [continuation(llm, prompt) for prompt in PROMPTS[args.model]]
    lines = ",\n".join(json.dumps(case) for case in cases)
    args.output.write_text(f'{{"model": "{args.model}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
