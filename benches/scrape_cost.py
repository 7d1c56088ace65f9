#!/usr/bin/env python3
"""What a scrape of processes costs any agent: CPU, system calls and memory, whole process, measured from outside.

    benches/scrape_cost.py --processes 1000 --interval 1 --seconds 20 NAME=COMMAND [NAME=COMMAND ...]

Keeps a farm of processes: idle ones, --busy ones that work a little all the time, and --short-lived ones that begin and
end every second. Then it starts each command in turn, --rounds times, lets it settle, and reads its CPU time and memory
from /proc. With --syscalls it counts system calls by strace in a run of its own, since that slows an agent down. The
command must scrape every --interval seconds. The farm and the agents are ended by their pids.
"""

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time

# A busy process: some CPU time in every interval, little enough that a thousand fit on a small machine.
BUSY = "import time\nwhile True:\n    sum(range(2000))\n    time.sleep(0.5)\n"


def cpu_seconds(pid):
    """Of all threads, in nanoseconds' resolution; the clock ticks of stat are too coarse for a cheap agent."""
    nanos = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as schedstat:
                nanos += int(schedstat.read().split()[0])
        except FileNotFoundError:
            pass
    return nanos / 1e9


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def kernel_mb():
    """Kernel memory that nobody can take away: what open files cost shows up here."""
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        fields = dict(line.split(":") for line in meminfo)
    return int(fields["SUnreclaim"].split()[0]) * 1024 / 1e6


def processes_on_host():
    return sum(name.isdigit() for name in os.listdir("/proc"))


class Farm:
    """Processes to be scraped."""

    def __init__(self, idle, busy, short_lived):
        self.children = [subprocess.Popen(["sleep", "3600"]) for _ in range(idle)]
        self.children += [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(busy)]
        self.stop = threading.Event()
        self.churn = threading.Thread(target=self.begin_and_end, args=(short_lived,))
        self.churn.start()

    def begin_and_end(self, rate):
        while rate and not self.stop.wait(1 / rate):
            subprocess.Popen(["sleep", "0.5"])
            subprocess._cleanup()  # waits for those that have ended

    def end(self):
        self.stop.set()
        self.churn.join()
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()


class Agent:
    """A running agent that has settled."""

    def __init__(self, command, interval):
        self.process = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(max(5.0, 2.5 * interval))  # the first scrapes read what later ones remember
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def measure(command, interval, seconds):
    """CPU seconds a scrape, and megabytes resident and in the kernel."""
    empty = kernel_mb()
    with Agent(command, interval) as agent:
        before, start = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(seconds)
        used, elapsed = cpu_seconds(agent.pid) - before, time.monotonic() - start
        return used / (elapsed / interval), resident_mb(agent.pid), kernel_mb() - empty


def system_calls(command, interval, seconds):
    """System calls a scrape, of all threads."""
    with Agent(command, interval) as agent:
        strace = subprocess.Popen(["strace", "-f", "-c", "-p", str(agent.pid)], stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        strace.send_signal(signal.SIGINT)
        _, table = strace.communicate(timeout=60)
    total = next(line.split() for line in table.splitlines() if line.rstrip().endswith("total"))
    return int(total[3]) / (seconds / interval)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1000, help="idle ones (1000)")
    parser.add_argument("--busy", type=int, default=0, help="busy ones (0)")
    parser.add_argument("--short-lived", type=float, default=0, help="so many begin and end a second (0)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two scrapes (1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each is measured (20)")
    parser.add_argument("--rounds", type=int, default=1, help="how often, in turns (1)")
    parser.add_argument("--syscalls", action="store_true", help="count system calls, too")
    parser.add_argument("agents", nargs="+", metavar="NAME=COMMAND")
    arguments = parser.parse_args()
    agents = dict(agent.split("=", 1) for agent in arguments.agents)
    farm = Farm(arguments.processes, arguments.busy, arguments.short_lived)
    try:
        count = processes_on_host()
        print(f"{count} processes, {arguments.busy} of them busy, {arguments.short_lived:g} a second begin and end; "
              f"a scrape every {arguments.interval:g} s, {arguments.rounds} x {arguments.seconds:g} s each\n")
        runs = {name: [] for name in agents}
        for _ in range(arguments.rounds):
            for name, command in agents.items():
                runs[name].append(measure(command, arguments.interval, arguments.seconds))
        print("| Agent | µs per process and scrape (all rounds) | ratio | MB resident | MB in the kernel | system calls per process |")
        print("|---|---|---|---|---|---|")
        first = None
        for name, command in agents.items():
            each = [used / count * 1e6 for used, _, _ in runs[name]]
            first = first or statistics.median(each)
            resident, kernel = (statistics.median(run[at] for run in runs[name]) for at in (1, 2))
            calls = "-"
            if arguments.syscalls:
                calls = f"{system_calls(command, arguments.interval, 10 * arguments.interval) / count:.1f}"
            print(f"| {name} | **{statistics.median(each):.1f}** ({', '.join(f'{one:.1f}' for one in each)}) "
                  f"| {statistics.median(each) / first:.1f} | {resident:.1f} | {kernel:.1f} | {calls} |")
    finally:
        farm.end()


if __name__ == "__main__":
    main()
