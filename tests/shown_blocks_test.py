"""Every block of commands of Start and How-to is run, here or elsewhere, or says why it is not."""

import re
from collections import Counter

from tests.shown_blocks import ROOT, blocks_of, shown_blocks

BLOCKS = shown_blocks()
# How a line begins that is typed into a shell; a message begins with `tagtower COMMAND: `.
_TYPED = re.compile(
    r"^ *(?:\$ |cd |make |curl |grpcurl |docker |gcloud |pip |python |\.venv/|tagtower (?!\S+: ))",
    re.MULTILINE,
)


def test_every_block_says_its_language():
    assert [str(block) for block in BLOCKS if not block.language] == []


def test_no_command_hides_in_a_block_that_is_not_run():
    others = [block for block in BLOCKS if block.language in ("text", "yaml", "json", "csv")]

    assert len(others) > 20
    assert [str(block) for block in others if _TYPED.search(block.text)] == []


def test_files_that_are_said_to_run_a_block_exist_and_name_its_commands():
    said = [(block, block.said) for block in BLOCKS if block.mark == "run by"]

    assert len(said) > 10
    for block, files in said:
        named = re.findall(r"[\w.]+(?:/[\w.]+)+", files)
        assert named, block
        for path in named:
            assert (ROOT / path).is_file(), f"{block}: {path}"
        texts = "".join((ROOT / path).read_text(encoding="utf-8") for path in named)
        for command in re.findall(r"\btagtower (\S+)", block.text):
            assert re.search(rf"\b{command}\b", texts), f"{block}: {command}"


def test_commands_that_are_said_to_be_run_on_another_page_are():
    run = {
        (block.page, command)
        for block in BLOCKS
        if block.is_command and not block.mark
        for command in block.commands
    }
    said = [
        (str(block), (block.said, command))
        for block in BLOCKS
        if block.mark == "run on"
        for command in block.commands
    ]

    assert len(said) >= 3
    assert [block for block, command in said if command not in run] == []


def test_blocks_that_are_not_run_have_a_reason_and_are_few(capsys):
    commands = [block for block in BLOCKS if block.is_command]
    not_run = [block for block in commands if block.mark == "not run:"]
    counts = Counter(block.mark.rstrip(":") or "run as shown" for block in commands)
    with capsys.disabled():
        print("\nblocks of commands: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
        for block in not_run:
            print(f"  not run: {block}: {block.said}")

    # A cluster, a cloud, a registry of images, a certificate.
    assert all(block.said.startswith("needs ") for block in not_run)
    assert len(not_run) <= 7
    assert {block.mark for block in commands} <= {"", "not run:", "run by", "run on"}


def test_marks_and_commands_are_read_from_a_page():
    page = (
        "1. a\n\n    <!-- not run: needs X -->\n    ```sh\n    a b \\\n      c   # d\n    ```\n\n"
        "```\ne\n```\n"
    )

    marked, bare = blocks_of("docs/p.md", page)

    assert (marked.line, marked.language, marked.mark) == (4, "sh", "not run:")
    assert marked.said == "needs X" and marked.text == "a b \\\n  c   # d\n"
    assert marked.commands == ["a b c"]
    assert (bare.line, bare.language, bare.mark, bare.text) == (9, "", "", "e\n")
    (server,) = blocks_of("p", "```sh\n.venv/bin/tagtower serve --x 1 &   # y\n# z\n\nb\n```\n")
    assert server.commands == ["tagtower serve --x 1", "b"]


def test_a_comment_that_is_no_mark_leaves_the_block_to_be_run():
    (block,) = blocks_of("p", "<!-- not-run: needs X -->\n```sh\na\n```\n")

    assert (block.mark, block.is_command) == ("", True)
