"""How many CPU threads the network gets: as many as the process has cores.

torch and ONNX Runtime count the cores of the machine. In a container with two of sixty-four they would start dozens of
threads for two cores, and every step would wait for the last of them. Served models carry this module: it needs neither
torch nor another module of Cygnet.
"""

import math
import os
from pathlib import Path

import cv2

CGROUPS = Path("/sys/fs/cgroup")


def core_count() -> int:
    """Count the cores that this process may use, at least 1.

    `OMP_NUM_THREADS` takes precedence if it is a number. Otherwise it is the smaller of what the scheduler allows
    (`taskset`, cpusets) and the container's quota (`cpu.max`, rounded up).
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cgroup_cores(CGROUPS))))


def bound_threads(tasks: int) -> None:
    """Give every detector that is loaded from now on its share of the cores, as if all tasks ran on this machine.

    It sets `OMP_NUM_THREADS`, which Spark has set to 1 in its workers.
    """
    threads = max(cv2.getNumberOfCPUs() // tasks, 1)  # of this process: affinity and container limits count
    os.environ["OMP_NUM_THREADS"] = str(threads)


def cgroup_cores(root: Path) -> float:
    """Read a container's quota in cores, of cgroups version 2 or 1; infinite if there is none.

    Args:
        root: Where the control groups are mounted; in a container, its own group.
    """
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # not mounted; or "max" instead of a number
        return math.inf
