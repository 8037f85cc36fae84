"""The GPUs that engines are built for, one small file each."""

from build_engines.targets import a10g, a100, h100, h200, l4, l40s, rtx4090
from build_engines.targets.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        h100.TARGET,
        h200.TARGET,
        a100.TARGET,
        l40s.TARGET,
        l4.TARGET,
        a10g.TARGET,
        rtx4090.TARGET,
    )
}
