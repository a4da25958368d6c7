"""`python -m bench --against`: the arithmetic, that each revision runs its own modules, and the clean-up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.against import assert_own_modules, checked_out, compare, read_figures

ROOT = Path(__file__).parents[2]
needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")


def test_the_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() -> None:
    """The second round was slow for both, as on a busy machine."""
    before = [{"CPU, µs": 100.0}, {"CPU, µs": 200.0}, {"CPU, µs": 100.0}]
    now = [{"CPU, µs": 104.0}, {"CPU, µs": 204.0}, {"CPU, µs": 110.0}]
    (one,) = compare("a", before, now)
    assert (one.row, one.what, one.before, one.now) == ("a", "CPU, µs", 100.0, 110.0)
    assert (one.ratio, one.least, one.most) == (1.04, 1.02, 1.1)


@pytest.mark.parametrize(
    ("what", "now", "within"),
    [
        ("CPU, µs", 105, True),
        ("CPU, µs", 106, False),
        ("CPU, µs", 50, True),
        ("start, s", 106, False),
        ("memory, MiB", 106, False),
        ("mails, /s", 95, True),
        ("mails, /s", 94, False),
        ("mails, /s", 200, True),
        ("p99, ms", 300, None),
    ],
)
def test_more_than_5_percent_worse_is_not_within(what: str, now: float, within: bool | None) -> None:  # noqa: FBT001 - a parameter of the test
    (one,) = compare("a", [{what: 100.0}], [{what: float(now)}])
    assert one.within is within


def test_what_only_one_side_measures_is_left_out() -> None:
    before, now = {"old, µs": 1.0, "both, µs": 1.0}, {"both, µs": 1.0, "new, µs": 1.0}
    assert [one.what for one in compare("a", [before], [now])] == ["both, µs"]


def test_the_numbers_of_another_revisions_table_are_read() -> None:
    printed = [
        {"what": "mails/s against a loop (CPU: 3.1 times less)", "ours": "18,200/s", "theirs": "6,500/s"},
        {"what": "MIME", "ours": "21.5 µs", "theirs": ""},
        {"what": "no number", "ours": "", "theirs": ""},
        {"what": "the loop itself", "ours": "6,500/s", "theirs": "6,500/s"},
    ]
    assert read_figures(json.dumps(printed)) == {"mails/s against a loop, /s": 18200.0, "MIME, µs": 21.5}


def test_a_tree_must_run_its_own_modules(tmp_path: Path) -> None:
    """A module that a tree lacks would be imported from this one, which is installed."""
    for name in ("handlers.py", "server.py"):
        (tmp_path / name).touch()
    with pytest.raises(RuntimeError, match=r"would run .*mailroom/__init__\.py"):
        assert_own_modules(tmp_path)
    (tmp_path / "mailroom.py").touch()
    assert_own_modules(tmp_path)


@needs_git
def test_a_revision_is_checked_out_and_removed() -> None:
    with checked_out("HEAD") as tree:
        assert (tree / "server.py").exists()
        assert_own_modules(tree)
    assert not tree.parent.exists()
    assert str(tree) not in subprocess.check_output(["git", "worktree", "list"], cwd=ROOT, text=True)
    with pytest.raises(RuntimeError, match="no-such-revision"), checked_out("no-such-revision"):
        pass


@needs_git
def test_this_tree_is_measured_against_head() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--against", "HEAD", "--rows", "i", "--rounds", "1", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    (start,) = json.loads(done.stdout)
    assert 0.2 < start["before"] < 20
    assert 0.2 < start["now"] < 20
    assert start["ratio"] == start["now"] / start["before"]
    assert done.returncode == (0 if start["within"] else 1)
