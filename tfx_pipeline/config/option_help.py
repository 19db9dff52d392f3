"""Help texts of options, read from the docstrings that document them: each is written once."""

import inspect
import re


def option_help(cls: type) -> dict[str, str]:
    """Returns the text of each attribute in the `Attributes:` section of a class.

    Args:
      cls: A class with a Google-style docstring.

    Returns:
      The text by attribute, each in one line; `argparse` needs every % doubled.
    """
    docstring = inspect.getdoc(cls) or ""
    _, _, section = docstring.partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"  (\w+): (.*)", line)
        if start:
            name = start[1]
            texts[name] = start[2]
        elif line.startswith("    ") and name:
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts
