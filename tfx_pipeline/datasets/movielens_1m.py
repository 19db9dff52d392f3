"""Converts MovieLens-1M with the free tags of MovieLens-10M to the three tables.

A rating of 4 or 5 is a click, a lower one is shown and skipped. A movie's tags are the free tags
that people gave it in MovieLens-10M (with the same movie ids) and its genres. Nothing is downloaded
here: the licence asks all users to fetch the data themselves.

F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable

from tfx_pipeline.datasets.interaction_buffer import InteractionBuffer
from tfx_pipeline.datasets.source_lines import RejectedLines, find_source_file, read_lines
from tfx_pipeline.datasets.summary import PreparedSummary
from tfx_pipeline.datasets.table_writer import TableWriter, check_output
from tfx_pipeline.tables import schema
from trainer.contract.arrow import pa
from trainer.contract.file_system import is_file

COMMAND = "tagtower prepare movielens-1m"
CLICK_MIN_RATING = 4
_RATINGS = ("1", "2", "3", "4", "5")
GET_1M = "Download ml-1m.zip (MovieLens 1M) from https://grouplens.org/datasets/movielens/1m/"
GET_10M = "Download ml-10m.zip (MovieLens 10M) from https://grouplens.org/datasets/movielens/10m/"

_read_rows = functools.partial(read_lines, separator="::")
_logger = logging.getLogger("tagtower.prepare")


@dataclasses.dataclass(frozen=True)
class _Movie:
    row: int
    line: str
    title: str
    genres: list[str]


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read_users(path: str, rejected: RejectedLines) -> pa.Table:
    users: dict[str, list[str]] = {}
    for number, line, fields in _read_rows(path, rejected, num_fields=5, encoding="latin-1"):
        user_id, gender, age, occupation, zip_code = (field.strip() for field in fields)
        if not user_id:
            rejected.add(path, number, schema.MISSING_USER_ID, line)
        elif not _is_whole_number(user_id):
            rejected.add(path, number, schema.WRONG_TYPE, line)
        elif user_id in users:
            rejected.add(path, number, schema.DUPLICATE_USER, line)
        else:
            region = zip_code[:1] if zip_code[:1].isdigit() else ""
            users[user_id] = [gender, age, occupation, region]
    columns = list(zip(*users.values(), strict=True)) or [()] * 4
    names = ["gender", "age", "occupation", "region"]
    table = {"user_id": pa.array(list(users), pa.string())}
    table |= {n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)}
    return pa.table(table)


def _read_movies(path: str, rejected: RejectedLines) -> dict[str, _Movie]:
    """Reads the movies by id, in the order of the file."""
    movies: dict[str, _Movie] = {}
    rows = _read_rows(path, rejected, num_fields=3, encoding="latin-1", text_field=1)
    for number, line, (movie_id, title, genres) in rows:
        if not movie_id.strip():
            rejected.add(path, number, schema.MISSING_ITEM_ID, line)
        elif not _is_whole_number(movie_id):
            rejected.add(path, number, schema.WRONG_TYPE, line)
        elif movie_id in movies:
            rejected.add(path, number, schema.DUPLICATE_ITEM, line)
        else:
            found = [genre.strip().lower() for genre in genres.split("|") if genre.strip()]
            movies[movie_id] = _Movie(number, line, title, found)
    return movies


def _read_free_tags(
    path: str, movie_ids: set[str], rejected: RejectedLines
) -> tuple[dict[str, collections.Counter[str]], int]:
    """Counts taggers by movie and tag, and the tags of movies that MovieLens-1M lacks."""
    taggers: dict[str, dict[str, set[str]]] = {}
    num_other = 0
    rows = _read_rows(path, rejected, num_fields=4, encoding="utf-8", text_field=2)
    for number, line, (user_id, movie_id, tag, _) in rows:
        tag = tag.strip().lower()
        if not _is_whole_number(user_id) or not _is_whole_number(movie_id):
            rejected.add(path, number, schema.WRONG_TYPE, line)
        elif not tag:
            rejected.add(path, number, schema.NO_TAGS, line)
        elif movie_id not in movie_ids:
            num_other += 1
        else:
            taggers.setdefault(movie_id, {}).setdefault(tag, set()).add(user_id)
    counts = {
        movie_id: collections.Counter({tag: len(users) for tag, users in tags.items()})
        for movie_id, tags in taggers.items()
    }
    return counts, num_other


def _by_taggers(counts: collections.Counter[str]) -> Callable[[str], tuple[int, str]]:
    return lambda tag: (-counts[tag], tag)


def select_tags(
    genres: dict[str, list[str]],
    taggers: dict[str, collections.Counter[str]],
    *,
    min_tag_movies: int,
    max_free_tags: int,
) -> dict[str, list[str]]:
    """Selects the tags of each movie: its genres, then its free tags by number of taggers.

    Args:
      genres: Genres of each movie, in lower case.
      taggers: Number of taggers by movie and tag in lower case.
      min_tag_movies: Number of movies that must have a free tag for it to count.
      max_free_tags: Largest number of free tags of a movie; ties in the number of taggers are
        resolved alphabetically.

    Returns:
      Tags by movie, without repetition: a free tag that is also a genre of the movie is one tag.
    """
    num_movies = collections.Counter(tag for counts in taggers.values() for tag in counts)
    selected = {}
    for movie_id, own_genres in genres.items():
        counts = taggers.get(movie_id, collections.Counter())
        free = [tag for tag in counts if num_movies[tag] >= min_tag_movies]
        free = sorted(free, key=_by_taggers(counts))
        selected[movie_id] = list(dict.fromkeys(own_genres + free[:max_free_tags]))
    return selected


def _write_ratings(
    path: str, movie_ids: set[str], writer: TableWriter, rejected: RejectedLines
) -> tuple[int, set[str]]:
    """Writes the interactions; returns the number of clicks and the ids of their users."""
    rows = InteractionBuffer(writer)
    seen: set[str] = set()
    for number, line, fields in _read_rows(path, rejected, num_fields=4, encoding="latin-1"):
        user_id, movie_id, rating, timestamp = fields
        if not _is_whole_number(user_id) or rating not in _RATINGS:
            rejected.add(path, number, schema.WRONG_TYPE, line)
        elif not _is_whole_number(timestamp):
            rejected.add(path, number, schema.UNPARSABLE_TIMESTAMP, line)
        elif movie_id not in movie_ids:
            rejected.add(path, number, schema.UNKNOWN_ITEM, line)
        else:
            seen.add(user_id)
            clicked = int(int(rating) >= CLICK_MIN_RATING)
            rows.add(user_id, movie_id, int(timestamp), clicked)
    rows.flush()
    if not seen:
        raise ValueError(f"{path} has no usable rating: {rejected.counts()}. Download it again.")
    return rows.num_clicks, seen


def _check_bounds(min_tag_movies: int, max_free_tags: int) -> None:
    for name, value in [("min_tag_movies", min_tag_movies), ("max_free_tags", max_free_tags)]:
        least = 1 if name == "min_tag_movies" else 0
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")


def _check_tags_file(tags_file: str) -> None:
    if not is_file(tags_file):
        raise ValueError(
            f"`tags_file` must be tags.dat of MovieLens 10M, or its .gz. "
            f"Received: tags_file={tags_file!r}. {GET_10M} and name its tags.dat."
        )


def _read_catalogue(
    movies_file: str,
    tags_file: str,
    min_tag_movies: int,
    max_free_tags: int,
    rejected: RejectedLines,
) -> tuple[dict[str, _Movie], dict[str, list[str]], int]:
    """The movies that have tags; the tags of each; and the number of tags of other movies."""
    movies = _read_movies(movies_file, rejected)
    taggers, num_other = _read_free_tags(tags_file, set(movies), rejected)
    tags = select_tags(
        {movie_id: movie.genres for movie_id, movie in movies.items()},
        taggers,
        min_tag_movies=min_tag_movies,
        max_free_tags=max_free_tags,
    )
    for movie_id in [movie_id for movie_id, own in tags.items() if not own]:
        movie = movies.pop(movie_id)
        rejected.add(movies_file, movie.row, schema.NO_TAGS, movie.line)
        del tags[movie_id]
    return movies, tags, num_other


def _items_table(movies: dict[str, _Movie], tags: dict[str, list[str]]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(list(movies), pa.string()),
            "tags": pa.array([tags[movie_id] for movie_id in movies], pa.list_(pa.string())),
            "category": pa.array(
                [m.genres[0] if m.genres else "" for m in movies.values()], pa.string()
            ),
            "title": pa.array([movie.title for movie in movies.values()], pa.string()),
        }
    )


def prepare_movielens_1m(
    source: str,
    tags_file: str,
    output: str,
    *,
    min_tag_movies: int = 5,
    max_free_tags: int = 10,
) -> PreparedSummary:
    """Writes the three tables of MovieLens-1M.

    Args:
      source: Folder to which ml-1m.zip unpacks: `users.dat`, `movies.dat`, `ratings.dat`, each
        plain or with `.gz`.
      tags_file: Path of `tags.dat` (or `tags.dat.gz`) of MovieLens-10M.
      output: Folder to write to; an earlier output of this command is replaced.
      min_tag_movies: Number of movies of ML-1M that must have a free tag for it to be kept.
      max_free_tags: Largest number of free tags per movie, chosen by number of taggers.

    Returns:
      Counts of the written tables. Unusable lines are counted in it, and written to
      `rejected.jsonl`.

    Raises:
      ValueError: A file is missing (the message names the download and its place), an option is out
        of range, or the output folder holds something else.
    """
    _check_bounds(min_tag_movies, max_free_tags)
    users_file, movies_file, ratings_file = (
        find_source_file(source, name, GET_1M)
        for name in ("users.dat", "movies.dat", "ratings.dat")
    )
    _check_tags_file(tags_file)
    check_output(output, COMMAND)

    rejected = RejectedLines()
    users = _read_users(users_file, rejected)
    movies, tags, num_other = _read_catalogue(
        movies_file, tags_file, min_tag_movies, max_free_tags, rejected
    )
    _logger.info("Read %s movies, %s users.", f"{len(movies):,}", f"{len(users):,}")
    with TableWriter(output, command=COMMAND) as writer:
        writer.write_users(users)
        writer.write_items(_items_table(movies, tags))
        num_clicks, seen = _write_ratings(ratings_file, set(movies), writer, rejected)
        writer.write_json_lines("rejected.jsonl", rejected.rows)
    notes = [f"{num_other:,} free tags are of movies that MovieLens-1M does not have."]
    num_unknown = len(seen.difference(users.column("user_id").to_pylist()))
    if num_unknown:
        notes.append(f"{num_unknown:,} users of ratings have no row in users.dat.")
    return PreparedSummary.of_items(
        output,
        tags.values(),
        num_interactions=writer.num_rows["interactions"],
        num_clicks=num_clicks,
        num_users=len(users),
        rejected=rejected.counts(),
        notes=tuple(notes),
    )
