"""Converts MIND, the log of Microsoft News, to the three tables.

`behaviors.tsv` has impressions: a user, a time, the shown news with 1 (clicked) or 0, and the news
that the user clicked before. `news.tsv` has category, subcategory, title and the entities found in
title and abstract. They are converted as follows:

- *Interactions*: every shown news, at the time of its impression. MIND names no time zone; times
  are read as UTC.
- *History*: clicks in order, without a time. They are from the weeks before the log (the paper,
  section 3), so each user's history is placed before the whole log, one second apart, the last
  click one second before the log's first impression: in the true order, and on the true side of
  every cut in the log, but at invented times. Windows of days and weights by recency have no
  meaning there. As no skipped news accompany these clicks, the click head learns from more clicks
  than the log has; calibration on validation corrects the rate. An option leaves them out.
- *Tags of a news*: category, subcategory, and the labels of its entities, in lower case; an entity
  must be in several news. Words of the title are not used, as they name themes less well than
  entities.
- *Users*: ids alone, as MIND has no profile features.

News that are shown but not in `news.tsv` are written all the same: the pipeline counts them as
`unknown_item`, and its threshold decides. Nothing is downloaded here: the licence asks all users to
fetch the data themselves.

"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime
import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.datasets.interaction_buffer import InteractionBuffer
from tfx_pipeline.datasets.mind_options import MindOptions
from tfx_pipeline.datasets.part_engine import write_parts
from tfx_pipeline.datasets.part_files import PartFiles
from tfx_pipeline.datasets.source_lines import (
    LineBlock,
    RejectedLines,
    find_blocks,
    find_source_file,
    read_lines,
)
from tfx_pipeline.datasets.summary import PreparedSummary
from tfx_pipeline.datasets.table_writer import TableWriter, check_output
from tfx_pipeline.tables import schema
from trainer.contract.arrow import pa
from trainer.contract.file_system import absolute

COMMAND = "tagtower prepare mind"
REJECTED_FILE = "rejected.jsonl"
# Bytes of `behaviors.tsv` per file of interactions, one worker's work: 1 to 2 million rows.
BLOCK_BYTES = 16 << 20

_GET = "Download MINDsmall_train.zip or MINDlarge_train.zip from https://msnews.github.io/"
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/12/2019 2:14:46 PM
_CLICKS = {"0": 0, "1": 1}
_REJECTED = "rejected."  # prefix of a reason among the counts of a part
_TEST_PART_ADVICE = "MIND's own test part has no clicks: take its training or validation part."

_read_rows = functools.partial(read_lines, separator="\t", encoding="utf-8")
_logger = logging.getLogger("tagtower.prepare")


@dataclasses.dataclass(frozen=True)
class _News:
    row: int
    category: str
    title: str
    own_tags: list[str]  # category and subcategory
    entities: list[str]


class _Impression(NamedTuple):
    number: int
    user_id: str
    time: int
    history: str
    shown: str


def _entity_labels(cell: str) -> list[str]:
    """Returns the labels of the entities of a title or an abstract, in lower case.

    Raises:
      ValueError: The cell is not a JSON list of objects with a `Label`.
    """
    if not cell.strip():
        return []
    try:
        labels = [entity["Label"].strip().lower() for entity in json.loads(cell)]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a list of entities: {cell}") from error
    return [label for label in labels if label]


def _read_news(path: str, rejected: RejectedLines) -> dict[str, _News]:
    """Reads the news by id, in the order of the file."""
    news: dict[str, _News] = {}
    for number, line, fields in _read_rows(path, rejected, num_fields=8):
        news_id, category, subcategory = (field.strip() for field in fields[:3])
        if not news_id:
            rejected.add(path, number, schema.MISSING_ITEM_ID, line)
            continue
        if news_id in news:
            rejected.add(path, number, schema.DUPLICATE_ITEM, line)
            continue
        try:
            entities = [label for cell in fields[6:] for label in _entity_labels(cell)]
        except ValueError:
            rejected.add(path, number, schema.MALFORMED_ROW, line)
            continue
        own_tags = [tag for tag in (category.lower(), subcategory.lower()) if tag]
        news[news_id] = _News(number, category.lower(), fields[3], own_tags, entities)
    return news


def _select_tags(news: Mapping[str, _News], min_tag_items: int) -> dict[str, list[str]]:
    """Selects the distinct tags of each news: its own, then entities in order of appearance."""
    num_news = collections.Counter(tag for row in news.values() for tag in set(row.entities))
    return {
        news_id: list(
            dict.fromkeys(
                [*row.own_tags, *(tag for tag in row.entities if num_news[tag] >= min_tag_items)]
            )
        )
        for news_id, row in news.items()
    }


def _read_impressions(
    path: str, rejected: RejectedLines, block: LineBlock | None = None
) -> Iterator[_Impression]:
    for number, line, fields in _read_rows(path, rejected, num_fields=5, block=block):
        _, user_id, time, history, shown = (field.strip() for field in fields)
        if not user_id:
            rejected.add(path, number, schema.MISSING_USER_ID, line)
        elif not shown:
            rejected.add(path, number, schema.MISSING_ITEM_ID, line)
        else:
            try:
                moment = datetime.datetime.strptime(time, _TIME_FORMAT)
            except ValueError:
                rejected.add(path, number, schema.UNPARSABLE_TIMESTAMP, line)
                continue
            seconds = int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())
            yield _Impression(number, user_id, seconds, history, shown)


class _FirstImpressions(NamedTuple):
    """Facts from a first reading of the impressions.

    Attributes:
      start: Time of the log's first impression.
      number: Line of the earliest impression by user, in order of the file.
      num_users_of_several: Number of users whose impressions do not all have the same history.
    """

    start: int
    number: dict[str, int]
    num_users_of_several: int


def _first_impressions(path: str) -> _FirstImpressions:
    # Histories are kept as hashes: the texts of a million users do not fit into memory.
    first: dict[str, tuple[int, int, int]] = {}
    of_several: set[str] = set()
    for impression in _read_impressions(path, RejectedLines()):
        found = (impression.time, impression.number, hash(impression.history))
        known = first.setdefault(impression.user_id, found)
        if known[2] != found[2]:
            of_several.add(impression.user_id)
        first[impression.user_id] = min(known, found)
    return _FirstImpressions(
        min((time for time, _, _ in first.values()), default=0),
        {user_id: number for user_id, (_, number, _) in first.items()},
        len(of_several),
    )


class Impressions(NamedTuple):
    """A part of the log: lines of `behaviors.tsv`.

    Attributes:
      block: Lines of the part.
      first_lines: Numbers of those lines that have a user's first impression, whose history is
        used.
    """

    block: LineBlock
    first_lines: frozenset[int]


def _parts(path: str, block_bytes: int, first: _FirstImpressions) -> list[Impressions]:
    numbers = sorted(first.number.values())
    parts = []
    for block in find_blocks(path, block_bytes):
        begin = bisect.bisect_left(numbers, block.first)
        end = bisect.bisect_left(numbers, block.first + block.num_lines)
        parts.append(Impressions(block, frozenset(numbers[begin:end])))
    return parts


@dataclasses.dataclass(frozen=True)
class MindParts:
    """Writes all news shown in a part, and the histories that belong to it.

    Attributes:
      path: Path of `behaviors.tsv`.
      news_ids: Ids of the news with a row in `news.tsv`.
      start: Time of the log's first impression.
      writes_history: Whether histories are written, and not only counted.
    """

    path: str
    news_ids: frozenset[str]
    start: int
    writes_history: bool

    def write(self, part: Impressions, files: PartFiles) -> None:
        """Writes interactions and rejected lines, and counts both."""
        counts, news_ids = files.counts, self.news_ids
        rows = InteractionBuffer(files)
        rejected = RejectedLines()
        for impression in _read_impressions(self.path, rejected, part.block):
            user_id = impression.user_id
            if impression.number in part.first_lines:
                clicked = impression.history.split()
                counts["history"] += len(clicked)
                counts["unknown_history"] += sum(item not in news_ids for item in clicked)
                if self.writes_history:
                    for place, item in enumerate(clicked):
                        rows.add(user_id, item, self.start - len(clicked) + place, 1)
            shown = unknown_shown = 0
            for entry in impression.shown.split():
                item, _, label = entry.rpartition("-")
                if not item or label not in _CLICKS:
                    reason = schema.CLICKED_NOT_0_OR_1
                    rejected.add(self.path, impression.number, reason, entry)
                    continue
                shown += 1
                unknown_shown += item not in news_ids
                rows.add(user_id, item, impression.time, _CLICKS[label])
            counts["shown"] += shown
            counts["unknown_shown"] += unknown_shown
        rows.flush()
        counts["clicks"] += rows.num_clicks
        files.write_json_lines(REJECTED_FILE, rejected.rows)
        counts.update({_REJECTED + reason: n for reason, n in rejected.counts().items()})


def _notes(
    counts: Mapping[str, int],
    first: _FirstImpressions,
    rejected: Mapping[str, int],
    writes_history: bool,
) -> list[str]:
    num_rows, num_unknown = counts["shown"], counts["unknown_shown"]
    unknown = f"{num_unknown:,} of {num_rows:,} news shown"
    if writes_history:
        num_rows += counts["history"]
        num_unknown += counts["unknown_history"]
        unknown += f" and {counts['unknown_history']:,} of {counts['history']:,} clicks before"
        fate = f"stand a second apart before the log's first impression ({utc_text(first.start)})"
    else:
        fate = "were left out"
    notes = [f"{counts['history']:,} clicks of the history column have no time: they {fate}."]
    if first.num_users_of_several:
        notes.append(
            f"{first.num_users_of_several:,} users have different histories at different "
            "impressions: that of the first one is used."
        )
    if num_unknown:
        notes.append(
            f"{unknown} have no row in news.tsv. They are written; `tagtower run` sets them aside "
            f"as unknown_item, {num_unknown / num_rows:.1%} of all rows: see "
            "`data.max_rejected_fraction`."
        )
    if rejected.get(schema.CLICKED_NOT_0_OR_1):
        notes.append(_TEST_PART_ADVICE)
    return notes


def _read_catalogue(
    path: str, options: MindOptions, rejected: RejectedLines
) -> tuple[dict[str, _News], dict[str, list[str]]]:
    """The news that have tags, and the tags of each; the others are set aside."""
    news = _read_news(path, rejected)
    tags = _select_tags(news, options.min_tag_items)
    for news_id in [news_id for news_id, own in tags.items() if not own]:
        rejected.add(path, news.pop(news_id).row, schema.NO_TAGS, news_id)
        del tags[news_id]
    return news, tags


def _items_table(news: Mapping[str, _News], tags: Mapping[str, list[str]]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(list(news), pa.string()),
            "tags": pa.array([tags[news_id] for news_id in news], pa.list_(pa.string())),
            "category": pa.array([row.category for row in news.values()], pa.string()),
            "title": pa.array([row.title for row in news.values()], pa.string()),
        }
    )


def _all_reasons(rejected: RejectedLines, counts: Mapping[str, int]) -> collections.Counter[str]:
    """How many lines were set aside for each reason, here and in the parts."""
    reasons = collections.Counter(rejected.counts())
    reasons.update(
        {
            name.removeprefix(_REJECTED): number
            for name, number in counts.items()
            if name.startswith(_REJECTED)
        }
    )
    return reasons


def _require_impressions(counts: Mapping[str, int], reasons: Mapping[str, int], path: str) -> None:
    if not counts["shown"]:
        raise ValueError(f"{path} has no usable impression: {dict(reasons)}. {_TEST_PART_ADVICE}")


def prepare_mind(
    source: str,
    output: str,
    options: MindOptions | None = None,
    pipeline_args: Sequence[str] | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> PreparedSummary:
    """Writes the three tables of MIND.

    Args:
      source: Folder to which an archive of MIND unpacks: `behaviors.tsv` and `news.tsv`, each plain
        or with `.gz`. `behaviors.tsv` is read once here, and its parts are read again where they
        are written; it is never held in memory.
      output: Folder to write to; an earlier output of this command is replaced.
      options: Options of the conversion; None: the defaults.
      pipeline_args: Arguments of Beam's command line; None: this process writes, without Beam. The
        files are the same.
      block_bytes: Bytes of `behaviors.tsv` per file of interactions.

    Returns:
      Counts of the written tables. Unusable lines and shown news are counted in it, and written to
      `rejected.jsonl`.

    Raises:
      ValueError: A file is missing (the message names the download and its place), there is no
        usable impression, or the output folder holds something else.
    """
    options = options or MindOptions()
    writes_history = options.history == "before_log"
    # Workers may be in another folder than the caller.
    news_file = absolute(find_source_file(source, "news.tsv", _GET))
    behaviors_file = absolute(find_source_file(source, "behaviors.tsv", _GET))
    check_output(output, COMMAND)

    rejected = RejectedLines()
    news, tags = _read_catalogue(news_file, options, rejected)
    first = _first_impressions(behaviors_file)
    _logger.info("Read %s news, %s users.", f"{len(news):,}", f"{len(first.number):,}")
    with TableWriter(output, command=COMMAND) as writer:
        writer.write_users(pa.table({"user_id": pa.array(list(first.number), pa.string())}))
        writer.write_items(_items_table(news, tags))
        writer.write_json_lines(REJECTED_FILE, rejected.rows)
        parts = _parts(behaviors_file, block_bytes, first)
        made = MindParts(behaviors_file, frozenset(news), first.start, writes_history)
        write_parts(made, parts, writer.staging, pipeline_args)
        counts = writer.take_parts(len(parts))
        reasons = _all_reasons(rejected, counts)
        _require_impressions(counts, reasons, behaviors_file)
    return PreparedSummary.of_items(
        output,
        tags.values(),
        num_interactions=writer.num_rows["interactions"],
        num_clicks=counts["clicks"],
        num_users=len(first.number),
        rejected=reasons,
        notes=tuple(_notes(counts, first, reasons, writes_history)),
    )
