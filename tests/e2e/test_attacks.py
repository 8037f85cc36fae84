"""Attacks on servers that are launched as an operator does it: what of `make attack` fits in a minute or two.

One server has 1024 file handles, one asks for keys, one has a slow encoder. Those by numbers are smaller here.
"""

from collections.abc import Iterator

import pytest

from tests.attack import by_bytes, by_key, by_kill, by_number, by_slowness
from tests.attack.__main__ import played, served
from tests.attack.scene import Attack, Scene, raise_own_limit

HANDLES = 1024
WINDOW_S = 8.0  # five of them are longer than the half minute after which silence is a hang
LONG = (
    "flood of stops",
    "64 clients that never read",
    "heavy JSON",
    "64 uploads of 108 MB",
    "300 silent uploads",
    "random requests",
)
OPEN = [
    one
    for one in [*by_bytes.ATTACKS, *by_number.ATTACKS, *by_slowness.ATTACKS]
    if one.quick and one.name not in LONG
]
KILLS = [one for one in by_kill.ATTACKS if one.quick]


def test_there_are_attacks_of_every_kind() -> None:
    assert len(OPEN) >= 10
    assert KILLS


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    raise_own_limit()
    with served(handles=HANDLES) as made:
        yield made


@pytest.mark.parametrize("attack", OPEN, ids=lambda attack: attack.name)
def test_an_attack_harms_nobody_and_leaves_nothing(attack: Attack, scene: Scene) -> None:
    assert held(scene, attack)


def test_no_key_but_a_valid_one_lets_in_and_none_is_written_down() -> None:
    with served(by_key.KEYED) as keyed:
        for attack in by_key.ATTACKS:
            assert held(keyed, attack)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("attack", KILLS, ids=lambda attack: attack.name)
def test_kill_9_is_told_in_one_sentence_everywhere(attack: Attack, scene: Scene) -> None:
    assert held(scene, attack)


def test_minutes_at_the_encoder_are_no_hang() -> None:
    (attack,) = (one for one in by_slowness.ATTACKS if one.window_s)
    with served(window_s=WINDOW_S) as slow:
        assert held(slow, attack)


def held(scene: Scene, attack: Attack) -> bool:
    """Played without a look at the pace, which the other tests on this machine disturb."""
    outcome = played(scene, attack, "")
    print(outcome.row([float("inf")]))
    return not outcome.problems
