"""In the place of `llm` while stalls are measured: answers that are written word by word and stop in the middle.

Loaded by Triton as a model.py. What is written, and when, stands in `stall_plan.py`.
"""

import json
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.manifest import TOKENIZER_FOLDER
from af3.tokenizer import Tokenizer
from perf.targets.stall_plan import PARTS, STALL_S, TALKER_TOKEN_S, TALKER_TOKENS, TOKEN_S
from serving.steps import adapter


class TritonPythonModel:
    """Tokens by the clock, in the TensorRT-LLM backend's contract."""

    def initialize(self, args):
        folder = Path(json.loads(args["model_config"])["parameters"]["engine_dir"]["string_value"])
        tokenizer = Tokenizer.load(folder / TOKENIZER_FOLDER)
        self._parts = [tokenizer.encode(part) for part in PARTS]
        self._stopped = set()

    def execute(self, requests):
        for request in requests:
            sender, name = request.get_response_sender(), request.request_id()
            if adapter.array(request, contract.STOP) is not None:
                self._stopped.add(name)
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            most = int(adapter.array(request, contract.REQUEST_OUTPUT_LEN)[0, 0])
            threading.Thread(target=self._write, args=(sender, name, most), daemon=True).start()

    def _write(self, sender, name, most):
        written = 0
        while most == TALKER_TOKENS and written < most - 1 and name not in self._stopped:
            self._send(sender, [self._parts[0][written % len(self._parts[0])]])
            written += 1
            time.sleep(TALKER_TOKEN_S)
        for part in self._parts if most != TALKER_TOKENS else ():
            for token in part:
                self._send(sender, [token])
                time.sleep(TOKEN_S)
            time.sleep(STALL_S)
        self._send(sender, [], final=True)

    def _send(self, sender, ids, final=False):
        tensors = {
            contract.OUTPUT_IDS.name: np.array([[ids]], np.int32),
            contract.SEQUENCE_LENGTH.name: np.array([[len(ids)]], np.int32),
        }
        sender.send(adapter.response(tensors), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)
