"""The models that the Hub stand-in has for the tests on a real node, and how it gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from support.small_models import SmallModel

LARGE = "tiny/large"
# Its layers are over 1 GiB: they come by ranges.
LARGE_FILE = "model-00002-of-00002.safetensors"
SPOILT = "tiny/spoilt"
NO_TOKENIZER = "tiny/no-tokenizer"

# Attention of each kind at two sizes.
MEASURED = {
    "tiny/gqa": SmallModel(seed=3),
    "tiny/gqa-wide": SmallModel(seed=4, layers=3, heads=8, max_position_embeddings=4096),
    "tiny/sliding": SmallModel(seed=5, layers=6, window=256),
    "tiny/sliding-wide": SmallModel(
        seed=6, layers=9, heads=8, kv_heads=4, window=512, max_position_embeddings=4096
    ),
    "tiny/tied": SmallModel(seed=7, tied=True),
    "tiny/tied-wide": SmallModel(
        seed=8, layers=4, heads=6, kv_heads=3, tied=True, max_position_embeddings=1024
    ),
}
MODELS = {
    "tiny/llama-chat": SmallModel(seed=1),
    "tiny/llama-base": SmallModel(seed=2, has_chat_template=False),
    "tiny/long": SmallModel(seed=12, max_position_embeddings=8192),
    LARGE: SmallModel(seed=9, layers=4, heads=64, kv_heads=8, sharded=True),
    SPOILT: SmallModel(seed=10),
    NO_TOKENIZER: SmallModel(seed=11, has_tokenizer=False),
    **MEASURED,
}
# Eight ranges come at a time.
_LARGE_BYTES_PER_SECOND = 800_000


def hub_flags(folders: Mapping[str, Path]) -> tuple[str, ...]:
    """What the stand-in is told: the folders, one file that comes slowly, one model whose weights come wrong."""
    repos = tuple(part for model_id, folder in folders.items() for part in ("--repo", f"{model_id}={folder}"))
    slow = ("--slow", f"{LARGE_FILE}={_LARGE_BYTES_PER_SECOND}:16")
    return (*repos, *slow, "--wrong-bytes", f"/blobs/{SPOILT}/")
