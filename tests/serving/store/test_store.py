"""The store of support sets: bounds, idle expiry, and never a set in another's place."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hsnet_trt.errors import InputError
from hsnet_trt.serving.store.store import StoreFullError, SupportStore, UnknownSetError

MOST, IDLE = 10, 5.0


class Store(RuleBasedStateMachine):
    """Against a plain dictionary of what was put in, its size, and when it was last used."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store: SupportStore[str] = SupportStore(MOST, IDLE, lambda: self.now)
        self.model: dict[str, tuple[str, int, float]] = {}

    def drop_idle(self) -> None:
        self.model = {k: v for k, v in self.model.items() if self.now - v[2] <= IDLE}

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.drop_idle()

    @rule(key=st.sampled_from("abc"), size=st.integers(0, 12), taken=st.none() | st.integers(0, 20))
    def put(self, key: str, size: int, taken: int | None) -> None:
        used = sum(entry[1] for entry in self.model.values())
        value = f"{key} at {self.now}"
        if used + size > MOST:
            with pytest.raises(StoreFullError, match="full"), self.store.room(size):
                pass
        else:
            with self.store.room(size) as put:
                put(key, value, taken)
            self.model[key] = (value, size if taken is None else min(size, taken), self.now)

    @rule(size=st.integers(0, MOST))
    def fail(self, size: int) -> None:
        """Encoding fails: the room that was held is given back."""
        used = sum(entry[1] for entry in self.model.values())
        if used + size <= MOST:
            with pytest.raises(InputError), self.store.room(size):
                assert self.store.used_bytes == used + size
                raise InputError("no mask")

    @rule(key=st.sampled_from("abcd"))
    def get(self, key: str) -> None:
        if key in self.model:
            assert self.store.get(key) == self.model[key][0]
            self.model[key] = (*self.model[key][:2], self.now)
        else:
            with pytest.raises(UnknownSetError, match=f"no support set '{key}'"):
                self.store.get(key)

    @rule(key=st.sampled_from("abcd"))
    def forget(self, key: str) -> None:
        assert self.store.forget(key) == (self.model.pop(key, None) is not None)

    @invariant()
    def agrees(self) -> None:
        assert len(self.store) == len(self.model)
        assert self.store.used_bytes == sum(entry[1] for entry in self.model.values()) <= MOST
        assert {key for key in "abcd" if key in self.store} == set(self.model)


TestStore = Store.TestCase


@given(st.integers(1, 100))
def test_rooms_at_once_never_exceed_the_bound(each: int) -> None:
    store: SupportStore[int] = SupportStore(100, IDLE)
    barrier, held, lock = threading.Barrier(8), [0], threading.Lock()
    most = [0]

    def work(index: int) -> None:
        barrier.wait()
        try:
            with store.room(each) as put:
                with lock:
                    held[0] += each
                    most[0] = max(most[0], held[0])
                put(str(index), index)
        except StoreFullError:
            pass

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == held[0] == store.used_bytes == min(8, 100 // each) * each
    assert all(store.get(str(i)) == i for i in range(8) if str(i) in store)
