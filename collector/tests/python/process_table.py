"""What the process metrics are, by the published tables: shape, type of value, unit, attributes; and where /proc has each."""

COUNTER, LEVEL, GAUGE = "monotonic sum", "sum", "gauge"

# name: (shape, type of value, unit, {attribute: its values})
TABLE = {
    "process.cpu.time": (COUNTER, float, "s", {"state": ["system", "user", "wait"]}),
    "process.cpu.utilization": (GAUGE, float, "1", {"state": ["system", "user", "wait"]}),
    "process.memory.usage": (LEVEL, int, "By", {}),
    "process.memory.virtual": (LEVEL, int, "By", {}),
    "process.memory.utilization": (GAUGE, float, "1", {}),
    "process.disk.io": (COUNTER, int, "By", {"direction": ["read", "write"]}),
    "process.disk.operations": (COUNTER, int, "{operations}", {"direction": ["read", "write"]}),
    "process.paging.faults": (COUNTER, int, "{faults}", {"type": ["major", "minor"]}),
    "process.context_switches": (COUNTER, int, "{count}", {"type": ["involuntary", "voluntary"]}),
    "process.open_file_descriptors": (LEVEL, int, "{count}", {}),
    "process.threads": (LEVEL, int, "{threads}", {}),
    "process.signals_pending": (LEVEL, int, "{signals}", {}),
    "process.uptime": (GAUGE, float, "s", {}),
}

ON_BY_DEFAULT = {"process.cpu.time", "process.memory.usage", "process.memory.virtual", "process.disk.io"}

# (name, value of its one attribute): the key in a reading of proc_reader
SOURCE = {
    ("process.cpu.time", "user"): "user",
    ("process.cpu.time", "system"): "system",
    ("process.cpu.time", "wait"): "wait",
    ("process.memory.usage", None): "resident",
    ("process.memory.virtual", None): "virtual",
    ("process.disk.io", "read"): "read_bytes",
    ("process.disk.io", "write"): "write_bytes",
    ("process.disk.operations", "read"): "syscr",
    ("process.disk.operations", "write"): "syscw",
    ("process.paging.faults", "minor"): "minor",
    ("process.paging.faults", "major"): "major",
    ("process.context_switches", "voluntary"): "voluntary",
    ("process.context_switches", "involuntary"): "involuntary",
    ("process.open_file_descriptors", None): "files",
    ("process.threads", None): "threads",
}
