"""Runs the example pipeline on small tables and reads its output."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.shuffle import IN_BEAM, Workplace
from tfx_pipeline.examples.write_examples import ExampleOutputs, write_examples
from tfx_pipeline.tables.inputs import find_tables
from trainer.contract.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class Run:
    """The outputs of one run."""

    folder: Path
    outputs: ExampleOutputs

    @property
    def counts(self) -> dict[str, int]:
        return json.loads((self.folder / "summary" / "counts.json").read_text())

    @property
    def tags(self) -> dict[str, dict[str, Any]]:
        rows = read_jsonl(self.folder / "summary" / "tags.jsonl")
        return {row.pop("tag"): row for row in rows}

    @property
    def items(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "summary" / "items.jsonl")

    @property
    def rejected(self) -> list[dict[str, Any]]:
        return [row for path in sorted(self.folder.glob("rejected/*")) for row in read_jsonl(path)]

    @property
    def instances(self) -> list[dict[str, Any]]:
        return [row for path in sorted(self.folder.glob("instances/*")) for row in read_jsonl(path)]

    def examples(self, split: str) -> list[dict[str, list[Any]]]:
        """Returns parsed examples of a split, in the order of files and of their records."""
        paths = sorted(map(str, self.folder.glob(f"examples/Split-{split}/*")))
        return [parse(r) for r in tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator()]

    def contents(self) -> dict[str, bytes]:
        """Returns the bytes of every file except rejected rows, which name their source files."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "rejected" not in path.relative_to(self.folder).parts
        }


def parse(record: bytes) -> dict[str, list[Any]]:
    """Returns lists by name, with bytes decoded."""
    values = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        items = list(getattr(feature, kind).value) if kind else []
        values[name] = [item.decode() for item in items] if kind == "bytes_list" else items
    return values


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file of JSON lines."""
    with path.open(encoding="utf-8", newline="\n") as lines:  # a value may hold other breaks
        return [json.loads(line) for line in lines]


def write_tables(folder: Path, interactions, users=(), items=None) -> DataConfig:
    """Writes three tables of JSON lines; `items` are rows, by default those of `ITEMS`."""
    return DataConfig(
        interactions=write_jsonl(folder / "interactions.jsonl", interactions),
        items=write_jsonl(folder / "items.jsonl", item_rows() if items is None else items),
        users=write_jsonl(folder / "users.jsonl", users),
    )


def run_examples(
    folder: Path,
    data: DataConfig,
    spec: FeatureSpec,
    config: ExamplesConfig | None = None,
    workplace: Workplace = IN_BEAM,
) -> Run:
    """Runs the pipeline in memory."""
    names = ("examples", "instances", "summary", "rejected")
    outputs = ExampleOutputs(*(str(folder / name) for name in names))
    options = PipelineOptions(BeamConfig().pipeline_args())
    with beam.Pipeline(options=options) as pipeline:
        write_examples(
            pipeline,
            data,
            spec,
            config or ExamplesConfig(),
            outputs,
            find_tables(data, spec),
            workplace,
        )
    return Run(folder, outputs)
