"""Small models, made on the spot from a seed: real files that a real engine loads, nothing but the standard library.

The weights are random, so that the text is too; the tokenizer has one token for each byte.
"""

from __future__ import annotations

import json
import math
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BYTES = 256
_BOS, _EOS, _PAD = _BYTES, _BYTES + 1, _BYTES + 2
_VOCABULARY = _BYTES + 3
_HEAD = 64
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallModel:
    """A Llama of few layers, or a Gemma 3.

    Attributes:
        tied: one matrix for both embeddings; always so in Gemma 3.
        window: of the sliding layers, in tokens; every third layer is a full one, and it is a Gemma 3. None: a Llama.
        has_chat_template: without one it is asked for completions.
        has_tokenizer: without one no engine starts.
        sharded: the layers in a file of their own.
    """

    seed: int = 1
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    max_position_embeddings: int = 2048
    tied: bool = False
    window: int | None = None
    has_chat_template: bool = True
    has_tokenizer: bool = True
    sharded: bool = False

    @property
    def hidden(self) -> int:
        return self.heads * _HEAD

    @property
    def config(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden,
            "intermediate_size": 2 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": _HEAD,
            "max_position_embeddings": self.max_position_embeddings,
            "vocab_size": _VOCABULARY,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "attention_bias": False,
            "tie_word_embeddings": self.is_tied,
            "bos_token_id": _BOS,
            "eos_token_id": _EOS,
            "pad_token_id": _PAD,
            "torch_dtype": "bfloat16",
            **(self._llama if self.window is None else self._gemma),
        }

    @property
    def is_tied(self) -> bool:
        return self.tied or self.window is not None

    @property
    def _llama(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "mlp_bias": False,
        }

    @property
    def _gemma(self) -> dict[str, Any]:
        kinds = ("sliding_attention", "sliding_attention", "full_attention")
        return {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": _HEAD,
            "rope_local_base_freq": 10000.0,
            "sliding_window": self.window,
            "layer_types": [kinds[layer % len(kinds)] for layer in range(self.layers)],
        }


def write_model(model: SmallModel, folder: Path) -> Path:
    """Write config, tokenizer and weights; the same model has the same bytes."""
    folder.mkdir(parents=True)
    _json(folder / "config.json", model.config)
    _json(
        folder / "generation_config.json", {"bos_token_id": _BOS, "eos_token_id": _EOS, "pad_token_id": _PAD}
    )
    if model.has_tokenizer:
        _write_tokenizer(model, folder)
    if model.sharded:
        _write_shards(model, folder)
    else:
        _write_weights(model, _shapes(model), folder / "model.safetensors")
    return folder


def _write_tokenizer(model: SmallModel, folder: Path) -> None:
    _json(folder / "tokenizer.json", _tokenizer())
    tokenizer: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_max_length": model.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    if model.has_chat_template:
        tokenizer["chat_template"] = _TEMPLATE
    _json(folder / "tokenizer_config.json", tokenizer)


def _shapes(model: SmallModel) -> dict[str, tuple[int, ...]]:
    hidden, inner = model.hidden, 2 * model.hidden
    query, kv = model.heads * _HEAD, model.kv_heads * _HEAD
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (_VOCABULARY, hidden)}
    for layer in range(model.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (hidden,),
            f"{prefix}post_attention_layernorm.weight": (hidden,),
            f"{prefix}self_attn.q_proj.weight": (query, hidden),
            f"{prefix}self_attn.k_proj.weight": (kv, hidden),
            f"{prefix}self_attn.v_proj.weight": (kv, hidden),
            f"{prefix}self_attn.o_proj.weight": (hidden, query),
            f"{prefix}mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}mlp.up_proj.weight": (inner, hidden),
            f"{prefix}mlp.down_proj.weight": (hidden, inner),
        }
        if model.window is not None:
            shapes |= {
                f"{prefix}pre_feedforward_layernorm.weight": (hidden,),
                f"{prefix}post_feedforward_layernorm.weight": (hidden,),
                f"{prefix}self_attn.q_norm.weight": (_HEAD,),
                f"{prefix}self_attn.k_norm.weight": (_HEAD,),
            }
    shapes["model.norm.weight"] = (hidden,)
    return shapes if model.is_tied else {**shapes, "lm_head.weight": (_VOCABULARY, hidden)}


def _write_shards(model: SmallModel, folder: Path) -> None:
    """The embeddings in the first file, the layers in the second."""
    shapes = _shapes(model)
    inner = {name: shape for name, shape in shapes.items() if name.startswith("model.layers.")}
    outer = {name: shape for name, shape in shapes.items() if name not in inner}
    files = {f"model-0000{number}-of-00002.safetensors": part for number, part in ((1, outer), (2, inner))}
    for name, part in files.items():
        _write_weights(model, part, folder / name)
    total = sum(2 * math.prod(shape) for shape in shapes.values())
    weights = {tensor: name for name, part in files.items() for tensor in part}
    _json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weights},
    )


def _write_weights(model: SmallModel, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    source = random.Random(model.seed)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            stream.write(
                _tensor(math.prod(shape), source, ones=name.endswith("norm.weight") and model.window is None)
            )


# The upper byte of a bfloat16 between 2^-7 and 2^-5 of either sign.
_SIGNED = bytes(0x3C if byte < _BYTES // 2 else 0xBC for byte in range(_BYTES))


def _tensor(values: int, source: random.Random, *, ones: bool) -> bytes:
    if ones:
        return b"\x80\x3f" * values
    content = bytearray(2 * values)
    content[0::2] = source.randbytes(values)
    content[1::2] = source.randbytes(values).translate(_SIGNED)
    return bytes(content)


def _tokenizer() -> dict[str, Any]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(_BYTES) if byte not in printable]
    # GPT-2's letters for bytes: a byte without a letter of its own gets one from 256 on.
    letters = {byte: chr(byte) for byte in printable} | {
        byte: chr(_BYTES + i) for i, byte in enumerate(other)
    }
    special = {"<s>": _BOS, "</s>": _EOS, "<pad>": _PAD}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for text, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {letter: byte for byte, letter in sorted(letters.items())} | special,
            "merges": [],
        },
    }


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
