"""A prompt table goes through the real Triton server as the TensorRT runner hands it on: by DLPack, in BF16.

The memory is the host's here instead of a GPU's; capsule, dtype and the server's way of taking them are
the same.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from serving.host.triton import Server
from tests.support.ready_server import ready_server

CONFIG = """
name: "giver"
backend: "python"
max_batch_size: 8
input [ { name: "rows" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [
  { name: "prompt_embedding_table" data_type: TYPE_BF16 dims: [ -1, -1 ] },
  { name: "live" data_type: TYPE_INT32 dims: [ 1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

MODEL = """
import numpy as np

from af3.encoder.device_array import CPU, DeviceArray
from serving.steps import adapter


class HostMemory:
    live = 0

    def __init__(self, values):
        self._values = values
        self.address = values.ctypes.data
        HostMemory.live += 1

    def __del__(self):
        self._values[:] = 0
        HostMemory.live -= 1


class TritonPythonModel:
    def execute(self, requests):
        return [adapter.answer(request, self._give) for request in requests]

    def _give(self, request):
        rows = int(adapter.pb_utils.get_input_tensor_by_name(request, "rows").as_numpy()[0, 0])
        # 1.0, 2.0 ... as BF16: the upper half of an FP32.
        numbers = np.arange(1, 4 * rows + 1, dtype=np.float32).view(np.uint32) >> 16
        memory = HostMemory(numbers.astype(np.uint16))
        return {
            "prompt_embedding_table": DeviceArray(memory, (1, rows, 4), "bfloat16", (CPU, 0)),
            "live": np.array([[HostMemory.live]], np.int32),
        }
"""


@pytest.fixture(scope="module")
def giver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that has one model, which hands out tables."""
    folder: Path = tmp_path_factory.mktemp("giver")
    model = folder / "models" / "giver"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(MODEL)
    only = (f"--model-repository={folder / 'models'}", "--model-control-mode=explicit", "--load-model=giver")

    def ready(server: Server) -> bool:
        with triton.InferenceServerClient(server.url) as client:
            try:
                return client.is_model_ready("giver")
            except triton.InferenceServerException:
                return False

    with ready_server(folder, ready=ready, extra=only) as running:
        yield running.url


def ask(url: str, rows: int) -> triton.InferResult:
    wanted = triton.InferInput("rows", [1, 1], "INT32")
    wanted.set_data_from_numpy(np.array([[rows]], np.int32))
    return triton.InferenceServerClient(url).infer("giver", [wanted])


def test_triton_takes_a_bf16_table_by_dlpack(giver):
    table = ask(giver, rows=3).as_numpy("prompt_embedding_table")
    assert table.shape == (1, 3, 4)
    assert np.array_equal(table.reshape(-1), np.arange(1, 13))


def test_the_memory_of_a_table_lives_until_it_was_sent_and_no_longer(giver):
    live = []
    for rows in (1, 200, 5, 60):
        answer = ask(giver, rows)
        assert np.array_equal(answer.as_numpy("prompt_embedding_table").reshape(-1)[:4], [1, 2, 3, 4])
        live.append(int(answer.as_numpy("live")[0, 0]))
    assert max(live) <= 2  # this one, and the one before while its response is let go
