"""Attacks by who calls, and what is left when processes are killed and servers stop and start."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import grpc

from clients import AudioFlamingo, AudioFlamingoError
from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key, utc_now
from tests.attack.by_bytes import another_keys_stream
from tests.attack.scene import Attack, Scene, generate
from tests.faults import STEPS, Launched
from tests.support import other_protocols, scrape
from tests.support.clips import clip

DIED = "a part of the server failed and is being restarted"
STARTING = "the server is starting"


def key_file(folder: Path) -> tuple[Path, dict[str, str]]:
    """honest, other; expired and revoked."""
    file, keys = folder / "keys.json", {name: new_key() for name in ("honest", "other", "expired", "revoked")}
    state = {"expired": {"expires": utc_now()}, "revoked": {"revoked": True}}
    KeyFile(
        keys=tuple(ApiKey(name=name, sha256=hashed(key), **state.get(name, {})) for name, key in keys.items())
    ).write(file)
    return file, keys


def wrong_keys(scene: Scene) -> str:
    given = {
        "no key": None,
        "wrong key": new_key(),
        "expired": scene.keys["expired"],
        "revoked": scene.keys["revoked"],
    }
    for why, key in given.items():
        name = f'af3_callers_refused_total{{why="{why}"}}'
        before = scene.sample(name)
        assert generate(scene, key=key)[0] == 401, why
        with grpc.insecure_channel(scene.server.url, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            metadata = [] if key is None else [("authorization", f"Bearer {key}")]
            try:
                channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
                    b"", timeout=10, metadata=metadata
                )
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error
        assert scene.sample(name) == before + 2
    written = Path(scene.server.output.parent, "journal").read_text()
    assert not any(key in written for key in scene.keys.values())
    assert '"why": "expired", "key": "expired"' in written
    return "401 and UNAUTHENTICATED, counted, in the journal by name; no key in it"


def _ask(scene: Scene, protocol: str) -> str:
    """What one client saw: answered, or the sentence up to its advice."""
    sound = clip(0.5, seed=1)
    try:
        if protocol == "grpc":
            with AudioFlamingo(scene.server.url) as flamingo:
                flamingo.ask(sound, "What is it?", max_tokens=100, timeout_s=60).text()
        else:
            other_protocols.PROTOCOLS[protocol](scene.server.http, sound, "What is it?", 100)
    except AudioFlamingoError as error:
        return error.message.split(";")[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:80]
    return "answered"


def kill_every_process(scene: Scene) -> str:
    protocols = ("grpc", *other_protocols.PROTOCOLS)
    seen: dict[str, Counter[str]] = {protocol: Counter() for protocol in protocols}
    names = [*STEPS[2:3]] if scene.quick else [*STEPS, "tritonserver"]
    for name in names:
        restarts, stopping = scene.restarts(), threading.Event()

        def run(protocol: str, stopping: threading.Event = stopping) -> None:
            while not stopping.is_set():
                seen[protocol][_ask(scene, protocol)] += 1
                time.sleep(0.05)

        threads = [threading.Thread(target=run, args=(protocol,)) for protocol in protocols for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        victims = scene.server.pids("tritonserver --") if name == "tritonserver" else scene.server.step(name)
        os.kill(victims[0], signal.SIGKILL)
        scrape.wait_until(lambda before=restarts: scene.restarts() > before, 60)
        scrape.wait_until(scene.server.healthy, 120)
        stopping.set()
        for thread in threads:
            thread.join(90)
    for protocol, counts in seen.items():
        said = {what for what in counts if what != "answered"}
        assert said <= {DIED, STARTING}, (protocol, counts)
        assert counts["answered"], protocol
    return f"killed {', '.join(names)}: the same two sentences over {', '.join(protocols)}"


def stop_and_start(scene: Scene) -> str:
    """Of servers beside this one, on its engines."""
    folder, times = scene.server.output.parent / "cycles", []
    folder.mkdir()
    (folder / "engines").symlink_to(scene.server.output.parent / "engines")
    count = scene.count(30, 1)
    for _ in range(count):
        began = time.monotonic()
        other = Launched(folder)
        pids = other.pids("")
        code, _ = other.stop()
        assert code == 0, other.said()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not list(Path("/dev/shm").glob(f"af3-*-{other.process.pid}-*"))
        times.append(time.monotonic() - began)
    return f"{count} cycles, {max(times):.0f} s the longest: no process, nothing in /dev/shm"


KEYED = ("--api-keys", "{folder}/keys.json", "--journal", "{folder}/journal")
ATTACKS = [
    Attack("wrong, expired, revoked, missing key", "table", wrong_keys, server=KEYED),
    Attack("another key's stream", "table", another_keys_stream, server=KEYED),
    Attack("kill -9 of every process", "10, table", kill_every_process, quick=False, kills=True),
    Attack("stop and start", "table", stop_and_start, quick=False),
]
