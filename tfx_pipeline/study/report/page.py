"""A generated part of a Markdown page, between two markers; the rest is written by a person."""

from pathlib import Path

from trainer.contract.file_system import open_file
from trainer.contract.whole_files import write_text

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"


def check_page(path: Path) -> None:
    """Checks a page before hours of work whose result goes into it.

    Raises:
      ValueError: The page's folder does not exist, or it has one marker without the other.
    """
    if not path.parent.is_dir():
        raise ValueError(
            f"`page` must be in a folder that exists (`--output DIR` writes no page). "
            f"Received: {path}."
        )
    if path.exists():
        text = _read(path)
        begins, ends = text.count(BEGIN), text.count(END)
        if (begins, ends) not in ((0, 0), (1, 1)) or text.find(BEGIN) > text.find(END):
            raise ValueError(
                f"`page` must have `{BEGIN}` and `{END}` once each, in this order, or neither. "
                f"Received: {path}."
            )


def write_page(path: Path, part: str) -> None:
    """Replaces the text between the markers, or adds it with markers at the end.

    Args:
      path: Path of the page, which is created if missing.
      part: Markdown to write.
    """
    text = _read(path) if path.exists() else ""
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
    else:
        before, after = (text.rstrip() + "\n\n").lstrip(), "\n"
    write_text(path, f"{before}{BEGIN}\n{part.strip()}\n{END}{after}")


def _read(path: Path) -> str:
    with open_file(str(path)) as file:
        text: str = file.read()
    return text
