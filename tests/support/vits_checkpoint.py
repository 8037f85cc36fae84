"""A small random VITS checkpoint: what facebook/mms-tts-eng has, at 60 000 parameters."""

import json
from pathlib import Path

import torch
from transformers import VitsConfig, VitsModel, VitsTokenizer

CHARACTERS = "k'zyuxwvtsrqponmljihgfedcba -"


def save_checkpoint(folder: Path, **changes: object) -> Path:
    """A VITS of 60 000 parameters, with the parts of facebook/mms-tts-eng."""
    config = VitsConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=33,
        upsample_initial_channel=32,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        duration_predictor_filter_channels=16,
        duration_predictor_num_flows=2,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        depth_separable_num_layers=2,
        **changes,
    )
    return save_random(folder, config)


def save_random(folder: Path, config: VitsConfig) -> Path:
    """A VITS of these sizes with random weights and the tokenizer above."""
    torch.manual_seed(0)
    model = VitsModel(config)
    for attention in (layer.attention for layer in model.text_encoder.encoder.layers):
        torch.nn.init.normal_(attention.emb_rel_k)  # else the relative positions would hardly count
        torch.nn.init.normal_(attention.emb_rel_v)
    model.save_pretrained(folder)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({character: index for index, character in enumerate(CHARACTERS)}))
    VitsTokenizer(str(vocabulary), pad_token="k", unk_token="k", phonemize=False).save_pretrained(folder)
    return folder
