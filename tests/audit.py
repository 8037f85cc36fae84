"""Known vulnerabilities of what the locks hold: by pip-audit, which needs the internet, or by the recorded advisories.

python -m tests.audit REPORT…     reports of pip-audit (--format json); exit code 1 for a vulnerability, and for every
                                  package that pip-audit could not look up: its own exit code calls that a success
python -m tests.audit --recorded  the three requirements*.lock against tests/contract/advisories.json, which knows
                                  nothing newer than the day that is printed
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import recorded_advisories


def problems(report: Mapping[str, Any]) -> list[str]:
    """The problems of one report: vulnerable packages, and packages that were not looked up."""
    found = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            found.append(f"{package['name']}: not audited: {package['skip_reason']}")
            continue
        for flaw in package["vulns"]:
            mended = ", ".join(flaw["fix_versions"]) or "no version"
            found.append(f"{package['name']} {package['version']}: {flaw['id']}, mended in {mended}")
    return found if report["dependencies"] else ["the report has no packages"]


def recorded_problems() -> list[str]:
    """The problems of the locks by the recorded advisories. Prints what was compared, and how old the record is."""
    record = recorded_advisories.read()
    locks = recorded_advisories.locks()
    pins = recorded_advisories.pins_of(locks)
    print(
        f"{len(pins)} pins of {', '.join(lock.name for lock in locks)} against {len(record.advisories)} advisories of"
        f" {record.date}; for newer ones, `make audit` asks PyPI"
    )
    return record.problems(pins)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reports", type=Path, nargs="*", metavar="REPORT", help="a report of pip-audit")
    parser.add_argument("--recorded", action="store_true", help="judge by the recorded advisories")
    asked = parser.parse_args()
    if not asked.reports and not asked.recorded:
        parser.error("name reports of pip-audit, or --recorded")
    found = [problem for report in asked.reports for problem in problems(json.loads(report.read_text()))]
    if asked.recorded:
        found += recorded_problems()
    print("\n".join(found) or "no known vulnerability in any package")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
