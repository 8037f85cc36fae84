"""The TensorRT-LLM checkpoint, tensor by tensor, and the FP8 ranges that calibration finds for it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from af3.manifest import Manifest
from build_engines.llm import calibration, fp8, qwen, trtllm_checkpoint
from build_engines.llm.trtllm_checkpoint import FP8_MAX, Range
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from tests.support.clips import clip, saved
from tests.support.engines import build_random_engines

POSITIONS = 40_000
LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
LINEARS += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The split LLM of the random checkpoint."""
    folder = tmp_path_factory.mktemp("qwen")
    qwen.build(open_checkpoint(str(build_random_engines().checkpoint)), None, folder)
    return folder


@pytest.fixture(scope="module")
def weights(llm: Path) -> dict[str, torch.Tensor]:
    return {name: weight.bfloat16() for name, weight in load_file(llm / "model-00000.safetensors").items()}


@pytest.fixture(scope="module")
def ranges(weights: dict[str, torch.Tensor]) -> dict[str, Range]:
    """Weight ranges as they are, activation ranges made up: 1, 2, 3 …"""
    paths = [f"model.layers.{layer}.{name}" for layer in range(2) for name in LINEARS]
    return {
        path: Range(float(place + 1), float(weights[f"{path}.weight"].float().abs().max()))
        for place, path in enumerate(paths)
    }


@pytest.fixture(scope="module")
def written(llm: Path, ranges: dict[str, Range], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trtllm")
    trtllm_checkpoint.write(llm, folder, "fp8", POSITIONS, ranges)
    return folder


@pytest.fixture(scope="module")
def found(written: Path) -> dict[str, torch.Tensor]:
    return load_file(written / "rank0.safetensors")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[fp8.Sample]:
    """Calibration samples of nine made clips, as phase 2 reads them."""
    built = build_random_engines()
    folder = tmp_path_factory.mktemp("clips")
    for number in range(9):
        saved(folder, clip(0.5 + number / 3, seed=number), f"{number}.wav")
    manifest = Manifest.read(built.engines)
    figures = calibration.build(
        calibration.find_clips(folder),
        built.engines / "audio_encoder",
        built.engines / "tokenizer",
        manifest.model,
        manifest.limits,
        folder,
    )
    assert figures["samples"] == 9 + len(calibration.TEXT_PROMPTS)
    return fp8.read_samples(folder / calibration.FILE)


def test_every_tensor_has_the_recorded_name_type_and_shape(found, weights):
    hidden, heads, kv, width, ffn = 128, 2, 1, 64, 256
    expected = {
        "transformer.vocab_embedding.weight": (torch.bfloat16, weights["model.embed_tokens.weight"].shape),
        "transformer.ln_f.weight": (torch.bfloat16, (hidden,)),
        "lm_head.weight": (torch.bfloat16, weights["lm_head.weight"].shape),
    }
    linears = {
        "attention.qkv": ((heads + 2 * kv) * width, hidden),
        "attention.dense": (hidden, hidden),
        "mlp.fc": (ffn, hidden),
        "mlp.gate": (ffn, hidden),
        "mlp.proj": (hidden, ffn),
    }
    for layer in (f"transformer.layers.{number}" for number in range(2)):
        expected[f"{layer}.input_layernorm.weight"] = (torch.bfloat16, (hidden,))
        expected[f"{layer}.post_layernorm.weight"] = (torch.bfloat16, (hidden,))
        expected[f"{layer}.attention.qkv.bias"] = (torch.bfloat16, ((heads + 2 * kv) * width,))
        for name, shape in linears.items():
            expected[f"{layer}.{name}.weight"] = (torch.float8_e4m3fn, shape)
            expected[f"{layer}.{name}.activation_scaling_factor"] = (torch.float32, (1,))
            expected[f"{layer}.{name}.weights_scaling_factor"] = (torch.float32, (1,))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()} == {
        name: (dtype, tuple(shape)) for name, (dtype, shape) in expected.items()
    }


def test_fp8_weights_come_back_within_one_rounding(found, weights):
    for name, parts in trtllm_checkpoint.LINEARS.items():
        ours = f"transformer.layers.1.{name}"
        original = torch.cat([weights[f"model.layers.1.{part}.weight"] for part in parts]).float()
        scale = found[f"{ours}.weights_scaling_factor"]
        back = found[f"{ours}.weight"].float() * scale
        # Three mantissa bits: 1/16 of the value, or half a step of the smallest numbers.
        assert ((back - original).abs() <= original.abs() / 16 + scale * 2**-10).all()


def test_gate_proj_is_the_half_that_goes_through_silu(found, weights):
    fc = found["transformer.layers.0.mlp.fc.weight"].float()
    gate = weights["model.layers.0.mlp.gate_proj.weight"].float()
    assert torch.corrcoef(torch.stack([fc.flatten(), gate.flatten()]))[0, 1] > 0.99


def test_scales_are_the_largest_magnitude_over_448_and_shared_where_the_input_is(found, ranges):
    layer = "model.layers.0"
    qkv = [ranges[f"{layer}.{name}"] for name in LINEARS[:3]]
    ours = "transformer.layers.0"
    assert found[f"{ours}.attention.qkv.activation_scaling_factor"].item() == pytest.approx(3 / FP8_MAX)
    assert found[f"{ours}.attention.qkv.weights_scaling_factor"].item() == pytest.approx(
        max(part.weight for part in qkv) / FP8_MAX
    )
    for kind in ("activation_scaling_factor", "weights_scaling_factor"):
        assert torch.equal(found[f"{ours}.mlp.fc.{kind}"], found[f"{ours}.mlp.gate.{kind}"])
    assert found[f"{ours}.mlp.gate.activation_scaling_factor"].item() == pytest.approx(6 / FP8_MAX)


def test_a_weight_past_its_range_is_clamped_and_never_nan():
    weight = torch.tensor([[-9.0, 0.5, 9.0]])
    back = trtllm_checkpoint.to_fp8(weight, torch.tensor([1 / FP8_MAX])).float()
    assert back.tolist() == [[-448.0, 224.0, 448.0]]


def test_the_config_has_what_exporters_leave_out(written, llm):
    config = json.loads((written / "config.json").read_text())
    source = json.loads((llm / "config.json").read_text())
    assert config["qwen_type"] == "qwen2"
    assert (config["dtype"], config["logits_dtype"]) == ("bfloat16", "float32")
    assert config["rotary_base"] == source["rope_theta"] == 1_000_000.0
    assert config["norm_epsilon"] == source["rms_norm_eps"]
    assert config["intermediate_size"] == source["intermediate_size"]
    assert config["attn_bias"] is True
    assert config["max_position_embeddings"] == POSITIONS
    assert config["quantization"] == {
        "quant_algo": "FP8",
        "kv_cache_quant_algo": None,
        "exclude_modules": ["lm_head"],
    }


@pytest.mark.parametrize(("precision", "algorithm"), [("bf16", None), ("int8", "W8A16")])
def test_without_fp8_every_tensor_stays_bf16(llm, weights, tmp_path, precision, algorithm):
    trtllm_checkpoint.write(llm, tmp_path, precision, POSITIONS, {})
    found = load_file(tmp_path / "rank0.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    parts = [weights[f"model.layers.0.{part}.weight"] for part in LINEARS[:3]]
    assert torch.equal(found["transformer.layers.0.attention.qkv.weight"], torch.cat(parts))
    quantization = json.loads((tmp_path / "config.json").read_text())["quantization"]
    assert quantization["quant_algo"] == algorithm


def test_a_model_of_another_kind_is_refused(llm):
    source = json.loads((llm / "config.json").read_text()) | {"model_type": "llama"}
    with pytest.raises(BuildError, match="model_type is 'llama'"):
        trtllm_checkpoint.config(source, "fp8", POSITIONS)


def test_a_calibration_sample_is_spliced_as_the_server_splices_it(llm, samples):
    model = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    ids, table = samples[3]
    embeddings = fp8.embed(model, ids, table)[0]
    is_audio = ids >= model.config.vocab_size
    assert is_audio.sum() == len(table) > 10
    assert torch.equal(embeddings[is_audio], table.float())
    assert torch.equal(embeddings[~is_audio], model.get_input_embeddings().weight[ids[~is_audio].long()])


def test_a_sample_that_asks_for_a_row_it_has_not_is_refused(llm, samples):
    model = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    ids, table = samples[0]
    with pytest.raises(BuildError, match=f"needs row {len(table) - 1} of {len(table) - 1}"):
        fp8.embed(model, ids, table[:-1])


def test_calibration_hears_audio_and_reads_text(samples):
    with_audio = [table for _, table in samples if len(table)]
    assert len(with_audio) == 9
    assert all(torch.isfinite(table).all() for table in with_audio)
    texts = {tuple(ids[ids < 392].tolist()) for ids, _ in samples}  # without audio and control tokens
    assert len(texts) == len(calibration.PROMPTS) + len(calibration.TEXT_PROMPTS)


def test_a_folder_without_clips_says_what_to_put_there(tmp_path):
    with pytest.raises(BuildError, match="set CALIBRATION to a folder with 32 or more clips"):
        calibration.find_clips(tmp_path)


def test_comparison_counts_changed_tokens_and_divergence():
    full = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    same = fp8.compare([full], [full])
    assert same == {"disagreement": 0.0, "kl_nats": pytest.approx(0.0)}
    other = fp8.compare([full], [full.flip(1)])
    assert other["disagreement"] == 0.5
    assert other["kl_nats"] > 1


def load(llm: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(llm, dtype=torch.bfloat16).eval()


def test_ranges_of_audio_are_found_that_text_alone_does_not_reach(llm, samples):
    def ranges_of(chosen: list[fp8.Sample]) -> dict[str, Range]:
        model = load(llm)
        return fp8.find_ranges(model, [fp8.answered(model, fp8.embed(model, *sample)) for sample in chosen])

    everything = ranges_of(samples)
    text = ranges_of([sample for sample in samples if not len(sample[1])])
    assert len(everything) == 14
    assert any(everything[path].activation > text[path].activation for path in everything)
    assert all(everything[path].weight == text[path].weight for path in everything)


def test_ranges_and_rounding_are_modelopts(llm, samples):
    """ModelOpt as the oracle; the build itself does without it."""
    mtq = pytest.importorskip("modelopt.torch.quantization", reason="nvidia-modelopt is not installed")
    ours, theirs = load(llm), load(llm)
    prompts = [fp8.answered(ours, fp8.embed(ours, *sample)) for sample in samples]

    def run(model: PreTrainedModel) -> None:
        with torch.inference_mode():
            for prompt in prompts:
                model(inputs_embeds=prompt.embeddings, use_cache=False)

    ranges = fp8.find_ranges(ours, prompts)
    mtq.quantize(theirs, mtq.FP8_DEFAULT_CFG, forward_loop=run)
    assert ranges == {
        path: Range(float(module.input_quantizer.amax), float(module.weight_quantizer.amax))
        for path, module in theirs.named_modules()
        if path.endswith("_proj")
    }
    fp8.simulate(ours, ranges)
    for prompt in prompts[:3]:
        assert torch.equal(fp8.answer_logits(theirs, prompt), fp8.answer_logits(ours, prompt))


def test_fp8_is_built_where_no_modelopt_is(llm, samples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "modelopt", None)
    figures = fp8.quantise(llm, samples, tmp_path, POSITIONS, bound=0.5)
    assert json.loads((tmp_path / fp8.FIGURES).read_text()) == figures
    assert figures["kl_nats"] < 0.5
    assert (tmp_path / "rank0.safetensors").exists()


def test_a_prompt_is_continued_by_the_models_own_greedy_answer(llm, samples):
    model = load(llm)
    prompt = fp8.embed(model, *samples[3])
    answered = fp8.answered(model, prompt)
    likeliest = fp8.answer_logits(model, answered).argmax(-1)
    assert answered.embeddings.shape[1] == prompt.shape[1] + answered.answer_tokens - 1
    table = model.get_input_embeddings().weight
    assert torch.equal(answered.embeddings[0, prompt.shape[1] :], table[likeliest[:-1]])


def test_a_layer_without_activations_is_refused(llm, samples):
    model = load(llm)
    model.model.layers[1].input_layernorm.weight.data.zero_()
    prompts = [fp8.answered(model, fp8.embed(model, *samples[3]))]
    with pytest.raises(BuildError, match=r"layers\.1\.self_attn\.q_proj: calibration met inputs up to 0 "):
        fp8.find_ranges(model, prompts)


def test_an_fp8_model_that_answers_otherwise_is_not_written(llm, samples, tmp_path):
    with pytest.raises(BuildError, match="share of positions whose likeliest token FP8 changes"):
        fp8.quantise(llm, samples, tmp_path, POSITIONS, bound=-1.0)
    assert list(tmp_path.iterdir()) == []
