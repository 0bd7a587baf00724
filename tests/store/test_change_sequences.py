"""Any sequence of changes, compared with a plain list of what was live after each."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.store_cases import CONFIG, MODEL, block, keys, record, same

from meloedit.store import Store


class Machine(RuleBasedStateMachine):
    """Changes of a store against a list of what was live after each."""

    folder = None

    @initialize()
    def start(self):
        self.path = Machine.folder / f"{len(list(Machine.folder.iterdir()))}.melo"
        self.store = Store.create(self.path, MODEL, CONFIG)
        self.store.calibrate({}, {}, {})
        self.snapshots = [({}, None), ({}, 1)]  # id -> (target, enabled, seed of block, seed of keys), calibration
        self.seed = 0
        self.calibrations = 1

    @property
    def now(self):
        return dict(self.snapshots[-1][0])

    def changed(self, live, calibration=None):
        self.snapshots.append((live, calibration or self.snapshots[-1][1]))

    @rule(names=st.sets(st.sampled_from("abcdef"), min_size=1), leave=st.sets(st.sampled_from("abcdef")))
    def put(self, names, leave):
        live, new = self.now, []
        for name in sorted(names):
            self.seed += 1
            new.append(record(name, f"target {self.seed}", self.seed))
            live[name] = (f"target {self.seed}", live.get(name, (0, True))[1], self.seed, self.seed)
        leave = sorted((leave & live.keys()) - names)
        for name in leave:
            del live[name]
        self.store.put(new, removed=leave)
        self.changed(live)

    @rule(data=st.data())
    def remove(self, data):
        live = self.now
        if live:
            names = data.draw(st.sets(st.sampled_from(sorted(live)), min_size=1))
            self.store.remove(sorted(names))
            self.changed({name: value for name, value in live.items() if name not in names})

    @rule(data=st.data(), enabled=st.booleans())
    def set_enabled(self, data, enabled):
        live = self.now
        if live:
            names = data.draw(st.sets(st.sampled_from(sorted(live)), min_size=1))
            self.store.set_enabled(sorted(names), enabled)
            new = {name: (v[0], enabled if name in names else v[1], *v[2:]) for name, v in live.items()}
            if new != live:
                self.changed(new)

    @rule()
    def calibrate(self):
        live = self.now
        self.seed += 1
        self.store.calibrate({}, {}, {name: keys(self.seed) for name in live})
        self.calibrations += 1
        self.changed({name: (*v[:3], self.seed) for name, v in live.items()}, self.calibrations)

    @rule(data=st.data())
    def rollback(self, data):
        to = data.draw(st.integers(1, len(self.snapshots)))
        self.store.rollback(to)
        live, calibration = self.snapshots[to - 1]
        self.changed(dict(live), calibration)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store.open(self.path)

    @rule(data=st.data())
    def read_the_past(self, data):
        at = data.draw(st.integers(1, len(self.snapshots)))
        past = self.snapshots[at - 1][0]
        assert {s.edit.id: (s.edit.target, s.enabled) for s in self.store.edits(at)} == {
            name: v[:2] for name, v in past.items()
        }
        leave, come = self.store.diff(at, self.store.revision)
        now = self.now
        assert set(leave) == {n for n in past if n not in now or past[n][:3] != now[n][:3]}
        assert set(come) == {n for n in now if n not in past or past[n][:3] != now[n][:3]}

    @invariant()
    def holds(self):
        if not hasattr(self, "store"):
            return
        live, calibration = self.snapshots[-1]
        assert self.store.revision == len(self.snapshots) and self.store.calibration_id == calibration
        edits = self.store.edits()
        assert {s.edit.id: (s.edit.target, s.enabled) for s in edits} == {name: v[:2] for name, v in live.items()}
        assert [s.record for s in edits] == sorted(s.record for s in edits)
        for name, (stored_block, stored_keys) in self.store.tensors().items():
            assert same(stored_block, block(live[name][2])) and same(stored_keys, keys(live[name][3]))

    def teardown(self):
        if hasattr(self, "store"):
            assert self.store.verify() == []
            assert Store.open(self.path).edits() == self.store.edits()


def test_any_sequence_of_changes(tmp_path):
    Machine.folder = tmp_path
    run = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Machine, settings=run)
