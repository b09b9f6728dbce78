"""Which layers of which class of vLLM take LoRA adapters, where they differ from one A and one B for each output."""

from __future__ import annotations

from typing import Final

# Source of the whole file: vLLM 0.33.0, model_executor/models (SupportsLoRA, embedding_modules, packed_modules_mapping,
# is_3d_moe_weight) and lora/layers (can_replace_layer).
UNSUPPORTED: Final = frozenset(
    (
        "BailingMoeV2_5ForCausalLM", "BloomForCausalLM", "Cohere2MoeForCausalLM",
        "Cohere2VisionForConditionalGeneration", "DbrxForCausalLM", "DeepseekVLV2ForCausalLM", "FalconForCausalLM",
        "FalconMambaForCausalLM", "GPT2LMHeadModel", "GPTJForCausalLM", "Gemma3nForCausalLM",
        "Gemma3nForConditionalGeneration", "KimiK25ForConditionalGeneration", "KimiLinearForCausalLM",
        "KimiVLForConditionalGeneration", "LlavaOnevisionForConditionalGeneration", "Mamba2ForCausalLM",
        "MambaForCausalLM", "MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM", "MiniMaxM3SparseForCausalLM",
        "OrionForCausalLM", "Ovis2_5", "PaddleOCRVLForConditionalGeneration", "Phi3VForCausalLM",
        "Qwen2AudioForConditionalGeneration", "StableLmForCausalLM", "Step3TextForCausalLM", "Step3p5ForCausalLM",
        "Zamba2ForCausalLM",
    )
)  # fmt: skip
# Classes that let an adapter change the embedding and the output layer (embedding_modules), their own or those of the
# decoder inside; and those that let it change the embedding alone.
BOTH_ENDS: Final = frozenset(
    (
        "ApertusForCausalLM", "DeciLMForCausalLM", "Ernie4_5ForCausalLM", "Exaone4ForCausalLM", "ExaoneForCausalLM",
        "ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM", "FalconH1ForCausalLM", "GraniteForCausalLM",
        "GraniteMoeForCausalLM", "GraniteMoeHybridForCausalLM", "GraniteMoeSWAForCausalLM",
        "GraniteMoeSharedForCausalLM", "GraniteSWAForCausalLM", "HyperCLOVAXForCausalLM", "IQuestCoderForCausalLM",
        "InternLM3ForCausalLM", "JambaForCausalLM", "LLaMAForCausalLM", "Lfm2ForCausalLM", "Lfm2MoeForCausalLM",
        "Llama4ForCausalLM", "Llama4ForConditionalGeneration", "LlamaForCausalLM", "MiniCPM3ForCausalLM",
        "MiniCPMForCausalLM", "MixtralForCausalLM", "NemotronForCausalLM", "NemotronHForCausalLM",
        "NemotronHPuzzleForCausalLM", "Param2MoEForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM",
        "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration", "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration",
        "SolarForCausalLM", "TeleChat2ForCausalLM", "TeleChat3ForCausalLM", "TeleFLMForCausalLM",
    )
)  # fmt: skip
# model types of decoders behind an encoder of any kind
BOTH_ENDS_INSIDE: Final = ("granite", "lfm2", "llama", "qwen3", "qwen3_moe")
# and classes that build the bare decoder
BARE_INSIDE: Final = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")
EMBEDDING: Final = frozenset(
    (
        "ArceeForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM", "GlmForCausalLM", "HunYuanDenseV1ForCausalLM",
        "HunYuanMoEV1ForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM", "PhiForCausalLM",
        "SeedOssForCausalLM", "SmolLM3ForCausalLM", "Starcoder2ForCausalLM",
    )
)  # fmt: skip
# Classes with LoRA of which nobody has held the slots against the engine: beside shared experts its wrapper did not build
# them without a GPU, or a config class or a tokenizer is missing. LongCat, MiniCPM-V 4.6 and Phi-4-multimodal were
# built and differ.
UNHELD: Final = frozenset(
    (
        "AXK1ForCausalLM", "AfmoeForCausalLM", "DeepseekForCausalLM", "DeepseekOCRForCausalLM",
        "ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM", "LongcatFlashForCausalLM",
        "MiniCPMV4_6ForConditionalGeneration", "MistralLarge3ForCausalLM", "NemotronHPuzzleForCausalLM",
        "PanguUltraMoEForCausalLM", "Param2MoEForCausalLM", "Phi4MMForCausalLM", "Plamo3ForCausalLM", "SarvamMLAForCausalLM",
        "SarvamMoEForCausalLM",
    )
)  # fmt: skip
GATE_AND_UP_AT_ONCE: Final = frozenset(  # is_3d_moe_weight: gate and up of an expert share an A
    (
        "GptOssForCausalLM", "Qwen3OmniMoeForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    )
)  # fmt: skip
# Outputs that an adapter names as one with those before them in a fused layer.
ONE_NAME: Final = {
    "BailingMoeForCausalLM": (".k_proj", ".v_proj"),
    "BailingMoeV2ForCausalLM": (".k_proj", ".v_proj"),
    "ChatGLMForConditionalGeneration": (".k_proj", ".v_proj", ".up_proj"),
    "ChatGLMModel": (".k_proj", ".v_proj", ".up_proj"),
    "GPTNeoXForCausalLM": (".k_proj", ".v_proj"),
    "Glm4vForConditionalGeneration": (".up_proj",),
    "GlmForCausalLM": (".up_proj",),
    "GraniteMoeHybridForCausalLM": (".input_linear.up",),
    "InternLM2ForCausalLM": (".k_proj", ".v_proj"),
    "JambaForCausalLM": (".in_proj.z",),
    "MolmoForCausalLM": (".k_proj", ".v_proj", ".up_proj"),
    "OlmoHybridForCausalLM": (".conv1d",),
    "Param2MoEForCausalLM": (".k_proj", ".v_proj"),
    "Phi3ForCausalLM": (".k_proj", ".v_proj", ".up_proj"),
    "Phi4MMForCausalLM": (".k_proj", ".v_proj", ".up_proj"),
    "Plamo3ForCausalLM": (".k_proj", ".v_proj", ".up_proj"),
    "SarvamMoEForCausalLM": (".k_proj", ".v_proj"),
}
# Outputs that one tensor of ours holds and that have an A each.
OUTPUTS: Final = {"fused_qkv_a_proj": 2, "fused_wkv_wgate": 2, "fused_wqa_wkv": 2, "qkv_proj": 3}
# Layers that vLLM leaves alone: it says so, or the fused layer has no class that would wrap it; in one class, or in any.
LEFT_ALONE: Final = {
    "GraniteMoeSWAForCausalLM": ("shared_mlp.input_linear", "shared_mlp.input_linear.up"),
    "GraniteMoeSharedForCausalLM": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"),
    "NemotronHForCausalLM": ("mixer.gate",),
    "NemotronHPuzzleForCausalLM": ("mixer.gate",),
}
NEVER_WRAPPED: Final = (".indexer.wk_weights_proj",)
TOWER_TOO: Final = ("WhisperForConditionalGeneration",)  # it has no get_mm_mapping
NOT_LINEAR: Final = (".A", ".ape", ".tid2eid", "_fn", "embed_positions", "embed_tokens")
CONV_GROUPS: Final = ".conv1d.groups"
OF_THREE: Final = (".in_proj.x",)
