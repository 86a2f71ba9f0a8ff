"""The delay before a restart: how long, and ended by a wish for the end."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from pycontain.engine import restart


def delays(lives: list[float]) -> list[float]:
    found, quick = [], 0
    for lived in lives:
        delay, quick = restart.delay_after(quick, lived)
        found.append(round(delay, 1))
    return found


def test_the_delay_doubles_up_to_a_minute() -> None:
    assert delays([0.0] * 6) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert delays([0.0] * 2000)[-1] == 60.0


def test_a_long_life_lets_the_delay_begin_anew() -> None:
    assert delays([0, 0, 0, 11, 0, 0]) == [0.1, 0.2, 0.4, 0.1, 0.1, 0.2]


def test_a_wish_for_the_end_wakes_who_waits_to_start_again(tmp_path: Path) -> None:
    restart.announce(str(tmp_path))
    answers: list[bool] = []
    waiter = threading.Thread(
        target=lambda: answers.append(restart.rest(str(tmp_path), 3600)), daemon=True
    )
    waiter.start()
    while not restart.want_end(str(tmp_path)):
        time.sleep(0.001)
    waiter.join(30)
    assert answers == [False]
    restart.forget(str(tmp_path))
    assert os.listdir(tmp_path) == [restart.STOPPED]


def test_a_wish_from_before_is_not_slept_over(tmp_path: Path) -> None:
    restart.announce(str(tmp_path))
    restart.want_end(str(tmp_path))
    assert restart.rest(str(tmp_path), 3600) is False


def test_without_a_wish_it_starts_again(tmp_path: Path) -> None:
    restart.announce(str(tmp_path))
    assert restart.rest(str(tmp_path), 0.001) is True
    restart.forget(str(tmp_path))
    assert os.listdir(tmp_path) == []
