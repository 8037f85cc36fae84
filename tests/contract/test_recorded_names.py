"""Every name of CUDA's and TensorRT's Python modules that runs an engine is in the recorded list of its release.

The calls need a GPU. What they are given was compared with cuda-bindings 12.9.4 once, which answers without a driver.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RECORDED = json.loads(Path(__file__).with_name("recorded_names.json").read_text())
RUNNERS = ("af3/encoder/tensorrt_engine.py", "af3/speech/engines/vits_tensorrt.py")
# What the runners call the objects of TensorRT.
CLASS_OF = {
    "_tensorrt": "module",
    "tensorrt": "module",
    "_runtime": "Runtime",
    "runtime": "Runtime",
    "_engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "ExecutionContextAllocationStrategy": "ExecutionContextAllocationStrategy",
    "TensorIOMode": "TensorIOMode",
}
RTX_ALONE = {"create_runtime_config"}  # where the library has SPECIALIZATION, which TensorRT has not


def names(source: str) -> Iterator[tuple[str, str]]:
    """(object, attribute) of every attribute that is looked up, the object by its last word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name):
            yield getattr(node.value, "attr", getattr(node.value, "id", "")), node.attr


def strangers(source: str) -> set[tuple[str, str]]:
    """Names that the recorded releases lack."""
    cuda, tensorrt = RECORDED["cuda"], RECORDED["tensorrt"]
    found = set()
    for owner, name in names(source):
        if owner == "cudart":
            known = name in cuda["functions"] or name in cuda
        elif owner in cuda:
            known = name in cuda[owner]
        elif owner in CLASS_OF and name not in (*RTX_ALONE, "__version__", "Logger"):
            known = name in tensorrt[CLASS_OF[owner]]
        else:
            continue
        if not known:
            found.add((owner, name))
    return found


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_name_of_cuda_and_tensorrt_is_in_the_pinned_releases(runner):
    source = (REPOSITORY / runner).read_text()
    assert strangers(source) == set()
    owners = {owner for owner, _ in names(source)}
    assert {"cudart", "context"} <= owners
    assert owners & {"engine", "_engine"}


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("cudaMemcpyAsync", "cudaMemcpyAsynchronously"),
        ("cudaMemcpyHostToDevice", "cudaMemcpyUp"),
        ("execute_async_v3", "execute_async_v4"),
        ("get_tensor_profile_shape", "get_profile_shape_of"),
        ("USER_MANAGED", "OURS"),
    ],
)
def test_a_name_of_another_release_is_found(word, other):
    source = (REPOSITORY / RUNNERS[0]).read_text()
    assert {name for _, name in strangers(source.replace(word, other))} == {other}
