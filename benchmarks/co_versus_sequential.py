"""Co-exploration against pruning first and designing second, at equal evaluations.

python benchmarks/co_versus_sequential.py --trials 1000 --seeds 0 1 2
"""

import argparse

from dse.sequential import compare
from dse.space import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--space", default="edge_codesign")
parser.add_argument("--trials", type=int, default=1000)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
options = parser.parse_args()
table = compare(load(options.space), options.trials, options.seeds)
print(table.round(4).to_string(index=False))
print(f"median ratio {table['ratio'].median():.2f}, with five prunings carried {table['ratio_5'].median():.2f}")
