"""How af3-tiny is made: synthesis, tokenizer, model, training, evaluation, samples."""
