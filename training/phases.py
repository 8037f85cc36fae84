"""The phases of the training that made the committed weights, and all their settings but the mixes."""

from __future__ import annotations

from dataclasses import replace

from training import mixes
from training.data import Phase

WITH_PEOPLE = Phase(
    "people",
    pools=80,
    dialogs=48,
    batches=4,
    peak_lr=8e-4,
    last_lr=0.0,
    far_from=0.0,
    far_every=27,
    read_dialogs=48,
    mix=mixes.SETTLED,
)
PHASES = (
    Phase("read", pools=850, dialogs=96, batches=6, peak_lr=2e-3, last_lr=5e-4),
    Phase("listen", pools=680, dialogs=64, batches=4, peak_lr=2e-3, last_lr=3e-4, far_from=0.2),
    Phase("answer", pools=450, dialogs=48, batches=4, peak_lr=1.5e-3, last_lr=0.0, far_from=0.0),
    replace(WITH_PEOPLE, pools=470, peak_lr=1.5e-3, far_every=20, read_dialogs=96, mix=mixes.PEOPLE),
    WITH_PEOPLE,
    replace(WITH_PEOPLE, pools=75, peak_lr=6e-4, read_dialogs=24, mix=mixes.SETTLED_AGAIN),
    replace(WITH_PEOPLE, pools=400, peak_lr=1.2e-3, far_every=20, read_dialogs=144, mix=mixes.COUNTED_AGAIN),
    replace(WITH_PEOPLE, pools=120, far_every=30, read_dialogs=96, mix=mixes.SETTLED_AT_LAST),
)
# The weights are the mean of those at the ends of so many last phases: what one has lost, the other may still know.
AVERAGED = 2
