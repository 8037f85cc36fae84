"""Build the artifacts of one target: python -m build_engines --target cpu --checkpoint FOLDER|HUB_ID."""

import argparse
import sys
from pathlib import Path

from build_engines.stage import BuildError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main() -> int:
    """Exit codes: 0 built or up to date, 1 failed with a message, 2 wrong usage, 130 interrupted."""
    arguments = _parser().parse_args()
    try:
        _build(arguments)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command resumes at the stage that was running", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m build_engines", description=__doc__.split(":")[0])
    parser.add_argument("--target", choices=["cpu"], default="cpu", help="what the artifacts are for")
    parser.add_argument(
        "--checkpoint", required=True, help="folder of an AF3 checkpoint in Hugging Face format, or a hub id"
    )
    parser.add_argument(
        "--precision", choices=["fp32", "int4"], default="fp32", help="of the LLM's weights (default: fp32)"
    )
    parser.add_argument("--output", type=Path, help="folder to write (default: engines/TARGET)")
    parser.add_argument("--force", action="store_true", help="build stages that are up to date, too")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built and stop")
    parser.add_argument("--only", metavar="STAGE", help="this stage alone: tokenizer, audio_encoder or llm")
    return parser


def _build(arguments: argparse.Namespace) -> None:
    from build_engines import cpu  # torch and transformers take seconds; --help should not
    from build_engines.checkpoint import open_checkpoint
    from build_engines.stage import run

    output = arguments.output or Path("engines") / arguments.target
    source = open_checkpoint(arguments.checkpoint)
    stages = cpu.stages(source, arguments.precision)
    stamps = run(stages, output, force=arguments.force, dry_run=arguments.dry_run, only=arguments.only)
    if not arguments.dry_run and len(stamps) == len(stages):
        cpu.write_manifest(source, arguments.precision, stamps, output)
        print(f"engines are in {output}")


if __name__ == "__main__":
    sys.exit(main())
