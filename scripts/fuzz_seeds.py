"""Writes the small models that the fuzz bench of the engine damages (node/engine/benches/seeds).

    python3 -m venv venv && venv/bin/pip install gguf numpy safetensors
    venv/bin/python scripts/fuzz_seeds.py node/engine/benches/seeds
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

HIDDEN, WIDE, HEADS, HEAD, VOCAB = 64, 96, 2, 32, 12
TOKENS = ["<s>", "</s>", "a", "b", "c", "ab", "Ġ", "Ġa", "d", "e", "f", "Ċ"]

LAYER = {
    "attn_norm": (HIDDEN,),
    "attn_q": (HEADS * HEAD, HIDDEN),
    "attn_k": (HEAD, HIDDEN),
    "attn_v": (HEAD, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD),
    "ffn_norm": (HIDDEN,),
    "ffn_gate": (WIDE, HIDDEN),
    "ffn_up": (WIDE, HIDDEN),
    "ffn_down": (HIDDEN, WIDE),
}
GEMMA = {
    "attn_q_norm": (HEAD,),
    "attn_k_norm": (HEAD,),
    "post_attention_norm": (HIDDEN,),
    "post_ffw_norm": (HIDDEN,),
}


def write_gguf(path, arch, kind):
    """A model of one layer, with a tokenizer."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * 10)
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    layer = dict(LAYER)
    if arch == "gemma3":
        writer.add_sliding_window(8)
        layer.update(GEMMA)
    random = np.random.default_rng(1)
    tensors = {"token_embd": (VOCAB, HIDDEN), "output_norm": (HIDDEN,)}
    tensors.update({f"blk.0.{name}": shape for name, shape in layer.items()})
    for name, shape in tensors.items():
        values = random.standard_normal(shape).astype(np.float32) * 0.1
        if len(shape) == 2:
            packed = gguf.quants.quantize(values, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(folder):
    hidden, wide, head = 16, 24, 8
    layer = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (2 * head, hidden),
        "self_attn.k_proj": (head, hidden),
        "self_attn.v_proj": (head, hidden),
        "self_attn.o_proj": (hidden, 2 * head),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    shapes = {"model.embed_tokens.weight": (VOCAB, hidden), "model.norm.weight": (hidden,)}
    shapes.update({f"model.layers.0.{name}.weight": shape for name, shape in layer.items()})
    random = np.random.default_rng(2)
    tensors = {name: random.standard_normal(it).astype(np.float16) for name, it in shapes.items()}
    save_file(tensors, folder / "llama.safetensors")
    config = {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": head,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 1,
    }
    (folder / "llama.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    folder = Path(sys.argv[1])
    write_gguf(folder / "llama-q4_1.gguf", "llama", Type.Q4_1)
    write_gguf(folder / "gemma3-q8_0.gguf", "gemma3", Type.Q8_0)
    write_safetensors(folder)


main()
