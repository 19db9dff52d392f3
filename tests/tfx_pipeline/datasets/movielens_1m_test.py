"""MovieLens: a hand-written folder by value, and the real counts if the data is present."""

import collections
import gzip
import json
import pathlib

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.datasets.movielens_1m import prepare_movielens_1m, select_tags

SHARED_DATA = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data"

USERS = "1::F::1::10::48067\n2::M::56::16::V0072\n\n2::M::56::16::70072\nthree::M::1::1::1\n4::M\n"
MOVIES = (
    "10::Café: A Story (1995)::Comedy|Drama\n"
    "11::Colons::Everywhere (1996)::Drama\n"
    "12::Nothing Known (1997)::\n"
    "13::Quiet (1998)::Film-Noir\n"
)
RATINGS = (
    "1::10::5::100\n1::11::3::101\n2::10::4::102\n9::13::1::103\n"
    "1::99::5::104\n1::10::6::105\n1::10::5::soon\n1::10::5\n1::12::5::106\n"
)
TAGS = (
    "7::10:: Funny ::1\n8::10::funny::1\n8::10::COMEDY::1\n7::11::funny::1\n8::11::rare::1\n"
    "7::13::a::b::1\n8::11::a::b::1\n7::555::funny::1\n7::10::  ::1\nx::10::funny::1\n"
)


@pytest.fixture(params=["plain", "gz"])
def source(request, tmp_path):
    texts = {"users.dat": USERS, "movies.dat": MOVIES, "ratings.dat": RATINGS}
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in texts.items():
        raw = text.encode("latin-1")
        if request.param == "gz":
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    (folder / "tags.dat").write_bytes(TAGS.encode() + b"7::10::bad \xff byte::1\n")
    return folder


def _prepare(source, tmp_path, **kwargs):
    output = tmp_path / "out"
    kwargs = {"min_tag_movies": 2, **kwargs}
    summary = prepare_movielens_1m(str(source), str(source / "tags.dat"), str(output), **kwargs)
    return output, summary


def test_hand_written_folder_gives_its_tables(source, tmp_path):
    output, summary = _prepare(source, tmp_path)
    assert pq.read_table(output / "items.parquet").to_pylist() == [
        {
            "item_id": "10",
            "tags": ["comedy", "drama", "funny"],
            "category": "comedy",
            "title": "Café: A Story (1995)",
        },
        {
            "item_id": "11",
            "tags": ["drama", "a::b", "funny"],
            "category": "drama",
            "title": "Colons::Everywhere (1996)",
        },
        {
            "item_id": "13",
            "tags": ["film-noir", "a::b"],
            "category": "film-noir",
            "title": "Quiet (1998)",
        },
    ]
    assert pq.read_table(output / "users.parquet").to_pylist() == [
        {"user_id": "1", "gender": "F", "age": "1", "occupation": "10", "region": "4"},
        {"user_id": "2", "gender": "M", "age": "56", "occupation": "16", "region": ""},
    ]
    assert pq.read_table(output / "interactions").to_pylist() == [
        {"user_id": "1", "item_id": "10", "timestamp": 100, "clicked": 1},
        {"user_id": "1", "item_id": "11", "timestamp": 101, "clicked": 0},
        {"user_id": "2", "item_id": "10", "timestamp": 102, "clicked": 1},
        {"user_id": "9", "item_id": "13", "timestamp": 103, "clicked": 0},
    ]
    assert (summary.num_interactions, summary.num_clicks) == (4, 2)
    assert (summary.num_users, summary.num_items, summary.num_tags) == (2, 3, 5)
    assert summary.tags_per_item == pytest.approx(8 / 3)


def test_lines_that_cannot_be_used_are_set_aside_with_reason_and_place(source, tmp_path):
    output, summary = _prepare(source, tmp_path)
    lines = (output / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = collections.Counter((pathlib.Path(r["file"]).name[:4], r["reason"]) for r in rows)
    assert found == {
        ("user", "duplicate_user"): 1,
        ("user", "wrong_type"): 1,
        ("user", "malformed_row"): 1,
        ("movi", "no_tags"): 1,
        ("tags", "no_tags"): 1,
        ("tags", "wrong_type"): 1,
        ("tags", "malformed_row"): 1,
        ("rati", "unknown_item"): 2,
        ("rati", "wrong_type"): 1,
        ("rati", "unparsable_timestamp"): 1,
        ("rati", "malformed_row"): 1,
    }
    assert sum(summary.rejected.values()) == len(rows) == 12
    assert {"row": 8, "values": "1::10::5"}.items() <= rows[-2].items()
    notes = " ".join(summary.lines())
    assert "1 free tags are of movies that MovieLens-1M does not have" in notes
    assert "1 users of ratings have no row in users.dat" in notes


def test_two_runs_write_the_same_bytes(source, tmp_path):
    output, _ = _prepare(source, tmp_path)
    names = ["interactions/part-00000.parquet", "items.parquet", "users.parquet"]
    before = [(output / name).read_bytes() for name in names]
    _prepare(source, tmp_path)
    assert [(output / name).read_bytes() for name in names] == before


def test_missing_source_file_says_what_to_download(source, tmp_path):
    for path in source.glob("ratings.dat*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"ratings\.dat.*ml-1m\.zip.*grouplens\.org"):
        _prepare(source, tmp_path)
    assert not (tmp_path / "out").exists()


def test_missing_tags_file_says_what_to_download(source, tmp_path):
    (source / "tags.dat").unlink()
    with pytest.raises(ValueError, match=r"`tags_file`.*ml-10m\.zip.*grouplens\.org"):
        _prepare(source, tmp_path)


def test_ratings_without_a_usable_line_are_refused(source, tmp_path):
    for path in source.glob("ratings.dat*"):
        path.unlink()
    (source / "ratings.dat").write_text("1::99::5::104\n")
    with pytest.raises(ValueError, match="no usable rating"):
        _prepare(source, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"min_tag_movies": 0}, {"max_free_tags": -1}])
def test_option_out_of_range_is_refused(source, tmp_path, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be at least .* Received: {name}="):
        _prepare(source, tmp_path, **options)


def test_most_used_tags_are_kept_and_ties_go_by_name():
    counts = collections.Counter
    taggers = {"m": counts(z=3, b=2, a=2, c=1, lone=9), "n": counts(z=1, b=1, a=1, c=1)}
    tags = select_tags({"m": ["drama"], "n": []}, taggers, min_tag_movies=2, max_free_tags=2)
    assert tags == {"m": ["drama", "z", "a"], "n": ["a", "b"]}


def test_free_tag_that_is_a_genre_is_one_tag():
    taggers = {"m": collections.Counter(drama=3, x=1)}
    tags = select_tags({"m": ["comedy", "drama"]}, taggers, min_tag_movies=1, max_free_tags=10)
    assert tags == {"m": ["comedy", "drama", "x"]}


@pytest.mark.movielens
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="MovieLens is not at ../shared/data")
def test_real_files_give_the_published_counts(tmp_path):
    tags_file = SHARED_DATA / "ml-10m-tags" / "tags.dat.gz"
    summary = prepare_movielens_1m(
        str(SHARED_DATA / "ml-1m"), str(tags_file), str(tmp_path / "out")
    )
    assert summary.num_interactions == 1_000_209
    assert summary.num_users == 6_040
    assert summary.num_items == 3_883
    assert summary.num_tags == 1_177
    assert summary.tags_per_item == pytest.approx(5.1, abs=0.05)
    found = pq.read_table(tmp_path / "out" / "interactions")
    assert pc.sum(found.column("clicked")).as_py() == summary.num_clicks == 575_281
    assert pc.count_distinct(found.column("user_id")).as_py() == 6_040
