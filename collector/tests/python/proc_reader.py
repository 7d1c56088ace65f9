"""Reads /proc the long way: one process after the other, every file anew, by the field numbers of proc(5).

Nothing here knows the agent; what both say must agree because both read the same kernel.
"""

import os
import pwd
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def text(path):
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def boot_time():
    """Boot time in whole seconds since 1970, as the kernel states it."""
    return next(int(line.split()[1]) for line in text("/proc/stat").splitlines() if line.startswith("btime"))


def executable_name(comm, arguments):
    """comm holds 15 bytes at most; a longer name is looked for in argv[0]."""
    base = os.path.basename(arguments[0]) if arguments else ""
    return base if len(comm.encode()) >= 15 and base.startswith(comm) else comm


def process(pid):
    folder = f"/proc/{pid}/"
    stat = text(folder + "stat")
    name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    field = lambda number: int(rest[number - 3])  # proc(5) counts from 1; what follows the name begins with field 3
    status = dict(line.split(":\t", 1) for line in text(folder + "status").splitlines() if ":\t" in line)
    size, resident = (int(pages) * PAGE for pages in text(folder + "statm").split()[:2])
    raw = text(folder + "cmdline")
    arguments = raw[:-1].split("\0") if raw else []
    uid = int(status["Uid"].split()[0])
    found = {
        "pid": pid,
        "ticks": field(22),
        "parent": field(4),
        "state": rest[0],
        "name": executable_name(name, arguments),
        "arguments": arguments,
        "owner": owner(uid),
        "user": field(14) / TICKS,
        "system": field(15) / TICKS,
        "wait": field(42) / TICKS,
        "minor": field(10),
        "major": field(12),
        "resident": resident,
        "virtual": size,
        "threads": int(status["Threads"]),
        "voluntary": int(status["voluntary_ctxt_switches"]),
        "involuntary": int(status["nonvoluntary_ctxt_switches"]),
    }
    for key, read in (("path", lambda: executable(folder)), ("files", lambda: len(os.listdir(folder + "fd")))):
        try:
            found[key] = read()
        except OSError:
            found[key] = None  # a kernel thread, or another user's process
    try:
        io = dict(line.split(": ") for line in text(folder + "io").splitlines())
        found.update({key: int(io[key]) for key in ("read_bytes", "write_bytes", "cancelled_write_bytes", "syscr", "syscw")})
    except OSError:
        pass
    return found


def executable(folder):
    """The kernel's remark that the file has been replaced since is no part of its path."""
    return os.readlink(folder + "exe").removesuffix(" (deleted)")


def owner(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def reading():
    """Every process now: {"begin", "end" in unix nanoseconds, "processes": [...]}. One that vanishes meanwhile is left out."""
    begin, found = time.time_ns(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found.append(process(int(entry)))
            except (OSError, KeyError, ValueError):
                continue
    return {"begin": begin, "end": time.time_ns(), "boot": boot_time(), "processes": found}
