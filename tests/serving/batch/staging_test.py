import json
from pathlib import Path

import pytest

from serving.batch.staging import Staging, files_digests, folder_digest

MANIFEST = {
    "model": {"version": "1", "content": "x"},
    "input": {"format": "jsonl", "files": [["in", "y"]]},
    "options": {"num_tags": None},
}


def write_shard(staging, shard, predicted):
    with staging.write_shard(shard, {"predicted": predicted, "errors": 1}) as files:
        Path(files.results).write_text(f"results {shard}\n")
        Path(files.errors).write_text(f"errors {shard}\n")


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_output_appears_whole_with_errors_in_order_of_shards(tmp_path):
    staging = Staging(str(tmp_path / "out"), 3, ".txt")

    with staging.begin(MANIFEST):
        for shard in (2, 0, 1):
            write_shard(staging, shard, 10 + shard)
            assert not (tmp_path / "out").exists()
        counts = staging.totals()
        staging.finish({"model": "m"})

    assert counts == {"predicted": 33, "errors": 3}
    assert content(tmp_path / "out") == {
        "prediction.results-00000-of-00003.txt": "results 0\n",
        "prediction.results-00001-of-00003.txt": "results 1\n",
        "prediction.results-00002-of-00003.txt": "results 2\n",
        "prediction.errors_stats-00000-of-00001": "errors 0\nerrors 1\nerrors 2\n",
        "_predictions.json": '{\n "model": "m"\n}',
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_shard_that_raises_is_not_done(tmp_path):
    staging = Staging(str(tmp_path / "out"), 2)
    with staging.begin(MANIFEST):
        write_shard(staging, 0, 1)
        with pytest.raises(RuntimeError, match="worker"):
            with staging.write_shard(1, {}) as files:
                Path(files.results).write_text("half")
                raise RuntimeError("worker")

    with staging.begin(MANIFEST):
        assert [staging.is_done(shard) for shard in (0, 1)] == [True, False]
        # The half-written files are gone.
        assert len(list((tmp_path / "_out.partial" / "work").iterdir())) == 0


@pytest.mark.parametrize(
    ("section", "value", "named"),
    [
        ("model", {"version": "2", "content": "x"}, "started with model version 1."),
        ("model", {"version": "1", "content": "z"}, "started with another model."),
        ("input", {"format": "jsonl", "files": [["in", "z"]]}, "started with other input."),
        ("options", {"num_tags": 3}, "started with options num_tags null."),
        ("layout", 3, "started with another version of tagtower."),
    ],
)
def test_what_was_begun_otherwise_is_refused_kept_and_restarted_on_demand(
    tmp_path, section, value, named
):
    staging = Staging(str(tmp_path / "out"), 1)
    with staging.begin(MANIFEST):
        write_shard(staging, 0, 1)
    other = MANIFEST | {section: value}

    with pytest.raises(ValueError, match="started again with --restart") as caught:
        with staging.begin(other):
            pass
    assert str(caught.value).endswith(named) and "\n" not in str(caught.value)
    with staging.begin(MANIFEST):
        assert staging.is_done(0)
    with staging.begin(other, restart=True):
        assert not staging.is_done(0)
    begun = json.loads((tmp_path / "_out.partial/manifest.json").read_text())
    assert begun == other | {"begun": begun["begun"]}


def test_second_run_at_the_same_time_is_refused(tmp_path):
    staging = Staging(str(tmp_path / "out"), 1)
    with staging.begin(MANIFEST):
        with pytest.raises(ValueError, match="no other run is writing"):
            with Staging(str(tmp_path / "out"), 1).begin(MANIFEST):
                pass


def test_folder_of_somebody_else_is_refused_and_kept(tmp_path):
    (tmp_path / "_out.partial").mkdir()
    (tmp_path / "_out.partial" / "mine").write_text("kept")

    with pytest.raises(
        ValueError, match="`output` must have only files of this command in .*Received: .*mine"
    ):
        with Staging(str(tmp_path / "out"), 1).begin(MANIFEST, restart=True):
            pass

    assert (tmp_path / "_out.partial" / "mine").read_text() == "kept"


def test_run_that_finished_and_was_taken_away_is_computed_again(tmp_path):
    staging = Staging(str(tmp_path / "out"), 1)
    with staging.begin(MANIFEST):
        write_shard(staging, 0, 1)
        # Killed between the rename of the results and the end.
        (tmp_path / "_out.partial" / "complete").rename(tmp_path / "elsewhere")

    with staging.begin(MANIFEST):
        assert not staging.is_done(0)


def test_shard_that_cannot_be_read_fails_the_run_and_is_tried_again(tmp_path):
    staging = Staging(str(tmp_path / "out"), 2)
    with staging.begin(MANIFEST):
        write_shard(staging, 0, 1)
        staging.give_up_shard(1, "`input` must be readable.")
        with pytest.raises(ValueError, match="^`input` must be readable.$"):
            staging.totals()

    with staging.begin(MANIFEST):
        assert [staging.is_done(shard) for shard in (0, 1)] == [True, False]
        write_shard(staging, 1, 2)
        assert staging.totals() == {"predicted": 3, "errors": 2}


def test_digests_follow_names_and_contents_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_text("same")
    assert folder_digest(str(tmp_path / "a")) == folder_digest(str(tmp_path / "b"))
    files = [str(tmp_path / name / "sub" / "file") for name in ("a", "b")]
    first, second = files_digests(files)
    assert first == second and first[0] == "file"

    (tmp_path / "b" / "sub" / "file").write_text("other")
    assert folder_digest(str(tmp_path / "a")) != folder_digest(str(tmp_path / "b"))
    assert files_digests(files)[1] != second
