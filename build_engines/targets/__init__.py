"""The GPUs that engines are built for, one small file each."""

from build_engines.targets import a100, h100, h200, l40s
from build_engines.targets.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for target in (h100.TARGET, h200.TARGET, l40s.TARGET, a100.TARGET)
}
