"""A fake NVML with the names of nvidia-ml-py."""

from types import SimpleNamespace


class FakeNvml:
    """Two GPUs in an order of NVML's own; what is in `lacks` is not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    UUIDS = ("GPU-aaaa", "GPU-bbbb")
    BUSES = ("00000000:17:00.0", "00000000:ca:00.0")

    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 4, 13

    class NVMLError(Exception):
        def __init__(self, text, value=3):
            super().__init__(text)
            self.value = value

    def __init__(self, *lacks, bits=0, mig=0):
        self.lacks, self.bits, self.mig, self.calls = lacks, bits, mig, []
        self.clock, self.pids, self.used = 1980, [], []

    def _answer(self, name, value):
        self.calls.append(name)
        if name in self.lacks:
            raise self.NVMLError("Not Supported")
        return value

    def _find(self, among, name):
        if name not in among:
            raise self.NVMLError("Not Found")
        return among.index(name)

    def nvmlInit(self):
        self._answer("init", None)

    def nvmlSystemGetDriverVersion(self):
        return self._answer("driver", "580.95.05")

    def nvmlDeviceGetHandleByUUID(self, name):
        return self._find(self.UUIDS, name)

    def nvmlDeviceGetHandleByPciBusId(self, name):
        return self._find(self.BUSES, name)

    def nvmlDeviceGetMigMode(self, handle):
        if isinstance(self.mig, Exception):
            raise self.mig
        return [self._answer("mig", self.mig), 0]

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self._answer(("clock", kind), {1: self.clock, 2: 3201}[kind] + handle)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._answer("power", 700_000)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._answer("temperature", 66)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._answer("utilisation", SimpleNamespace(gpu=97, memory=40))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._answer("event reasons", self.bits)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._answer("throttle reasons", self.bits)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self._answer("limit", 500_000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return self._answer("default limit", 700_000)

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return self._answer("highest", {1: 1980, 2: 2619}[kind])

    def nvmlDeviceGetApplicationsClock(self, handle, kind):
        return self._answer("application", {1: 1755, 2: 2619}[kind])

    def nvmlDeviceGetPersistenceMode(self, handle):
        return self._answer("persistence", 1)

    def nvmlDeviceGetEccMode(self, handle):
        return self._answer("ecc", [1, 1])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._answer("processes", [SimpleNamespace(pid=pid) for pid in self.pids])

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        return self._answer("use of processes", self.used)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("energy", 5_000_250)


SLICE = "a MIG slice has no sensors"
