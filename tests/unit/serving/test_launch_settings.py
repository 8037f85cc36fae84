"""Settings of the launcher: options, variables, and what must agree."""

from pathlib import Path

import pytest

from serving.address import ServerError
from serving.door.admission import Limits
from serving.host import launch, step_couplings
from serving.host.launch_settings import LaunchSettings, from_command_line
from serving.steps.settings import OF_STEP


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LaunchSettings.model_fields:
        monkeypatch.delenv(f"AF3_{name.upper()}", raising=False)


def test_nothing_given_is_the_defaults() -> None:
    settings = from_command_line("", [])
    assert (settings.grpc_port, settings.http_port, settings.metrics_port) == (8001, 8000, 8002)
    assert settings.limits.message_bytes == 128 << 20
    assert settings.given() == {}


@pytest.mark.parametrize(("clip_seconds", "mb"), [(600, 128), (1200, 256), (1800, 384), (65, 128)])
def test_the_largest_request_holds_the_longest_clip_of_the_model(clip_seconds: int, mb: int) -> None:
    def limits_of(*words: str) -> Limits:
        settings = from_command_line("", words)
        return settings.hearing(settings.limits, clip_seconds)

    limits = limits_of()
    assert limits.message_bytes == mb << 20 > clip_seconds * 48_000 * 2 * 2
    assert limits.upload_bytes == 1 << 30
    assert limits_of("--max-message-mb", "128").message_bytes == 128 << 20
    assert limits_of("--max-upload-mb", "200").upload_bytes == max(200, mb) << 20


def test_a_variable_sets_what_no_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF3_GRPC_PORT", "9001")
    monkeypatch.setenv("AF3_HTTP_PORT", "9000")
    monkeypatch.setenv("AF3_ALLOW_ORIGIN", "https://a.example,https://b.example")
    settings = from_command_line("", ["--http-port", "9500"])
    assert (settings.grpc_port, settings.http_port) == (9001, 9500)
    assert settings.allow_origin == ("https://a.example", "https://b.example")
    assert settings.given() == {
        "grpc_port": 9001,
        "http_port": 9500,
        "allow_origin": ("https://a.example", "https://b.example"),
    }


def test_an_empty_variable_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF3_JOURNAL", "")
    assert from_command_line("", []).journal is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        from_command_line("", []).grpc_port = 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--grpc-port", "99999"], "--grpc-port is '99999'"),
        (["--max-in-flight", "0"], "--max-in-flight is '0'"),
        (["--max-timeout", "inf"], "--max-timeout is 'inf'"),
        (["--max-timeout", "nan"], "--max-timeout is 'nan'"),
        (["--llm", "tensorrt"], "--llm is 'tensorrt'"),
        (["--max-message-mb", "64", "--max-upload-mb", "32"], "raise the one or lower the other"),
        (["--grpc-port", "8000"], "must differ"),
        (["--tls-cert", "a.pem"], "TLS needs both"),
        (["--tls-ca", "a.pem"], "TLS needs both"),
    ],
)
def test_a_wrong_setting_ends_the_launcher_with_a_sentence(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        from_command_line("", words)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_a_wrong_environment_variable_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AF3_MAX_IN_FLIGHT", "many")
    with pytest.raises(SystemExit):
        from_command_line("", [])
    assert "AF3_MAX_IN_FLIGHT is 'many'" in capsys.readouterr().err


def test_free_ports_may_be_asked_for_more_than_once() -> None:
    assert from_command_line("", ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"])


@pytest.mark.parametrize("config", ["cpu", "gpu", "vllm"])
def test_the_defaults_agree_with_every_config(config: str) -> None:
    steps = step_couplings.read_steps(config)
    assert set(steps) >= set(OF_STEP) - {"llm"}
    step_couplings.check(LaunchSettings(), steps)


def test_more_requests_than_the_llm_can_take_are_refused_at_start() -> None:
    steps = step_couplings.read_steps("cpu")
    with pytest.raises(ServerError, match="lower it to 78 or raise max_queue"):
        step_couplings.check(LaunchSettings(max_in_flight=79), steps)
    step_couplings.check(LaunchSettings(max_in_flight=78), steps)


def test_a_prefix_cache_that_the_engine_would_not_use_is_refused_at_start() -> None:
    llm = step_couplings.read_steps("vllm")["llm"]
    step_couplings.check(LaunchSettings(), {"llm": llm})
    with pytest.raises(ServerError, match="prefix_cache_mib 256 has no effect with engine vllm"):
        step_couplings.check(LaunchSettings(), {"llm": llm.model_copy(update={"prefix_cache_mib": 256})})


@pytest.mark.parametrize("step", ["postprocess", "tts"])
def test_no_answer_is_forgotten_before_its_deadline(step: str) -> None:
    steps = {step: step_couplings.read_steps("cpu")[step]}
    step_couplings.check(LaunchSettings(max_timeout=900), steps)
    with pytest.raises(ServerError, match=f"idle_s 900 of model_repository/{step}"):
        step_couplings.check(LaunchSettings(max_timeout=901), steps)


def test_the_launcher_checks_the_couplings_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = tmp_path / "engines" / "cpu"
    engines.mkdir(parents=True)
    (engines / "manifest.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["launch", "--folder", str(tmp_path), "--max-timeout", "7200"])
    assert launch.main() == 2
    assert "--max-timeout 7200 is longer than idle_s" in capsys.readouterr().err


def test_a_temporary_log_leaves_no_open_file() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    log = launch._temporary_log()
    assert log.is_file()
    log.unlink()
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_no_request_at_triton_waits_for_a_slot_and_some_are_kept_for_newcomers_and_probes() -> None:
    steps = step_couplings.read_steps("cpu")
    found = step_couplings.limits(LaunchSettings(), steps, 2)
    assert found.at_triton is not None and found.for_newcomers == 2
    assert found.at_triton + found.for_newcomers + step_couplings.PROBES == steps["llm"].slots
    assert step_couplings.limits(LaunchSettings(), steps, 2).at_triton == 12
    assert step_couplings.limits(LaunchSettings(max_in_flight=4), steps, 2).at_triton == 4
    assert step_couplings.limits(LaunchSettings(max_at_triton=3), steps, 2).at_triton == 3
    assert step_couplings.limits(LaunchSettings(), step_couplings.read_steps("gpu"), 2).at_triton is None


def test_one_process_that_decodes_is_kept_for_short_requests() -> None:
    for config, processes in (("cpu", 2), ("gpu", 4), ("vllm", 2)):
        assert step_couplings.decoding_processes(config) == processes
    steps = step_couplings.read_steps("cpu")
    found = [step_couplings.limits(LaunchSettings(), steps, count).decoding for count in (4, 2, 1)]
    assert found == [3, 1, 1]


def test_without_slots_for_newcomers_triton_is_given_a_few_requests_more_than_the_llm_has_slots() -> None:
    found = step_couplings.limits(LaunchSettings(max_in_flight=200), step_couplings.read_steps("vllm"), 2)
    assert (found.at_triton, found.for_newcomers) == (96, 0)


def test_slots_for_newcomers_must_leave_some_for_all_others() -> None:
    steps = step_couplings.read_steps("cpu")
    few = {"llm": steps["llm"].model_copy(update={"slots": 4})}
    with pytest.raises(
        ServerError, match="newcomer_slots 2 of model_repository/llm leaves nothing of 4 slots"
    ):
        step_couplings.check(LaunchSettings(max_in_flight=4), few)
