"""Makes docs/results.md: the pipeline on MovieLens-1M over several seeds, mean and deviation.

    make results          (or: python -m benchmarks.movielens_results [--seeds 0 1 2])

All seeds share examples and transform, by the pipeline's own cache; each trains, evaluates, builds
its index and asks its gates anew. A report a seed is kept in build/bench/movielens/.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.terminal.console import Console
from tfx_pipeline.terminal.report_file import write_report
from tfx_pipeline.terminal.tables import QUALITY, WHO, has_figures
from trainer.contract.metric_registry import NOVEL, NUM_USERS, PRECISION, RECALL, label

CONFIG = os.path.join("tfx_pipeline", "configs", "movielens-1m.yaml")
REPORTS = Path("build") / "bench" / "movielens"
PAGE = Path("docs") / "results.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

METRICS = (*QUALITY[:3], RECALL.at(10), *QUALITY[3:])
COSTS = (
    ("index.recall_at_100", "index recall@100 against exact search", "{:.4f}"),
    ("index.latency_ms_p50_batch_1", "index, one query, p50 ms", "{:.2f}"),
    ("index.queries_per_second_batch_64", "index, queries/s in batches of 64", "{:,.0f}"),
    ("train.examples_per_second", "training, snapshots/s", "{:,.0f}"),
    ("train.epochs", "epochs", "{:.1f}"),
    ("time.Trainer_seconds", "Trainer, seconds", "{:.0f}"),
)


def cell(values: Sequence[float | None]) -> str:
    """Formats mean and standard deviation of a figure over the seeds; `-` where undefined."""
    defined = [value for value in values if value is not None]
    if not defined:
        return "-"
    digits = 0 if max(defined) >= 100 else 4
    text = f"{statistics.mean(defined):.{digits}f}"
    deviation = statistics.stdev(defined) if len(defined) > 1 else 0.0
    # Baselines except `random` do not depend on the seed.
    return f"{text} ± {deviation:.{digits}f}" if deviation else text


def figures(reports: Sequence[Mapping[str, Any]]) -> str:
    """Makes the page's tables as Markdown."""
    lines = ["| test users | " + " | ".join(map(label, METRICS)) + " |"]
    lines.append("| --- |" + " ---: |" * len(METRICS))
    for who in WHO:
        if not any(has_figures(report, who) for report in reports):
            continue
        cells = [cell([r.get(f"eval.{who}.{name}") for r in reports]) for name in METRICS]
        lines.append(f"| {who.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| slice of the model | users | P@10 | novel P@10 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for slice_name in ("history_1_to_49", "history_50_to_199", "history_200_or_more"):
        prefix = f"eval.model.{slice_name}."
        names = (NUM_USERS.name, PRECISION.at(10), PRECISION.at(10, NOVEL))
        cells = [cell([r.get(prefix + name) for r in reports]) for name in names]
        lines.append(f"| {slice_name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += ["", "| cost | mean over seeds |", "| --- | ---: |"]
    for key, title, pattern in COSTS:
        lines.append(f"| {title} | {pattern.format(statistics.mean(r[key] for r in reports))} |")
    first = reports[0]
    # The later seeds take examples and transform from the cache.
    lines.append(f"| whole run, first seed, seconds | {first['time.total_seconds']:.0f} |")
    lines.append(f"| peak memory, first seed, MB | {first['memory.peak_mb']:,.0f} |")
    users = first["eval.model.num_users"] or 0
    item_users = first["eval.model.item_num_users"] or 0
    lines += [
        "",
        f"Seeds: {', '.join(str(r['run.seed']) for r in reports)}. "
        f"{users:.0f} test users with a truth ({item_users:.0f} with one of items), "
        f"{first['index.num_tags']:,} tags, "
        f"plain CTR {first['eval.model.plain_ctr']:.3f}, "
        f"weight of the blend (chosen on validation): {first['eval.blend_weight']:g}.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the seeds and rewrites the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", default=CONFIG)
    parsed = parser.parse_args(arguments)
    console = Console(sys.stdout)
    # A separate, empty output folder, so that the first seed uses no cache of another run.
    output = Path(load_config(parsed.config).output_dir).parent / "results"
    shutil.rmtree(output, ignore_errors=True)
    reports = []
    for seed in parsed.seeds:
        console.line(f"== seed {seed}")
        command = [sys.executable, "-m", "tfx_pipeline.cli", "run"]
        command += ["--config", parsed.config, "--output", str(output), "--seed", str(seed)]
        status = subprocess.run(command, check=False).returncode
        if status not in (0, 3):  # 3: a gate refused the model, which is a result, too
            return status
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
        write_report(report, REPORTS / f"seed-{seed}.json")
        reports.append(report)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{figures(reports)}\n{END}{after}", encoding="utf-8")
    console.line(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
