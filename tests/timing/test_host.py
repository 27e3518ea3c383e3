"""What a host reports of its CPUs, from a fake /proc and /sys."""

import pytest

from dlm_bench.timing.host import HostSource
from dlm_bench.timing.telemetry import Telemetry, Watch


class Host:
    """A /proc and /sys of 4 CPUs in one package; `source` may use CPUs 0 and 1."""

    def __init__(self, root):
        self.root = root
        self.zone = "sys/class/powercap/intel-rapl:0"
        self.write(f"{self.zone}/name", "package-0\n")
        self.write(f"{self.zone}/max_energy_range_uj", "1000000000\n")
        for zone, name in (("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys")):
            self.write(f"sys/class/powercap/{zone}/name", f"{name}\n")
        self.energy(0)
        self.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2600000\n")
        self.write("proc/loadavg", "1.75 1.31 1.66 3/104 19864\n")
        self.cpu_times(busy=[0, 0, 0, 0])
        self.threads(main=0)
        self.own(0)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def energy(self, joules):
        self.write(f"{self.zone}/energy_uj", f"{round(joules * 1e6)}\n")
        for part in ("intel-rapl:0:0", "intel-rapl:1"):  # the cores, and the whole board
            self.write(f"sys/class/powercap/{part}/energy_uj", f"{round(joules * 7e5)}\n")

    def cpu_times(self, busy, stolen=(0, 0, 0, 0)):
        """Jiffies of each CPU: busy for a user, taken by a hypervisor; idle ones go on too."""
        rest = f"{900 + 2 * sum(busy)} {90 + sum(busy)}"
        rows = [
            f"cpu{i} {b} 0 0 {rest} 0 0 {s} 0 0"
            for i, (b, s) in enumerate(zip(busy, stolen, strict=True))
        ]
        self.write("proc/stat", "\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *rows, "ctxt 1"]))

    def own(self, jiffies):
        fields = " ".join(["0"] * 11)
        self.write("proc/self/stat", f"77 (a (name) S) R {fields[2:]} {jiffies} 0 0 0")

    def threads(self, **waits):
        """Nanoseconds that each thread waited for a CPU."""
        for name, waited in waits.items():
            self.write(f"proc/self/task/{name}/schedstat", f"123456 {waited} 99\n")

    def throttled(self, cpu, kind, count):
        path = f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{kind}_throttle_count"
        self.write(path, f"{count}\n")

    def source(self):
        return HostSource(self.root, [0, 1])


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def hertz(monkeypatch):
    monkeypatch.setattr("os.sysconf", {"SC_CLK_TCK": 100}.__getitem__)


def test_a_host_tells_its_packages_energy_and_no_part_twice(host):
    source = host.source()
    assert source.joules() == 0
    host.energy(12.5)
    assert source.joules() == 12.5


def test_the_energy_of_a_second_package_counts_and_without_it_nothing_is_known(host):
    second = "sys/class/powercap/intel-rapl:2"
    host.write(f"{second}/name", "package-1")
    host.write(f"{second}/energy_uj", "1000000")
    source = host.source()
    host.energy(2)
    host.write(f"{second}/energy_uj", "4000000")
    assert source.joules() == 5
    (host.root / second / "energy_uj").unlink()
    assert source.joules() is None


def test_an_energy_counter_may_go_round_any_number_of_times(host):
    source = host.source()
    host.energy(900)
    source.sample()
    host.energy(100)  # of a range of 1000 J
    source.sample()
    host.energy(50)
    assert source.joules() == 2050


def test_power_is_what_the_energy_counter_moved_on(host, monkeypatch):
    source = host.source()
    moments = iter([10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    assert source.sample().values == {"cpu_clock_mhz": 2600}
    host.energy(40)
    assert source.sample().values == {"cpu_clock_mhz": 2600, "power_watts": 80}


def test_energy_that_only_root_may_read_is_null(host):
    (host.root / host.zone / "energy_uj").unlink()
    (host.root / host.zone / "energy_uj").mkdir()  # reading it fails, for root too
    source = host.source()
    assert source.joules() is None
    assert source.sample().values == {"cpu_clock_mhz": 2600}


def test_waiting_and_others_are_counted_on_the_cpus_this_process_may_use(host, hertz):
    source = host.source()
    source.begin()
    # In 2 s: CPUs 0 and 1 were busy 3.2 s with all, of which 2 s with this process.
    host.cpu_times(busy=[200, 120, 200, 200])
    host.own(200)
    host.threads(main=300_000_000, worker=100_000_000)
    told = source.end(2.0)
    assert told.values["other_busy_cpus"] == pytest.approx(0.6)
    assert told.values["waiting_threads"] == pytest.approx(0.2)
    assert told.values["load_1min"] == 1.75


def test_what_a_hypervisor_took_is_waiting_too(host, hertz):
    source = host.source()
    source.begin()
    host.cpu_times(busy=[0, 0, 0, 0], stolen=[40, 0, 70, 0])
    told = source.end(2.0)
    assert told.values["waiting_threads"] == pytest.approx(0.2)
    assert told.values["other_busy_cpus"] == pytest.approx(0.2)


def test_a_thread_that_ended_takes_nothing_off(host):
    host.threads(main=0, gone=5_000_000_000)
    source = host.source()
    source.begin()
    (host.root / "proc/self/task/gone/schedstat").unlink()
    host.threads(main=10_000_000)
    assert source.end(1.0).values["waiting_threads"] == pytest.approx(0.01)


def test_a_new_thread_with_the_number_of_one_that_ended_takes_nothing_off(host):
    host.threads(main=0, again=5_000_000_000)
    source = host.source()
    source.begin()
    host.threads(main=10_000_000, again=20_000_000)
    assert source.end(1.0).values["waiting_threads"] == pytest.approx(0.03)


def test_time_that_a_hypervisor_takes_back_is_no_negative_waiting(host, hertz):
    host.cpu_times(busy=[0, 0, 0, 0], stolen=[40, 0, 0, 0])
    source = host.source()
    source.begin()
    host.cpu_times(busy=[0, 0, 0, 0], stolen=[0, 0, 0, 0])
    host.threads(main=10_000_000)
    assert source.end(1.0).values["waiting_threads"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("kind", "reason"), [("core", "core_thermal"), ("package", "package_thermal")]
)
def test_thermal_throttling_is_a_counter_that_moved(host, kind, reason):
    host.throttled(0, kind, 7)
    host.throttled(3, kind, 1)
    source = host.source()
    source.begin()
    host.throttled(3, kind, 2)  # not one of this process's
    assert source.end(1.0).reasons == frozenset()
    host.throttled(0, kind, 8)
    assert source.end(1.0).reasons == {reason}


@pytest.mark.parametrize("content", [None, "", "nonsense (", "cpu0 1 2\ncpu1 1 2"])
def test_a_host_that_tells_nothing_is_all_null(tmp_path, content):
    if content is not None:
        for name in ("stat", "self/stat", "self/task/1/schedstat"):
            (tmp_path / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "proc" / name).write_text(content)
    source = HostSource(tmp_path, [0])
    assert not source.has_sensors()
    watch = Watch(source)
    with watch:
        pass
    told = watch.telemetry([1.0], 1)
    assert told.model_dump(exclude={"region_seconds"}) == Telemetry(source="host").model_dump(
        exclude={"region_seconds"}
    )
