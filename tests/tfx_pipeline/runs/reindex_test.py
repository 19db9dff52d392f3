"""`tagtower reindex` and roll-back around a pushed run of toy towers, on real artifacts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.evaluator import constants
from tfx.types import artifact_utils, standard_artifacts

from serving.index.scann_index import SearchParameters
from tests.toy_towers import ToyTowers, write_users
from tfx_pipeline.cli import main
from tfx_pipeline.components import tag_index_builder
from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.components.last_blessed import LatestOtherBlessedModelStrategy
from tfx_pipeline.components.pusher import AtomicPusher
from tfx_pipeline.components.tag_index_builder import TagIndexBuilder
from tfx_pipeline.config.pipeline import load_config, to_json
from tfx_pipeline.examples.log_summary import TAGS_FILE
from tfx_pipeline.runs import reindex as reindex_module
from tfx_pipeline.versions import pushing
from tfx_pipeline.versions.pushed_versions import read_versions, roll_back, serving_version
from tfx_pipeline.versions.pushing import ensure_newest, rolled_back_version
from trainer.contract import signatures as s
from trainer.contract.manifest import write_manifest
from trainer.task import TRAINING_FILE

NUM_USERS, NUM_TAGS, SIZE, K = 40, 60, 8, 10


class ToyTowersWithViews(ToyTowers):
    """Toy towers in which a new tag of category `u<i>` is user u<i>'s favourite."""

    def functions(self):
        names = (s.TAGS, s.TAG_CATEGORIES)
        specs = [tf.TensorSpec([None], tf.string, name) for name in names]

        def embed_tags(**inputs):
            is_known = tf.not_equal(inputs[s.TAG_CATEGORIES], "")
            rows = 5.0 * self.embed(inputs[s.TAG_CATEGORIES])
            rows = tf.where(is_known[:, tf.newaxis], rows, 0.0)
            return {
                s.CANDIDATE_EMBEDDINGS: rows,
                s.RANKING_EMBEDDINGS: rows,
                s.IS_KNOWN: tf.zeros_like(inputs[s.TAGS], tf.bool),
            }

        return super().functions() | {s.EMBED_TAGS: (embed_tags, specs)}


def vectors():
    """Returns vectors as the towers have them: a user's last dimension is 1, a tag's its bias."""
    rng = np.random.default_rng(5)
    users, tags = rng.normal(size=(NUM_USERS, SIZE)), rng.normal(size=(NUM_TAGS, SIZE))
    users[:, -1] = 1
    return users.astype(np.float32), tags.astype(np.float32)


def artifact(kind, path: Path):
    path.mkdir(parents=True, exist_ok=True)
    made = kind()
    made.uri = str(path)
    return made


def blessing(kind, path: Path):
    made = artifact(kind, path)
    made.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 1)
    made.set_int_custom_property("blessed", 1)
    made.set_float_custom_property("recall", 1.0)
    return made


class Project:
    """A configuration, and the outputs of a run's nodes."""

    def __init__(self, folder: Path, artifacts: Path | None = None):
        self.folder, self.config_path = folder, folder / "config.yaml"
        self.output, made = folder / "run", artifacts or folder
        self.base, self.exact = self.output / "serving", self.output / "serving_exact"
        self.output.mkdir()
        index = {"kind": "exact", "k": K}
        self.config_path.write_text(json.dumps(self.mapping(index)))
        self.model = artifact(standard_artifacts.Model, made / "model")
        saved = made / "model" / "Format-Serving"
        ToyTowersWithViews(*vectors()).save(saved)
        (saved / TRAINING_FILE).write_text(
            json.dumps({"features": {"profile": [{"name": "user"}]}})
        )
        self.examples = artifact(standard_artifacts.Examples, made / "examples")
        self.examples.split_names = artifact_utils.encode_split_names(["validation", "test"])
        names = [f"u{i}" for i in range(NUM_USERS)]
        for split, users in (("validation", names[:20]), ("test", names[20:])):
            path = made / "examples" / f"Split-{split}" / "data_tfrecord-00000.gz"
            write_users(path, users)
        self.servable = artifact(standard_artifacts.Model, made / "servable")
        summary = artifact(LogSummary, made / "summary")
        row = {"tag": "t7", "category": "old"}
        (made / "summary" / TAGS_FILE).write_text(json.dumps(row) + "\n")
        TagIndexBuilder.test_call(
            model=self.model,
            examples=self.examples,
            summary=summary,
            servable=self.servable,
            index=to_json(self.config.index),
            policy=to_json(self.config.serving.policy),
            tag_normalization="{}",
            code="",
        )

    def mapping(self, index) -> dict:
        return {
            "name": "toy",
            "output": str(self.output),
            "data": {"interactions": "i", "items": "t", "users": "u"},
            "features": {"domains": [{"name": "clicked_tags"}]},
            "index": index,
        }

    @property
    def config(self):
        return load_config(str(self.config_path))

    @property
    def pushed(self) -> Path:
        return self.folder / "pushed"

    def push(self) -> int | None:
        """Runs the Pusher."""
        AtomicPusher.test_call(
            servable=self.servable,
            model_blessing=blessing(standard_artifacts.ModelBlessing, self.folder / "b"),
            index_blessing=blessing(standard_artifacts.InfraBlessing, self.folder / "i"),
            pushed_model=artifact(standard_artifacts.PushedModel, self.pushed),
            base_path=str(self.base),
            exact_base_path=str(self.exact),
            run_name="toy",
            code="",
        )
        return json.loads((self.pushed / "pushed.json").read_text())["version"]

    def cached(self) -> int | None:
        """Returns what an unchanged run does about its version."""
        return ensure_newest(str(self.pushed), self.servable.uri)

    def reindex(self, text: str, *flags: str) -> int:
        path = self.folder / "tags.csv"
        path.write_text(text)
        return main(["reindex", "--config", str(self.config_path), "--tags", str(path), *flags])

    def in_place(self) -> list[int]:
        return [v.number for v in read_versions(str(self.base)) if not v.is_withdrawn]

    def roll_back(self, version: int) -> None:
        roll_back([str(self.base), str(self.exact)], version)

    def answer(self, base: Path, user: str) -> dict[str, float]:
        """Returns tags and scores from the version that serves, best first."""
        served = tf.saved_model.load(serving_version(str(base)).path).signatures
        answer = served[s.RETRIEVE](name=tf.constant([user]))
        tags = [tag.decode() for tag in answer[s.TAGS].numpy()[0]]
        return dict(zip(tags, answer[s.SCORES].numpy()[0].tolist(), strict=True))

    def allowed(self, base: Path, user: str, category: str) -> list[str]:
        """Returns tags of one category from the version that serves."""
        served = tf.saved_model.load(serving_version(str(base)).path).signatures
        answer = served[s.RETRIEVE_FILTERED](
            name=tf.constant([user]),
            exclude_tags=tf.constant([[""]]),
            allow_categories=tf.constant([[category]]),
        )
        return [tag.decode() for tag in answer[s.TAGS].numpy()[0, : int(answer[s.COUNT][0])]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("project"))
    return project, project.push()


@pytest.fixture
def run(made):
    """Makes the project with only the version of its run."""
    project, version = made
    project.roll_back(version)
    for base in (project.base, project.exact):
        shutil.rmtree(base / "withdrawn", ignore_errors=True)
    yield project, version
    project.config_path.write_text(json.dumps(project.mapping({"kind": "exact", "k": K})))


def by_hand(user: int) -> list[str]:
    users, tags = vectors()
    return [f"t{i}" for i in np.argsort(-tags @ users[user])]


def test_new_retired_and_weighted_tags_are_served_at_both_base_paths(run, capfd):
    project, first = run
    order = by_hand(3)
    users, tags = vectors()
    logits = users[3] @ tags.T

    text = f"tag,category,weight,retired\nNew Tag,u3,,\n{order[0]},,,true\n{order[9]},,1e6,\n"
    status = project.reindex(text)

    assert status == 0, capfd.readouterr().err
    assert "1 new, 1 retired, 1 re-weighted tags" in capfd.readouterr().out
    for base in (project.base, project.exact):
        answer = project.answer(base, "u3")
        assert set(answer) == {order[9], "new tag", *order[1:9]}
        assert answer[order[9]] == pytest.approx(logits[int(order[9][1:])] + np.log(1e6), rel=1e-4)
        assert answer["new tag"] == pytest.approx(5 * users[3] @ users[3], rel=1e-4)
        assert list(answer)[0] == max(answer, key=answer.get)
        # Categories are kept: the log's for old tags, the file's for new ones.
        assert project.allowed(base, "u3", "u3") == ["new tag"]
        assert project.allowed(base, "u3", "old") == ["t7"]
    facts = serving_version(str(project.base)).provenance
    expected = {
        "kind": "reindex",
        "run": "toy",
        "towers_of": first,
        "num_tags": NUM_TAGS,
        "num_new": 1,
        "num_retired": 1,
        "num_reweighted": 1,
        "recall": 1.0,
    }
    assert {name: facts[name] for name in expected} == expected
    before = read_versions(str(project.base))[0].provenance
    assert before["kind"] == "run" and before["num_tags"] == NUM_TAGS and before["recall"] == 1.0
    assert facts["towers_fingerprint"] == before["towers_fingerprint"]


def test_of_the_examples_only_the_splits_that_are_read_are_compared(run, capfd):
    project, _ = run
    folder = Path(project.examples.uri)
    of_training = folder / "Split-train" / "data"
    of_test = folder / "Split-test" / "more"
    beside = f"{folder}.manifest.json"
    of_training.parent.mkdir()
    try:
        of_training.write_text("x")
        write_manifest(str(folder), beside)
        of_training.write_text("y")
        assert project.reindex("tag\nt1\n") == 0, capfd.readouterr().err
        of_test.write_text("x")
        assert project.reindex("tag\nt1\n") == 2
        assert f"{folder} is damaged: `Split-test/more` is not in" in capfd.readouterr().err
    finally:
        os.remove(beside)
        of_test.unlink(missing_ok=True)
        shutil.rmtree(of_training.parent)


def test_a_file_says_the_whole_difference_to_the_towers(run):
    project, first = run
    order = by_hand(3)

    assert project.reindex(f"tag,retired\n{order[0]},true\n") == 0
    assert order[0] not in project.answer(project.base, "u3")
    assert project.reindex(f"tag,retired\n{order[1]},true\n") == 0

    answer = list(project.answer(project.base, "u3"))
    assert answer == [order[0], *order[2 : K + 1]]
    assert serving_version(str(project.base)).provenance["towers_of"] != first


def test_complete_catalogue_retires_the_rest(run):
    project, _ = run
    order = by_hand(3)

    assert (
        project.reindex("tag,category\n" + "".join(f"{t},\n" for t in order[4:9]), "--complete")
        == 0
    )

    assert list(project.answer(project.base, "u3")) == order[4:9]


def test_index_below_the_target_pushes_nothing_and_says_why(run, monkeypatch, capfd):
    project, first = run
    project.config_path.write_text(
        json.dumps(project.mapping({"kind": "scann", "k": K, "num_leaves": 30}))
    )

    def do_not_tune(index, *unused):
        index.search_parameters = SearchParameters(1, K)
        return []

    monkeypatch.setattr(tag_index_builder, "tune", do_not_tune)

    status = project.reindex("tag,retired\nt5,true\n")

    out = capfd.readouterr().out
    assert status == 3
    assert "NOT pushed, a gate held it:" in out and "index recall" in out
    assert project.in_place() == [first]


def test_killed_on_the_way_leaves_no_half_version(run, monkeypatch):
    project, first = run

    class Killed(BaseException):
        pass

    def killed(*unused):
        raise Killed

    for module, name in ((reindex_module, "evaluate_in_own_process"), (pushing, "copy_folder")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(Killed):
                project.reindex("tag,retired\nt5,true\n")
        assert project.in_place() == [first]

    assert project.reindex("tag,retired\nt5,true\n") == 0
    assert len(project.in_place()) == 2
    assert not [path for path in project.base.iterdir() if path.name.startswith(".staging")]


@pytest.mark.parametrize(
    "text, named",
    [
        ("name\nx\n", "must have the column `tag`"),
        ("tag,category\nsomething,\n", "unknown_to_views: 1"),
        ("tag,retired\nsomething,true\n", "retired_but_unknown: 1"),
        ("tag,weight\nt1,-1\n", "weight_not_positive: 1"),
    ],
)
def test_mistake_in_the_file_is_one_line_and_pushes_nothing(run, capfd, text, named):
    project, first = run

    status = project.reindex(text)

    (line,) = capfd.readouterr().err.strip().splitlines()
    assert status == 2 and named in line
    assert project.in_place() == [first]


def test_unchanged_run_keeps_what_was_reindexed_from_its_towers(run):
    project, _ = run
    assert project.reindex("tag,retired\nt5,true\n") == 0
    newest = project.in_place()[-1]

    assert project.cached() == newest
    assert project.in_place()[-1] == newest


def test_run_does_not_undo_a_roll_back_cached_or_not(run):
    project, first = run
    older = first - 5
    for base in (project.base, project.exact):
        (base / str(older)).mkdir()
    project.roll_back(older)

    assert project.cached() is None
    assert rolled_back_version(str(project.pushed)) == first
    # A node that runs again, with the same towers.
    assert project.push() is None
    assert rolled_back_version(str(project.pushed)) == first
    assert project.in_place() == [older]
    # Nor is a later model compared with them.
    model = standard_artifacts.Model()
    model.id, model.uri = 1, project.model.uri
    verdict = standard_artifacts.ModelBlessing()
    verdict.id = 9
    verdict.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 1)
    verdict.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, 1)
    inputs = {"current": [], "model": [model], "model_blessing": [verdict]}
    strategy = LatestOtherBlessedModelStrategy(base_path=str(project.base))
    assert strategy.resolve_artifacts(None, inputs)["model"] == []

    project.roll_back(first)

    assert strategy.resolve_artifacts(None, inputs)["model"] == [model]
    assert rolled_back_version(str(project.pushed)) is None
    assert project.cached() == first
    assert project.in_place() == [older, first]
    for base in (project.base, project.exact):
        (base / str(older)).rmdir()
    # As it was for the next test.
    (project.pushed / "pushed.json").write_text(
        json.dumps(
            {
                **json.loads((project.pushed / "pushed.json").read_text()),
                "version": first,
            }
        )
    )


def test_number_of_a_new_version_is_above_withdrawn_ones(run):
    project, first = run
    future = 40_000_000_000
    for base in (project.base, project.exact):
        shutil.copytree(base / str(first), base / str(future))
    project.roll_back(first)

    assert project.reindex("tag,retired\nt5,true\n") == 0

    assert project.in_place() == [first, future + 1]
