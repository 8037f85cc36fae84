"""The locks before the recorded advisories, and how those are recorded and judged."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import audit
from tests.record_advisories import advisories_of, record_of, write
from tests.recorded_advisories import REPOSITORY, Pin, locks, pins_of, read

TIMES = {"GIT_AUTHOR_DATE": "2024-10-10T12:00:00Z", "GIT_COMMITTER_DATE": "2024-10-10T12:00:00Z"}


@pytest.fixture(scope="module")
def record():
    return read()


def planted(ranges=None, versions=(), **more):
    """An entry in OSV's format about one package."""
    affected = {"package": {"name": "Some_Package", "ecosystem": "PyPI"}, "versions": list(versions)}
    if ranges is not None:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": events} for events in ranges]
    return {"id": "PYSEC-0", "aliases": ["CVE-1", "GHSA-1"], "affected": [affected], **more}


def recorded(entry):
    return list(advisories_of(entry, {"some-package"}))


def clone_of(folder: Path, entry) -> Path:
    file = folder / "vulns" / "some-package" / "PYSEC-0.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(entry if isinstance(entry, str) else yaml.safe_dump(entry))
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "--quiet"], ["add", "vulns"], ["commit", "--quiet", "--message", "a"]):
        subprocess.run([*git, *words], check=True, env=os.environ | TIMES)
    return folder


def test_no_version_of_the_three_locks_has_a_recorded_vulnerability(capsys):
    assert audit.recorded_problems() == []
    said = capsys.readouterr().out
    assert all(f"requirements{name}.lock" in said for name in ("", "-server", "-build"))


def test_the_documents_say_how_old_the_record_is(record):
    text = " ".join((REPOSITORY / "SECURITY.md").read_text().split())
    assert f"advisories of PyPA's database as it was on {record.date}," in text


@pytest.mark.parametrize(
    ("package", "version", "found"),
    [
        ("starlette", "0.26.1", ["PYSEC-2023-83 CVE-2023-29159, mended in 0.27.0"]),
        ("starlette", "0.27.0", []),
        ("starlette", "0.27.0rc1", ["PYSEC-2023-83 CVE-2023-29159, mended in 0.27.0"]),
        ("starlette", "0.26.1+local", ["PYSEC-2023-83 CVE-2023-29159, mended in 0.27.0"]),
    ],
)
def test_a_vulnerable_pin_of_a_lock_is_found(record, tmp_path, package, version, found):
    lines = (REPOSITORY / "requirements-server.lock").read_text().splitlines()
    pinned = next(line for line in lines if line.startswith(f"{package}=="))
    lock = tmp_path / "requirements.lock"
    lock.write_text("\n".join(lines).replace(pinned, f"{package}=={version} ; python_version < '4' \\"))
    assert record.problems(pins_of([lock])) == [f"{package} {version}: {text}" for text in found]


def test_a_package_that_was_not_looked_up_is_a_problem(record):
    [problem] = record.problems([Pin("a-new-package", "1")])
    assert problem.startswith("a-new-package: not in the record of ")
    assert "make audit ADVISORIES=" in problem


def test_every_lock_is_read_whole():
    assert [lock.name for lock in locks()] == [
        f"requirements{name}.lock" for name in ("-build", "-server", "")
    ]
    for lock in locks():
        pins = [line for line in lock.read_text().splitlines() if not line.startswith("    --hash=")]
        assert len(pins_of([lock])) == len(pins) > 20


@pytest.mark.parametrize(
    "line", ["a>=1", "a", "a==1.*", "a==1,!=2", "a @ https://example.com/a.whl", "<<<<<<<"]
)
def test_a_line_that_pins_no_version_is_an_error(tmp_path, line):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"b==1 \\\n    --hash=sha256:0\n{line}\n")
    with pytest.raises(ValueError, match="pins no version"):
        pins_of([lock])


@pytest.mark.parametrize(
    ("ranges", "listed", "vulnerable", "safe"),
    [
        ([[{"introduced": "0"}, {"fixed": "1.2"}]], [], ["0.dev1", "1.1", "1.2rc1"], ["1.2", "1.10"]),
        ([[{"introduced": "1.9"}, {"last_affected": "1.10"}]], [], ["1.9", "1.10"], ["1.8", "1.10.1"]),
        ([[{"introduced": "2"}]], [], ["2", "99"], ["1.9"]),
        # Two ranges in one list of events, in any order.
        (
            [[{"introduced": "2"}, {"fixed": "2.6"}, {"introduced": "0"}, {"fixed": "1.9"}]],
            [],
            ["1", "2.5"],
            ["1.9", "2.6"],
        ),
        (None, ["1.0", "1.1.0", "0.2d"], ["1", "1.1"], ["1.2", "0.2"]),
        ([[{"introduced": "1"}, {"fixed": "2"}]], ["1.5", "3.0"], ["1.5", "3"], ["2", "2.9"]),
    ],
)
def test_versions_are_judged_as_osv_does(ranges, listed, vulnerable, safe):
    [advisory] = recorded(planted(ranges, listed))
    assert (advisory.package, advisory.cve) == ("some-package", ("CVE-1",))
    assert [version for version in vulnerable + safe if advisory.affects(version)] == vulnerable


def test_a_withdrawn_advisory_is_left_out():
    assert recorded(planted([[{"introduced": "0"}]], withdrawn="2024-01-01T00:00:00Z")) == []


MALFORMED = {
    "no version": [{"introduced": "0"}, {"fixed": "8c74c2c8dba7"}],
    "a number": [{"introduced": "0"}, {"fixed": 3.10}],
    "no beginning": [{"fixed": "1"}],
    "an end too many": [{"introduced": "0"}, {"fixed": "1"}, {"fixed": "2"}],
    "an end before its beginning": [{"introduced": "2"}, {"fixed": "1"}],
    "an event of another kind": [{"introduced": "0"}, {"limit": "1"}],
    "two events in one": [{"introduced": "0", "fixed": "1"}],
    "no event": [],
}


@pytest.mark.parametrize("events", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_range_is_not_recorded(tmp_path, events):
    with pytest.raises(ValueError, match=r"vulns/some-package/PYSEC-0\.yaml: "):
        record_of(clone_of(tmp_path, planted([events])), {"some-package"})


@pytest.mark.parametrize("text", ["", "id: PYSEC-0", "a: [", "affected: [{package: some-package}]"])
def test_a_file_that_is_no_advisory_is_an_error(tmp_path, text):
    with pytest.raises(ValueError, match=r"vulns/some-package/PYSEC-0\.yaml: "):
        record_of(clone_of(tmp_path, text), {"some-package"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranges": [{"introduced": "0", "fixed": "latest"}]},
        {"ranges": [{"introduced": "2", "fixed": "1"}]},
        {"ranges": [{"introduced": "1", "fixed": "1"}]},
        {"ranges": [{"introduced": "0", "fixed": "1", "last_affected": "2"}]},
        {"ranges": [{"fixed": "1"}]},
        {"ranges": [{"introduced": "0", "until": "1"}]},
        {"ranges": [], "versions": []},
        {"ranges": [], "versions": ["all"]},
    ],
    ids=str,
)
def test_a_malformed_range_in_the_record_is_an_error(record, tmp_path, wrong):
    file = tmp_path / "advisories.json"
    write(record, file)
    assert read(file) == record
    content = json.loads(file.read_text())
    content["advisories"][0] |= wrong
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"advisories\.0"):
        read(file)


def test_what_is_recorded_is_the_commit_and_not_what_is_checked_out(tmp_path):
    clone = clone_of(tmp_path / "clone", planted([[{"introduced": "0"}, {"fixed": "2"}]], details="a text"))
    (clone / "vulns" / "some-package" / "PYSEC-0.yaml").unlink()
    record = record_of(clone, {"some-package", "another"})
    head = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert (record.commit, str(record.date)) == (head.stdout.strip(), "2024-10-10")
    assert record.problems([Pin("some-package", "1"), Pin("another", "1")]) == [
        "some-package 1: PYSEC-0 CVE-1, mended in 2"
    ]
    write(record, tmp_path / "advisories.json")
    assert read(tmp_path / "advisories.json") == record
    assert "a text" not in (tmp_path / "advisories.json").read_text()


def test_a_folder_that_is_no_clone_of_the_database_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is no clone of"):
        record_of(tmp_path, {"some-package"})
    clone = clone_of(tmp_path / "clone", planted([[{"introduced": "0"}]]))
    with pytest.raises(ValueError, match="no advisory about any package"):
        record_of(clone, {"another"})


def test_the_record_names_its_source_and_its_licence(record):
    assert record.source == "https://github.com/pypa/advisory-database"
    assert record.licence.startswith("CC-BY-4.0")
    assert record.changes
