"""Measured all-reduce times of GPU systems against :mod:`sim.parallel.collectives`, each group predicted by the others.

    python -m validation.collectives

The rows (microsoft/vidur, ``data/truth/gpu_vidur_allreduce.csv``) form eleven groups: a system, a number of GPUs, GPUs
a node. What connects a group decides its model: GPUs of one NVSwitch or one NVLink pair are a *switch* over NVLink; two
pairs in one box meet over the host, a switch over PCIe; nodes reduce inside, all-reduce across, and gather inside.

Two parameters a kind of link, fitted on all groups of that link but the one predicted: the efficiency (achieved over
datasheet bandwidth, ``data/truth/gpu_links.csv``) and the latency of a step. The loss is the logarithm of the ratio,
soft in the tails (single rows of a few microseconds were measured several times too long); groups weigh the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.parallel.collectives import all_reduce, hierarchical_all_reduce
from sim.parallel.network import Chips

DATA = Path(__file__).parent / "data" / "truth"
GROUP = ["system", "num_workers", "devices_per_node"]
LINKS = ("nvlink", "pcie", "network")
_START = (np.log(0.5), np.log(20e3))  # efficiency, latency in ns


@dataclass(frozen=True)
class Fit:
    """Of one kind of link: achieved over peak bandwidth (``network``: GB/s of a node), and ns a step."""

    efficiency: float
    latency_ns: float


@cache
def rows() -> pd.DataFrame:
    """The measurements, with the kind of link that decides each group."""
    table = pd.read_csv(DATA / "gpu_vidur_allreduce.csv")
    workers, node = table["num_workers"], table["devices_per_node"]
    pairs = table["system"].str.contains("pairwise") & (node > 2)
    return table.assign(link=np.where(workers > node, "network", np.where(pairs, "pcie", "nvlink")))


@cache
def _peaks() -> dict[tuple[str, str], float]:
    table = pd.read_csv(DATA / "gpu_links.csv")
    return {(r.link, r.system): float(r.peak_gb_per_s_one_way) for r in table.itertuples()}


def _switch(count: int, link: str, system: str, fit: Fit) -> Chips:
    return Chips(
        count=count,
        topology="switch",
        link_gb_per_s=_peaks()[link, system] * fit.efficiency,
        link_latency_ns=fit.latency_ns,
        links_per_chip=1,
        energy_pj_per_bit=0,
    )


def predict(table: pd.DataFrame, fits: dict[str, Fit]) -> NDArray[np.float64]:
    """Milliseconds of each row; ``fits`` by link, "nvlink" also where nodes reduce inside."""
    found = []
    for r in table.itertuples():
        if r.link == "network":
            inside = _switch(int(r.devices_per_node), "nvlink", r.system, fits["nvlink"])
            across = _switch(int(r.num_workers // r.devices_per_node), "network", r.system, fits["network"])
            what = hierarchical_all_reduce(inside, across, r.size_bytes)
        else:
            what = all_reduce(_switch(int(r.num_workers), r.link, r.system, fits[r.link]), r.size_bytes)
        found.append(1e3 * what.seconds)
    return np.array(found)


def fit(table: pd.DataFrame, link: str, known: dict[str, Fit] | None = None) -> Fit:
    """The two parameters of ``link`` from the rows of ``table`` that it decides; ``known``: those of other links."""
    mine = table[table["link"] == link]
    measured = mine["time_ms_median"].to_numpy()
    weight = 1 / np.sqrt(mine.groupby(GROUP)["size_bytes"].transform("count").to_numpy())

    def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found = predict(mine, {**(known or {}), link: Fit(*np.exp(x))})
        return weight * np.log(found / measured)

    best = least_squares(residual, _START, loss="soft_l1", f_scale=0.02)
    return Fit(*(float(v) for v in np.exp(best.x)))


def fit_all(table: pd.DataFrame) -> dict[str, Fit]:
    """All three links, NVLink first: the network's rows need it."""
    fits: dict[str, Fit] = {}
    for link in LINKS:
        fits[link] = fit(table, link, fits)
    return fits


def left_out() -> pd.DataFrame:
    """Every measurement with ``predicted`` ms by parameters from the *other* groups of its link (``efficiency``,
    ``latency_ns``), and ``fitted`` ms by parameters from all groups."""
    data = rows()
    everything = fit_all(data)
    found = []
    for _, group in data.groupby(GROUP, sort=False):
        link = group["link"].iloc[0]
        fits = everything | {link: fit(data.drop(group.index), link, everything)}
        predicted, fitted = (predict(group, f) for f in (fits, everything))
        parameters = {"efficiency": fits[link].efficiency, "latency_ns": fits[link].latency_ns}
        found.append(group.assign(predicted=predicted, fitted=fitted, **parameters))
    return pd.concat(found)


def table() -> pd.DataFrame:
    """One row a group: the parameters from the *other* groups of its link, and the errors of its times (per cent).

    ``error %`` is the mean of abs(predicted / measured - 1), ``large %`` the same for messages of 4 MB and more,
    ``bias %`` the median of predicted / measured - 1, ``fitted %`` the mean error when the group is fitted, too.
    """
    found = []
    for key, group in left_out().groupby(GROUP, sort=False):
        measured = group["time_ms_median"].to_numpy()
        ratio, fitted = (group[who].to_numpy() / measured - 1 for who in ("predicted", "fitted"))
        large = group["size_bytes"].to_numpy() >= 4e6
        found.append(
            {
                **dict(zip(GROUP, key, strict=True)),
                "link": group["link"].iloc[0],
                "rows": len(group),
                "efficiency": round(group["efficiency"].iloc[0], 3),
                "latency_us": round(group["latency_ns"].iloc[0] / 1e3, 2),
                "error %": round(100 * np.abs(ratio).mean(), 1),
                "large %": round(100 * np.abs(ratio[large]).mean(), 1),
                "bias %": round(100 * float(np.median(ratio)), 1),
                "fitted %": round(100 * np.abs(fitted).mean(), 1),
            }
        )
    return pd.DataFrame(found)


if __name__ == "__main__":
    print("Each group predicted from the other groups of its link:")
    print(table().to_string(index=False))
    for name, values in fit_all(rows()).items():
        unit = "GB/s a node" if name == "network" else "of peak"
        print(f"{name}: {values.efficiency:.3g} {unit}, {values.latency_ns / 1e3:.3g} us a step (all groups)")
