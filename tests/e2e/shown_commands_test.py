"""A reader types what the pages of Start and How-to show, in their order; every command ends well.

The blocks come from the pages (`tests/shown_blocks.py`). The guide, docs/your-own-log.md, is read
first: what it leaves behind is what the other pages go on with.
"""

import sys
from pathlib import Path

import pytest

from tests.e2e.shown_log import make_shown_log
from tests.shown_blocks import Block, ReadersShell, shown_blocks
from tests.trainer.fitting.distribution_test import free_ports

pytestmark = pytest.mark.e2e

GUIDE = "docs/your-own-log.md"
BLOCKS = shown_blocks()
TO_RUN = [block for block in BLOCKS if block.is_command and not block.mark]
PAGES = list(dict.fromkeys(block.page for block in TO_RUN))
# What a test adds to a file of the pages: a log of 300 users and a training of seconds. The gate is
# asked, and how good so small a model is does not matter. The views are those of docs/refresh.md.
ADDED = {
    "my-log.yaml": """
examples: {snapshots_per_user: 2, num_shards: 1}
model: {interaction: bag, embedding_dim: 8, output_dim: 8, tag_views: [words, category]}
training: {max_epochs: 1, budget_steps: 0, min_steps: 0, batch_size: 64}
gate:
  too_few_users: warn
  min_relative_gain: -0.9
  min_relative_novel_gain: -0.9
  min_click_gauc: 0.0
  min_relative_distinct: 0.0
  min_relative_coverage: 0.0
index: {k: 20}
"""
}


class Reader:
    """A working directory with the log of the guide, in which pages are read.

    Args:
      folder: The directory, empty.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.port, self.rest_port = free_ports(2)
        self._written: dict[str, list[tuple[Block, str]]] = {}
        (folder / ".venv").symlink_to(sys.prefix)
        make_shown_log(folder)

    @property
    def versions(self) -> list[int]:
        """Numbers of the versions that a server would see, newest last."""
        folders = (self.folder / "build" / "runs" / "my-log" / "serving").glob("[0-9]*")
        return sorted(int(path.name) for path in folders)

    def read(self, page: str) -> list[tuple[Block, str]]:
        """Types the page's blocks in one shell, the guide's before those of any other.

        Args:
          page: Path of the page below the root.

        Returns:
          The blocks with what each wrote.
        """
        if page not in self._written:
            if page != GUIDE:
                self.read(GUIDE)
            self._written[page] = self._type(page)
        return self._written[page]

    def _type(self, page: str) -> list[tuple[Block, str]]:
        for block in BLOCKS:
            if block.page == page and block.mark == "file:":
                text = block.text + ADDED.get(block.said, "")
                (self.folder / block.said).write_text(text, encoding="utf-8")
        shell = ReadersShell(self.folder, self.folder / f"{Path(page).stem}.log")
        written = []
        try:
            for block in TO_RUN:
                if block.page == page:
                    versions = self.versions or [0]
                    values = {"port": self.port, "rest_port": self.rest_port}
                    written.append((block, shell.run(block, {**values, "version": versions[-1]})))
        finally:
            shell.close()
        return written


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("reader"))


def test_guide_ends_with_a_served_version_and_its_tags(reader):
    (commands, out), (_, asked), (_, recalled) = reader.read(GUIDE)

    (version,) = reader.versions
    assert f"pushed     version {version} in build/runs/my-log/serving" in out
    # Three questions, as many answers; the last one with items.
    assert sum(" query " in command for command in commands.commands) == 3
    assert out.count(f"model version {version}\n") == 3
    assert out.count("\nitems i") == 1
    assert "300 predicted, 0 errors, in predictions" in out
    assert (reader.folder / "predictions" / "_predictions.json").is_file()
    # Ten tags, scores and probabilities; items for two tags, and popular ones.
    assert asked.count(",") >= 27
    assert recalled.count("'i") == 40


@pytest.mark.parametrize("page", [page for page in PAGES if page != GUIDE])
def test_commands_of_the_page_end_well(reader, page):
    assert [block for block, _ in reader.read(page)] == [b for b in TO_RUN if b.page == page]


def test_roll_back_of_the_page_leaves_the_version_of_the_guide(reader):
    (_, out), *_ = reader.read("docs/refresh.md")

    (version,) = reader.versions
    (withdrawn,) = (reader.folder / "build/runs/my-log/serving/withdrawn").glob("[0-9]*")
    assert int(withdrawn.name) > version
    # The changes of the page: a new tag, a lighter one, a retired one.
    assert withdrawn.name in out and str(version) in out
