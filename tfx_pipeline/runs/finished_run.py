"""Detects that a day was already run: what makes it safe to start `tagtower run` twice."""

import dataclasses

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.run_log.inputs import inputs_fingerprint
from tfx_pipeline.run_log.log import NOT_PUSHED, PUSHED, Report, read_runs
from tfx_pipeline.tables.daily_window import find_window, with_day
from tfx_pipeline.versions.pushed_versions import read_versions


def finished_run(config: PipelineConfig) -> Report | None:
    """Finds the last run of the same day, tables, configuration and code that ended with a verdict.

    Args:
      config: Configuration with a window.

    Returns:
      The report of the run; None: there is none, or the version that it pushed is gone.
    """
    try:
        window = find_window(config.data)
        if window is None:
            return None
        ended = [
            report
            for report in read_runs(config.output_dir)
            if report.get("window.day") == window.day
            and report["run.state"] in (PUSHED, NOT_PUSHED)
        ]
        if not ended:
            return None
        config = dataclasses.replace(config, data=with_day(config.data, window.day))
        inputs = inputs_fingerprint(config)
    except ValueError:  # the run itself reports the mistake
        return None
    same = [report for report in ended if report.get("run.inputs") == inputs]
    if not same or not _is_version_there(config, same[-1]):
        return None
    return same[-1]


def _is_version_there(config: PipelineConfig, report: Report) -> bool:
    if report["run.state"] != PUSHED:
        return True
    numbers = {version.number for version in read_versions(config.base_path)}
    return report.get("push.version") in numbers
