"""Runs in the environment of Transformers: `to_gguf.py SOURCE …`, llama.cpp's converter in the folder SOURCE.

The converter knows tokenizers by a hash, and af3-tiny's is not on its list. It splits text as Qwen2's does.
"""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    source = sys.argv[1]
    sys.path.insert(0, source)
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    sys.argv = [f"{source}/convert_hf_to_gguf.py", *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
