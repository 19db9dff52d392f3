"""A hand-written folder of MIND, with every kind of unusable line."""

import gzip
import json

from tfx_pipeline.datasets.mind_options import MindOptions


def entities(*labels):
    return json.dumps([{"Label": label, "Type": "P", "WikidataId": "Q1"} for label in labels])


NEWS = [
    ["N1", "news", "newsus", 'A "quoted" title', "…", "u", entities("Ann Lee"), entities("Ohio")],
    ["N2", "Sports", "football_nfl", "Touché", "", "u", entities("ann lee", "Ohio"), "[]"],
    ["N3", "news", "news", "No entity", "", "u", "", entities("Only Here")],
    ["N4", "", "", "Nothing known", "", "u", "[]", entities("Only There")],
    ["N1", "sports", "other", "Again", "", "u", "[]", "[]"],
    ["", "news", "newsus", "No id", "", "u", "[]", "[]"],
    ["N5", "news", "newsus", "Broken entities", "", "u", "[{", "[]"],
    ["N6", "news", "newsus", "Entities of another form", "", "u", '[{"Name": "x"}]', "[]"],
    ["N7", "news", "newsus", "A field too few", "", "u", "[]"],
]
# The log begins with line 2, 12:00:05 AM; U1's first impression is line 3.
BEHAVIORS = [
    ["1", "U1", "11/9/2019 1:00:00 PM", "N1 N9 N1", "N1-0 N2-1"],
    ["2", "U2", "11/9/2019 12:00:05 AM", "", "N3-1 N8-0"],
    ["3", "U1", "11/9/2019 12:00:00 PM", "N2 N3", "N1-1"],
    ["4", "U3", "11/10/2019 12:00:00 AM", "N2", "N2 N1-2 -1 N1-0"],
    ["5", "", "11/9/2019 1:00:00 PM", "", "N1-0"],
    ["6", "U3", "9.11.2019 13:00", "", "N1-0"],
    ["7", "U3", "11/9/2019 1:00:00 PM", "", ""],
    ["8", "U3", "11/9/2019 1:00:00 PM", "N1-0"],
]
OPTIONS = MindOptions(min_tag_items=2)


def write_source(folder, news, behaviors, is_compressed=False):
    folder.mkdir()
    for name, rows in (("news.tsv", news), ("behaviors.tsv", behaviors)):
        raw = "".join("\t".join(row) + "\n" for row in rows).encode()
        if is_compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return folder
