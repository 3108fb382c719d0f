"""How many threads the network gets: as many as the process has cores.

torch and ONNX Runtime count the cores of the machine. In a container that is given two of sixty-four they would start
dozens of threads for two cores, and each step waits for the last of them.
"""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def core_count() -> int:
    """Count the cores that this process may use, at least 1.

    `OMP_NUM_THREADS` wins where it is a number. Else it is what the scheduler allows (`taskset`, cpusets) or the quota
    of the container (`cpu.max`, rounded up), whichever is less.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cgroup_cores(CGROUPS))))


def cgroup_cores(root: Path) -> float:
    """Read a container's quota in cores, version 2 of cgroups or 1; infinite where there is none.

    Args:
        root: Where the control groups are mounted; in a container, its own group.
    """
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # not mounted; or "max", which is no number
        return math.inf
