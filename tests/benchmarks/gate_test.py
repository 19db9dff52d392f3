import pytest

from benchmarks import gate


def figures(noise, interests):
    """Figures of as many logs a kind as there are words: what failed, empty where all passed."""
    found = {"gate.num_logs": len(noise)}
    for kind, logs in ((gate.NOISE, noise), (gate.INTERESTS, interests)):
        found |= {f"gate.{kind}.seed_{seed}.failed": failed for seed, failed in enumerate(logs)}
        found[f"gate.{kind}.num_passed"] = sum(not failed for failed in logs)
    return found


def test_table_counts_what_failed():
    rows = gate.table(figures(["a; b", "a"], ["", ""])).splitlines()

    assert rows[2].split() == ["noise", "2", "0", "a", "(2),", "b", "(1)"]
    assert rows[3].split() == ["interests", "2", "2", "-"]


@pytest.mark.parametrize(
    ("noise", "interests", "expected"),
    [
        (["a"] * 20, [""] * 20, []),
        (["a"] * 19 + [""], [""] * 20, []),
        (["a"] * 18 + ["", ""], [""] * 20, ["more than 1 of 20 logs of noise passed the gate"]),
        (["a"] * 20, [""] * 19 + ["a"], ["a log with interests did not pass the gate"]),
        (["a"] * 2, ["", ""], []),
    ],
)
def test_faults_are_noise_that_passes_and_interests_that_do_not(noise, interests, expected):
    assert gate.faults(figures(noise, interests)) == expected
