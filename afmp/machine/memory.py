"""The memory of this machine."""

import os
from pathlib import Path

# What a container or a job of a cluster may take, in the two versions of Linux's control groups.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_bytes() -> int:
    """Return the memory that this process may take at most: the machine's, or less in a container."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in map(Path, LIMITS):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # there is no such file, or it says `max`
    return min(found)
