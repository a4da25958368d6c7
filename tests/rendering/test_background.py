"""The background thread of templates."""

import sys
from threading import current_thread, main_thread

import pytest

from mailroom.rendering.background import submit


def test_the_switch_interval_is_short_only_while_work_is_running() -> None:
    usual = sys.getswitchinterval()
    assert submit(sys.getswitchinterval).result() == pytest.approx(0.0001)
    assert sys.getswitchinterval() == usual


def test_the_interval_is_restored_after_a_failure() -> None:
    usual = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError):
        submit(lambda: 1 // 0).result()
    assert sys.getswitchinterval() == usual


def test_it_works_in_one_thread_in_the_order_of_submission() -> None:
    done: list[tuple[int, str]] = []
    works = [submit(lambda number=number: done.append((number, current_thread().name))) for number in range(20)]  # type: ignore[misc]  # mypy cannot tell a lambda's default
    for work in works:
        work.result()
    assert [number for number, _ in done] == list(range(20))
    assert len({name for _, name in done}) == 1
    assert done[0][1] != main_thread().name
