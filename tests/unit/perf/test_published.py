"""What the documentation publishes is what a measurement finds, within the spread that it states."""

import ast
from pathlib import Path

import pytest

from perf import published
from perf.published import Published

PAGE = """
| what | wanted | measured | command | |
|---|---|---|---|---|
| decode : `generate()` | ≥ 4× | 15.8× (3.7–17.3) | `x` | met |
| encoder | ≥ 1× | 2.1× (1.9–2.2); on another machine 1.0× (0.9–1.0) | `x` | met |
| memory | flat | 392 MiB | `x` | met |
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_ratios_are_read_with_their_spread(page: Path) -> None:
    assert published.read(page) == {
        "decode : `generate()`": Published(15.8, 3.7, 17.3),
        "encoder": Published(2.1, 1.9, 2.2),
    }


@pytest.mark.parametrize(
    ("ratio", "same"), [(1.89, False), (1.9, True), (2.0, True), (2.2, True), (2.21, False), (1.0, False)]
)
def test_a_ratio_outside_the_published_spread_is_named(page: Path, ratio: float, same: bool) -> None:
    found = published.differences({"encoder": ratio}, published.read(page))
    assert (found == []) is same
    assert all("'encoder' measured" in sentence and "says 2.1× (1.9–2.2)" in sentence for sentence in found)


def test_a_ratio_that_nobody_published_is_named(page: Path) -> None:
    assert "'other' is not in" in published.differences({"other": 1.0}, published.read(page))[0]


def test_all_that_perf_compare_checks_is_published() -> None:
    """Read from its source: it imports torch."""
    tree = ast.parse((Path(published.__file__).parent / "compare.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DECODING"
    )
    assert set(names.values()) <= set(published.read())
