"""Reads how a checkpoint's LLM was quantised: with AWQ, GPTQ or compressed-tensors (llm-compressor)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from build_engines.stage import BuildError

Method = Literal["awq", "gptq", "compressed-tensors"]
METHODS: tuple[Method, ...] = get_args(Method)
GROUPS = (-1, 32, 64, 128)  # vLLM's kernels know no others
BITS: Mapping[Method, tuple[int, ...]] = {"awq": (4,), "gptq": (4, 8), "compressed-tensors": (4, 8)}
LAYOUTS: Mapping[Method, tuple[str, ...]] = {
    "awq": ("gemm",),
    "gptq": ("gptq", "gptq_v2"),  # they differ in the zero points, which symmetric weights do not use
    "compressed-tensors": ("pack-quantized",),
}
SCALE_BITS = 16
AGAIN = "quantise the checkpoint again, or give it as NVIDIA published it (PRECISION=fp8 halves the LLM)"


@dataclass(frozen=True)
class Quantisation:
    """How the linear layers of an LLM are stored.

    group: weights of one output that share a scale; -1 is all of them. settings: `quantization_config` as vLLM reads
    it, without the names of layers, which are others in the folder that vLLM loads.
    """

    method: Method
    bits: int
    group: int
    settings: Mapping[str, Any]

    @property
    def layers_are_named(self) -> bool:
        """Whether vLLM must be told which layers are not quantised; of the other methods it looks at the tensors."""
        return self.method == "compressed-tensors"

    @property
    def bits_per_weight(self) -> float:
        """With its share of a scale in BF16, and of a zero point where there is one."""
        beside = SCALE_BITS + (self.bits if self.has_zeros else 0)
        return self.bits if self.group == -1 else self.bits + beside / self.group

    @property
    def has_zeros(self) -> bool:
        """Whether zero points are stored beside the scales."""
        if self.method == "compressed-tensors":
            return not self.settings["config_groups"]["group_0"]["weights"]["symmetric"]
        return True

    def __str__(self) -> str:
        return f"{self.method}, {self.bits} bits, " + (
            "one scale for each output" if self.group == -1 else f"groups of {self.group}"
        )


def method_of(written: Mapping[str, Any]) -> str | None:
    """The method that config.json names for any part of the checkpoint; None when nothing is quantised."""
    found = _settings(written)
    return None if found is None else str(found.get("quant_method", "an unknown method"))


def read(path: Path, written: Mapping[str, Any]) -> Quantisation | None:
    """Read config.json, which is at `path`. Raises BuildError for what vLLM cannot serve or does not know."""
    given = _settings(written)
    if given is None:
        return None
    named = method_of(written)
    method = next((name for name in METHODS if name == named), None)
    if method is None:
        raise BuildError(
            f"{path}: its weights are quantised with {named}, and make engines serves {', '.join(METHODS)}; {AGAIN}"
        )
    try:
        found = _READERS[method](given)
    except _Refused as error:
        raise BuildError(f"{path}: {method}: {error}; {AGAIN}") from error
    except KeyError as error:
        raise BuildError(f"{path}: {method}: quantization_config has no {error}; {AGAIN}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BuildError(
            f"{path}: {method}: quantization_config is not in its form ({error}); {AGAIN}"
        ) from error
    if found.bits not in BITS[method]:
        raise BuildError(f"{path}: {method} with {found.bits} bits; vLLM reads {_or(BITS[method])}; {AGAIN}")
    if found.group not in GROUPS:
        raise BuildError(f"{path}: {method} with groups of {found.group}; vLLM reads {_or(GROUPS)}; {AGAIN}")
    return found


def usual(method: Method) -> Quantisation:
    """How most programs quantise by default: for a plan of a checkpoint that is not here."""
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128}
    settings: dict[str, Any] = {"bits": 4, "group_size": 128, "zero_point": True, "sym": True}
    return _READERS[method](settings | {"config_groups": {"group_0": {"weights": weights}}})


class _Refused(Exception):
    """A setting that cannot be served."""


def _settings(written: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for part in (written, written.get("text_config") or {}):
        if found := part.get("quantization_config"):
            return found if isinstance(found, Mapping) else {"quant_method": found}
    return None


def _awq(given: Mapping[str, Any]) -> Quantisation:
    bits, group = (_number(given, names) for names in (("bits", "w_bit"), ("group_size", "q_group_size")))
    _require_layout("awq", given, "version", "checkpoint_format", "format")
    if given["zero_point"] is not True:
        raise _Refused("zero_point is false, and vLLM reads AWQ with zero points alone")
    settings = {"bits": bits, "group_size": group, "zero_point": True, "version": "gemm"}
    return Quantisation("awq", bits, group, {"quant_method": "awq", **settings})


def _gptq(given: Mapping[str, Any]) -> Quantisation:
    bits, group = (_number(given, (name,)) for name in ("bits", "group_size"))
    _require_layout("gptq", given, "checkpoint_format", "format")
    if given["sym"] is not True:
        raise _Refused("sym is false, and vLLM reads symmetric GPTQ alone")
    own = [name for name, changed in (given.get("dynamic") or {}).items() if changed and name[:2] != "-:"]
    if own:
        raise _Refused(f"dynamic gives the layers {own[0]} settings of their own; give all of them the same")
    # Whether the columns really are in another order is in the tensors (`packed.open_for_vllm`).
    settings = {"bits": bits, "group_size": group, "sym": True, "desc_act": False}
    return Quantisation("gptq", bits, group, {"quant_method": "gptq", "lm_head": False, **settings})


def _compressed_tensors(given: Mapping[str, Any]) -> Quantisation:
    _require_layout("compressed-tensors", given, "format")
    for name in ("kv_cache_scheme", "transform_config"):
        if given.get(name):
            raise _Refused(f"{name} is set, which has not been tried here")
    if (given.get("sparsity_config") or {}).get("targets"):
        raise _Refused("weights are sparse, which vLLM no longer reads")
    schemes = list(given["config_groups"].values())
    for scheme in schemes:
        _require_layout("compressed-tensors", scheme, "format")
    weights = schemes[0]["weights"]
    if any(scheme["weights"] != weights for scheme in schemes):
        raise _Refused("config_groups give layers settings of their own; give all of them the same")
    if any(scheme.get("input_activations") or scheme.get("output_activations") for scheme in schemes):
        raise _Refused("activations are quantised, and only weights may be (W4A16, W8A16)")
    if weights.get("type", "int") != "int" or weights.get("dynamic"):
        raise _Refused("weights are not fixed integers")
    if weights.get("actorder") not in (None, False, "static", "weight"):
        raise _Refused(f"actorder is {weights['actorder']}, which vLLM no longer reads; use static")
    if weights.get("strategy") not in ("group", "channel"):
        raise _Refused(f"strategy is {weights.get('strategy')}, neither group nor channel")
    bits = _number(weights, ("num_bits",))
    if not weights["symmetric"] and bits != 4:
        raise _Refused("symmetric is false, and vLLM's kernels have zero points of 4 bits alone")
    group = -1 if weights["strategy"] == "channel" else _number(weights, ("group_size",))
    scheme = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }
    settings = {
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": scheme},
    }
    return Quantisation("compressed-tensors", bits, group, {"quant_method": "compressed-tensors", **settings})


_READERS = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed_tensors}


def _require_layout(method: Method, given: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        layout = given.get(key)
        if layout is not None and str(layout).lower() not in LAYOUTS[method]:
            raise _Refused(f"{key} is {layout}, and vLLM reads {_or(LAYOUTS[method])}")


def _number(given: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of `names` that is there. Raises KeyError for none of them."""
    found = next((given[name] for name in names if name in given), None)
    if found is None:
        raise KeyError(names[0])
    return int(found)


def _or(allowed: tuple[object, ...]) -> str:
    return " or ".join(map(str, allowed))
