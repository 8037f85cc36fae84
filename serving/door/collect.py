"""All responses of an answer → one, for clients that do not stream."""

from __future__ import annotations

from tritonclient.grpc import service_pb2

from af3 import contract
from serving.door.relayed_answer import Answer

# The parts of these outputs are concatenated; of every other output the last value counts.
TEXTS = {contract.TEXT.name, contract.THINKING.name, contract.SPEECH_TEXT.name}
ARRAYS = {contract.TOKEN_IDS.name, contract.SPEECH.name}
ITEM_BYTES = {"INT32": 4, "INT16": 2}


async def collect(answer: Answer) -> service_pb2.ModelInferResponse:
    """Wait for the whole answer. Raises RequestError where it fails."""
    parts: dict[str, list[bytes]] = {}
    datatypes: dict[str, str] = {}
    whole = service_pb2.ModelInferResponse(model_name=answer.model, model_version="1")
    async for message in answer:
        response = message.infer_response
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
            datatypes[output.name] = output.datatype
            parts.setdefault(output.name, []).append(raw)
    for name, raws in parts.items():
        raw, shape = _joined(name, datatypes[name], raws)
        whole.outputs.add(name=name, datatype=datatypes[name], shape=shape)
        whole.raw_output_contents.append(raw)
    return whole


def _joined(name: str, datatype: str, raws: list[bytes]) -> tuple[bytes, list[int]]:
    if name in TEXTS:
        text = b"".join(raw[4:] for raw in raws)  # one element each, after its length
        return len(text).to_bytes(4, "little") + text, [1]
    if name in ARRAYS:
        array = b"".join(raws)
        return array, [len(array) // ITEM_BYTES[datatype]]
    return raws[-1], [1]
