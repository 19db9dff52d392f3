"""docs/report.md is what the registry of report keys says."""

from pathlib import Path

from tests.report_keys import made_up_registry
from tfx_pipeline.reference.report import report_reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "report.md"


def test_page_equals_the_registry():
    assert PAGE.read_text(encoding="utf-8") == report_reference(), "run `make docs`"


def test_section_has_its_groups_with_writer_absence_and_rows():
    page = report_reference(made_up_registry())

    assert page[page.index("## A") :] == (
        "## A\n\n"
        "Written by `x.py`.\n\n"
        "| key | unit | meaning |\n| --- | --- | --- |\n"
        "| `a.size` | mm | The size. |\n"
        "| `a.<side>[.old]` | mm | The width. |\n"
        "| `a.note` | text | A note. The key is absent without remarks. |\n\n"
        "Written by `y.py`. These keys are absent on Sundays.\n\n"
        "| key | unit | meaning |\n| --- | --- | --- |\n"
        "| `a.size` | mm | The size. |\n\n"
        "## Names\n\n"
        "| name | meaning | values |\n| --- | --- | --- |\n"
        "| `<side>` |  | `left` `right` |\n"
    )


def test_metric_has_its_formula_direction_and_label():
    page = report_reference()

    assert (
        "| `eval[_validation].<who>.[<users>.]tag_ctr_at_<profile_k>` | share | The share of "
        "clicked impressions among those whose item carries one of the user's first k tags. It is "
        "taken over the impressions of the users, by their weights. More is better. Its label is "
        "`tag CTR@<profile_k>`. |\n"
    ) in page
    assert "| `<k>` | The number of tags at which a list is cut. | `1` `5` `10` `20` `50` |" in page
    assert "| `<seed>` | The seed of a log and of its run. | any |" in page
    assert "`novel_`: tags that the user had not clicked before" in page
