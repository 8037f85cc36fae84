"""The judgement of pip-audit's reports: what was not looked at is no success."""

from tests.audit import problems


def report(*packages: dict) -> dict:
    return {"dependencies": list(packages)}


def test_a_clean_report_has_no_problem():
    assert problems(report({"name": "a", "version": "1", "vulns": []})) == []


def test_a_vulnerability_is_named_with_what_mends_it():
    flaw = {"id": "PYSEC-1", "fix_versions": ["2"]}
    assert problems(report({"name": "a", "version": "1", "vulns": [flaw]})) == ["a 1: PYSEC-1, mended in 2"]


def test_a_package_that_was_not_looked_up_is_a_problem():
    assert problems(report({"name": "a", "skip_reason": "not found on PyPI"})) == [
        "a: not audited: not found on PyPI"
    ]


def test_an_empty_report_is_a_problem():
    assert problems(report()) == ["the report has no packages"]
