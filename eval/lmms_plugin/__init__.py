"""A plugin of lmms-eval: `--model af3_server` asks a running server; a sample whose sound cannot be sent fails the run.

lmms-eval's own `openai` model sends sound only from files and drops it otherwise, without a word; `gpt4o_audio` goes on
without a clip that it could not encode, and cuts long ones.

  make .venv-lmms/ready; . .venv-lmms/bin/activate
  LMMS_EVAL_PLUGINS=eval.lmms_plugin PYTHONPATH=. python -m lmms_eval --model af3_server \\
    --model_args base_url=http://127.0.0.1:8000/v1 \\
    --include_path eval/lmms_plugin/tasks --tasks af3_mmau_test_mini --batch_size 1
"""
