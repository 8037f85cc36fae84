"""What a measurement starts ends with it, however the measurement ends."""

import subprocess
import sys

from deploy.loopback import wait_for
from tests.support.processes import alive

# Stands in for the launcher: says its addresses and its process, and stays.
LAUNCHER = """
import os, signal
open("pid", "w").write(str(os.getpid()))
print("  gRPC     127.0.0.1:1", flush=True)
print("  HTTP     http://127.0.0.1:3", flush=True)
print("  metrics  http://127.0.0.1:2/metrics", flush=True)
signal.pause()
"""
MEASUREMENT = """
import signal
from pathlib import Path
from perf.place import served
with served("cpu", Path()):
    print("serving", flush=True)
    signal.pause()
"""


def test_a_killed_measurement_leaves_no_server(tmp_path):
    package = tmp_path / "serving" / "host"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "launch.py").write_text(LAUNCHER)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os; from perf import place; os.chdir({str(tmp_path)!r})\n" + MEASUREMENT,
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as measurement:
        assert measurement.stdout and measurement.stdout.readline() == "serving\n"
        server = int((tmp_path / "pid").read_text())
        measurement.kill()
    assert wait_for(lambda: not alive(server), 10)
