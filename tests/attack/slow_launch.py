"""The launcher, on an encoder that takes SLOW_WINDOW_S over a window: python -m tests.attack.slow_launch --folder …"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from serving.host import launch
from serving.host.triton import Server
from tests.support.slow_encoder import slowed

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="af3-slow-") as folder:
        models = slowed(Path(folder), float(os.environ["SLOW_WINDOW_S"]))
        launch.Server = partial(Server, models=models)  # type: ignore[misc, assignment]
        sys.exit(launch.main())
