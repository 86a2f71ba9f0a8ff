"""Containers on disk: names, locks, records."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pycontain.engine.engine import Engine
from pycontain.engine.record import Record
from pycontain.engine.store import Store, new_id
from pycontain.errors import ConflictError, InvalidError, NotFoundError, PycontainError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"), str(tmp_path / "state"))


def made(store: Store, name: str) -> Record:
    record = Record(new_id(), name)
    record.command = ["true"]
    store.claim_name(name, record.id)
    store.make_directory(record.id)
    store.save(record, sync=False)
    return record


def test_a_record_reads_back_as_written(store: Store) -> None:
    record = made(store, "web")
    record.labels = {"a": "\x1b[1m"}
    store.save(record, sync=False)
    assert store.load(record.id).document() == record.document()


def test_a_container_is_found_by_name_id_and_beginning(store: Store) -> None:
    record = made(store, "web")
    for word in ("web", record.id, record.id[:12]):
        assert store.find(word) == record.id


@pytest.mark.parametrize("word", ["", "..", ".", "../names", "a/b", "nosuch", "x\0y", "\x1b[1m"])
def test_what_names_no_container_is_not_found(store: Store, word: str) -> None:
    made(store, "web")
    with pytest.raises(NotFoundError):
        store.find(word)


def test_a_taken_name_is_refused_and_the_holder_named(store: Store) -> None:
    record = made(store, "web")
    with pytest.raises(ConflictError, match=record.id[:12]):
        store.claim_name("web", new_id())


def test_of_many_claims_at_once_one_wins(store: Store) -> None:
    ids = [new_id() for _ in range(8)]
    locks = [store.lock(identity) for identity in ids]
    won: list[str] = []

    def claim(identity: str) -> None:
        try:
            store.claim_name("web", identity)
            won.append(identity)
        except ConflictError:
            return

    threads = [threading.Thread(target=claim, args=(identity,)) for identity in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert all(locks)


def test_a_name_left_by_a_dead_maker_is_taken_over(store: Store) -> None:
    store.claim_name("web", new_id())
    fresh = new_id()
    store.claim_name("web", fresh)
    assert os.readlink(f"{store.root}/names/web") == fresh


def test_a_name_is_released_by_its_holder_only(store: Store) -> None:
    record = made(store, "web")
    store.release_name("web", new_id())
    assert store.find("web") == record.id
    store.release_name("web", record.id)
    with pytest.raises(NotFoundError):
        store.find("web")


def test_a_lock_is_held_once_and_named(store: Store) -> None:
    identity = new_id()
    lock = store.lock(identity, "web")
    assert lock is not None
    assert store.lock(identity) is None
    assert store.is_locked(identity)
    assert store.abandoned() == []
    lock.release()
    assert not store.is_locked(identity)


def test_an_abandoned_lock_tells_the_name(store: Store) -> None:
    identity = new_id()
    lock = store.lock(identity, "web")
    assert lock is not None
    lock.release(keep_file=True)
    found = store.abandoned()
    assert [(identity_, name) for _, identity_, name in found] == [(identity, "web")]
    found[0][0].release()
    assert store.abandoned() == []


def test_a_broken_record_is_invalid_and_named(store: Store) -> None:
    record = made(store, "web")
    Path(store.directory(record.id), "record.json").write_text("{}")
    with pytest.raises(InvalidError, match=record.id[:12]):
        store.load(record.id)


def test_a_name_that_could_not_be_noted_is_free_again(store: Store) -> None:
    record = made(store, "web")
    engine = Engine(store.root, store.state)
    path = Path(store.directory(record.id)) / "record.json"

    class Removed(Store):
        def claim_name(self, name: str, identity: str) -> None:
            super().claim_name(name, identity)
            # --rm removes the container at this moment.
            path.unlink()
            path.parent.rmdir()

    engine.store = Removed(store.root, store.state)
    with pytest.raises(PycontainError):
        engine.rename("web", "other")
    assert "other" not in os.listdir(f"{store.root}/names")
