"""LangChain, a notebook, and schemathesis on our own OpenAPI document, before the live server."""

import json
import os
import subprocess
from pathlib import Path

from serving.door.door import Door
from serving.host.triton import REPOSITORY
from tests.support import scrape
from tests.support.openai_api import base_url, request
from tests.support.wire import ask, text_of

EXAMPLES = REPOSITORY / "examples"
SAMPLES = REPOSITORY / "checkpoints" / "samples"


def run(server: Door, *command: str, folder: Path = EXAMPLES) -> str:
    environment = {**os.environ, "OPENAI_BASE_URL": base_url(server), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


def test_langchain(server: Door, clients_python: Path) -> None:
    clip = (SAMPLES / "siren.wav").read_bytes()
    expected = text_of(ask(server.url, [clip], "What do you hear?", parameters={"max_tokens": 64}))
    found = run(server, str(clients_python), "langchain_chat.py")
    assert found.startswith(expected + "\n")
    assert len(found) > len(expected) + 2


def test_the_notebook(server: Door, clients_python: Path, tmp_path: Path) -> None:
    program = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""
    done = tmp_path / "done.ipynb"
    run(server, str(clients_python), "-c", program, "openai.ipynb", str(done))
    outputs = [
        cell["outputs"] for cell in json.loads(done.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    assert "audio_flamingo" in str(outputs[0])
    assert "<audio" in str(outputs[2])


def test_the_document_is_openapi(server: Door, clients_python: Path, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_bytes(request(server, "GET", "/openapi.json").body)
    run(server, str(clients_python), "-m", "openapi_spec_validator", str(document))


def test_schemathesis_finds_no_fault(server: Door, clients_python: Path, tmp_path: Path) -> None:
    """Random requests, right and wrong ones: no fault of the server, and every reply as the document says."""
    conformance = "status_code_conformance,content_type_conformance,response_schema_conformance"
    checks = f"not_a_server_error,unsupported_method,{conformance}"
    run(
        server,
        *(str(clients_python.with_name("schemathesis")), "run"),
        *(f"http://{server.host}:{server.ports.http}/openapi.json", "--checks", checks, "--mode", "all"),
        *("--max-examples", "60", "--seed", "1", "--request-timeout", "30", "--workers", "2"),
        *("--phases", "examples,coverage,fuzzing", "--report-dir", str(tmp_path)),
        folder=tmp_path,  # it keeps what it has found where it is run, and tries that first
    )
    scrape.wait_until(lambda: server.admission.in_flight == 0)
