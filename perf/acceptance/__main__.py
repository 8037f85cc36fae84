"""Checks that this machine's GPU serves Audio Flamingo 3: python -m perf.acceptance --target h100

Builds and serves af3-tiny, then the real model; compares answers, measures speed, sends bad requests. Takes about an
hour and resumes at the step that failed. The report is FOLDER/report.md and report.json: please send both back.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from build_engines import memory_plan, tools
from build_engines.llm import calibration
from build_engines.targets import TARGETS
from perf.acceptance import acceptance_plan as plan
from perf.acceptance import runner
from serving.machine import doctor


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m perf.acceptance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument(
        "--checkpoint", default=plan.CHECKPOINT, help="folder or hub id (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=Path(".cache/acceptance"), help="default: %(default)s")
    parser.add_argument("--calibration", type=Path, help="folder of 32 clips or more to calibrate FP8 with")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands and what is missing; run nothing"
    )
    parser.add_argument("--only", help="this step alone")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    steps = plan.steps(
        arguments.target, folder, arguments.checkpoint, tools.find(folder), arguments.calibration
    )
    if arguments.only is not None:
        steps = [step for step in steps if step.name == arguments.only]
        if not steps:
            parser.error(f"--only {arguments.only}: no step has this name")
    missing = doctor.missing_to_build(arguments.target, plan.DISK_GB)
    if TARGETS[arguments.target].llm_precision == "fp8":
        clips = arguments.calibration or calibration.DEFAULT_CLIPS
        missing += calibration.missing_clips(clips, memory_plan.AUDIO_FLAMINGO_3.llm_weights)
    if arguments.dry_run:
        print(runner.describe(steps))
    if missing:
        print("missing here, in the order to get it:")
        print(doctor.report(missing))
    if arguments.dry_run:
        return 0
    if missing:
        return 2
    outcomes = runner.run(steps, folder)
    print(f"report: {folder / 'report.md'} and {folder / runner.REPORT}")
    return 0 if all(outcome.state == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
