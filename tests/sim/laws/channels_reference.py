"""DMA channels that share a bus, the slow way: exact fractions, a list of jobs with their prerequisites, no arrays."""

from __future__ import annotations

from fractions import Fraction


def finish(times: list[list[float]], drain: float, buffers: int, channels: int) -> Fraction:
    """When the last job ends; ``times`` [tiles][load weights, load the rest, compute, store] cycles.

    Jobs of one queue run in order and one at a time. Queues of the bus share it equally, the array has its own clock.
    A load of tile i waits for compute i - buffers, compute for its loads and for store i - buffers, a store for its
    compute.
    """
    tiles = len(times)
    queues: dict[str, list[tuple[str, int, Fraction]]] = {"array": [], "stores": [], "loads": [], "inputs": []}
    for i, (weights, rest, compute, store) in enumerate(times):
        drains = drain if i == tiles - 1 or (buffers == 1 and drain > 0) else 0.0
        queues["array"].append(("compute", i, Fraction(compute) + Fraction(drains)))
        queues["stores"].append(("store", i, Fraction(store)))
        queues["loads"].append(("weights", i, Fraction(weights) + (0 if channels == 3 else Fraction(rest))))
        if channels == 3:
            queues["inputs"].append(("rest", i, Fraction(rest)))
    loads = ("weights", "rest") if channels == 3 else ("weights",)
    done: set[tuple[str, int]] = set()

    def ready(what: str, i: int) -> bool:
        if what in loads:
            return i < buffers or ("compute", i - buffers) in done
        if what == "store":
            return ("compute", i) in done
        return all((load, i) in done for load in loads) and (i < buffers or ("store", i - buffers) in done)

    now, running = Fraction(0), {}
    while any(queues.values()) or running:
        for name, queue in queues.items():
            if name not in running and queue and ready(queue[0][0], queue[0][1]):
                running[name] = queue.pop(0)
        on_bus = sum(name != "array" for name in running)
        speed = {name: Fraction(1) if name == "array" else Fraction(1, on_bus) for name in running}
        step = min(left / speed[name] for name, (_, _, left) in running.items())
        now += step
        for name in list(running):
            what, i, left = running[name]
            left -= step * speed[name]
            if left == 0:
                done.add((what, i))
                del running[name]
            else:
                running[name] = (what, i, left)
    return now
