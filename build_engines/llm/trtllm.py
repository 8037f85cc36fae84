"""Builds the commands of TensorRT-LLM 1.0.0; sets every flag whose default differs between releases.

The commands run inside the pinned container (`build_engines.tools`). Flags and values come from `trtllm-build --help`
and `quantize.py --help` of that release; `tests/contract/test_recorded_options.py` compares them with recorded lists.
"""

from __future__ import annotations

from pathlib import Path

from build_engines.targets.target import Target

TOKENS_PER_KV_BLOCK = 32
QUANTIZE_SCRIPT = "/app/examples/quantization/quantize.py"
CALIBRATION_TEXTS = 32  # quantize.py always uses this many for AWQ
CALIBRATION_TEXT_TOKENS = 2048


def build_command(target: Target, checkpoint: Path, output: Path, timing_cache: Path) -> list[str]:
    """`trtllm-build`: TensorRT-LLM checkpoint folder → rank0.engine and config.json in `output`."""
    limits = target.limits
    options: dict[str, object] = {
        "checkpoint_dir": checkpoint,
        "output_dir": output,
        "max_batch_size": limits.max_batch_size,
        "max_beam_width": 1,
        "max_seq_len": limits.max_sequence_tokens,
        "max_num_tokens": target.max_num_tokens,
        # One slot per running request: the backend divides this by max_batch_size for its limit per request.
        "max_multimodal_len": target.prompt_table_rows,
        "kv_cache_type": "paged",
        "tokens_per_block": TOKENS_PER_KV_BLOCK,
        "remove_input_padding": "enable",
        "context_fmha": "enable",
        # Required by KV cache reuse and chunked prefill.
        "use_paged_context_fmha": "enable",
        # Qwen2.5 answers wrongly with FP8 attention (TensorRT-LLM #4218, #2699, #12877): use BF16 KV cache and FMHA.
        "use_fp8_context_fmha": "disable",
        "gpt_attention_plugin": "auto",
        # FP8 has its own GEMM kernels, which the plugin would replace.
        "gemm_plugin": "disable" if target.llm_precision == "fp8" else "auto",
        "multiple_profiles": "enable",
        # Only for Llama and Mistral on several GPUs.
        "reduce_fusion": "disable",
        "user_buffer": "disable",
        "workers": 1,
        "log_level": "info",
        "output_timing_cache": timing_cache,
    }
    if timing_cache.exists():
        options["input_timing_cache"] = timing_cache
    return ["trtllm-build", *_flags(options)]


def quantize_command(model: Path, texts: Path, output: Path, seed: int) -> list[str]:
    """NVIDIA's quantize.py: INT4 AWQ, for a GPU without FP8. It calibrates on text only.

    texts: folder of JSON lines with a "text" each, so that it downloads no data set.
    """
    options: dict[str, object] = {
        "model_dir": model,
        "dtype": "bfloat16",
        "qformat": "int4_awq",
        "awq_block_size": 128,
        "calib_dataset": texts,
        "calib_size": CALIBRATION_TEXTS,
        "calib_max_seq_length": CALIBRATION_TEXT_TOKENS,
        "batch_size": 4,
        "tp_size": 1,
        "pp_size": 1,
        "device": "cuda",
        "seed": seed,
        "output_dir": output,
    }
    return ["python3", QUANTIZE_SCRIPT, *_flags(options)]


def _flags(options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
