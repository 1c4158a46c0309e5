"""Figures for papers: one short file a kind, all on :class:`dse.figures.base.Figure`.

    import sparchitect as sp
    figure = sp.figure("roofline", [report, other], out="figures/roofline")   # .pdf, .png, .csv (the numbers)
    figure.numbers                                                           # what is drawn; a notebook shows the rest

``sp.figure(kind, data, *, out=None, width=3.5, **options)`` returns a ``Figure``: ``numbers`` (DataFrame),
``save(stem, width_in)``, ``canvas(width_in)`` (matplotlib), ``png()``. ``width``: 3.5 or 7.16 inches. Wherever
``reports`` stands, one report or a list of them; ``labels``: a name for each where machine and trace do not tell.

    "roofline"     reports, labels=None                     ops against every machine's roof
    "latency"      reports, by="cause" | "op", labels=None  stacked time
    "energy"       reports, by="component" | "op", labels=None   stacked energy
    "stalls"       report                                   share of the time by cause, op group by op group
    "traffic"      reports, labels=None                     bytes read and written, level by level
    "area"         reports or machines, labels=None         stacked area by component
    "sensitivity"  machines, traces=..., grid={"array.rows": [8, 16, 32]}, metric="latency"    one field swept
    "sparsity"     machines, names or reports, method="wanda", phase="prefill", metric="latency", baseline=None,
                   labels=None                              gain over dense weights on pruned ones, a line a machine
    "heatmap"      machine, trace=..., grid={"array.rows": [...], "array.cols": [...]}, metric="utilization"
    "gantt"        report (engine="timeline"), op=None, tiles=24, first=1      when tiles load, compute and store
    "mask"         trace with masks, or a mask (out x in); op=None, lanes=16, barrier_depth=64, orientation="output",
                   assignment="contiguous", rows=64, columns=256                a mask and the loads of its lanes
    "imbalance"    traces, lanes=16, barrier_depth=64, orientations=("output", "input"), assignment="contiguous",
                   fifo_depth=0                             how uneven all masks are for lanes (from profiles)
    "pareto"       study folder (of sp.explore), x="latency", y="energy", colour="perplexity"
    "hypervolume"  study folder or folders                  volume against trials
    "importance"   study folder, metric="latency", top=12, method="ped_anova"       which parameters decide
    "speedup"      None, methods=("wanda",), lines=None     gain of real masks against sparsity on fixed machines
    "validation"   None, against="rtl"                      predicted against reference (names: validation.scatter)

``metric`` is one of latency, energy, edp, area, traffic, utilization (sweeps), latency, energy, edp (sparsity), or
latency, energy, area, perplexity, front (importance). The command line has the same kinds:
``sparchitect figure --help``.
"""
