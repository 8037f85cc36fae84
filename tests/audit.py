"""Known vulnerabilities of what the locks hold, by pip-audit; needs the internet.

python -m tests.audit REPORT…     reports of pip-audit (--format json); exit code 1 for a vulnerability, and for every
                                  package that pip-audit could not look up: its own exit code calls that a success
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def main(files: Sequence[str]) -> int:
    found = [problem for file in files for problem in problems(json.loads(Path(file).read_text()))]
    print("\n".join(found) or "no known vulnerability in any package")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
