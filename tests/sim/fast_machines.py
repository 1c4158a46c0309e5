"""Machines whose memories never hold the array up, so that the array's own time shows."""

from accel_models import accelerator, names

EDGE = ("dense_ws", "nm_24", "sparse_lanes")
"""Bundled machines with the same levels, ``shared`` the outermost: they take the same overrides."""

SINGLE = tuple(name for name in names() if accelerator(name).array.count == 1)

FAST = {
    "dram.bandwidth_gb_per_s": 1e6,
    "memory.shared.capacity_kib": 4194304,
    "memory.shared.bandwidth_gb_per_s": 5e4,
    "memory.shared.banks": 1024,
}


def unstalled(name, **more):
    """A machine whose memories never hold the array up."""
    machine = accelerator(name)
    fast = FAST | {
        f"memory.{level}.{field}": value
        for level in machine.memory
        if level != "shared"
        for field, value in (("bandwidth_gb_per_s", 5e4), ("capacity_kib", 1048576), ("banks", 1024))
    }
    return machine.override(fast | more)


def array_cycles(report):
    """Cycles without DRAM latency and the first load and last store, which infinitely fast DRAM makes vanish."""
    stalls = report.stalls
    return sum(stalls.values()) - stalls["dram_latency"] - stalls["dependency"] - stalls["dram_bandwidth"]
