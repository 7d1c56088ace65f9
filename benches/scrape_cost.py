#!/usr/bin/env python3
"""CPU per process and scrape, and resident memory, of any agent: whole process, measured from outside.

    benches/scrape_cost.py --processes 1000 --interval 1 --seconds 20 NAME=COMMAND [NAME=COMMAND ...]

Starts so many idle children, then each command in turn, lets it settle, and reads its CPU time and memory from /proc.
The command must scrape every --interval seconds. The children and the agents are ended by their pids.
"""

import argparse
import os
import shlex
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def processes_on_host():
    return sum(name.isdigit() for name in os.listdir("/proc"))


def measure(command, interval, seconds):
    agent = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(max(5.0, 2.5 * interval))  # the first scrapes read what later ones remember
        before, start = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(seconds)
        used, elapsed = cpu_seconds(agent.pid) - before, time.monotonic() - start
        return used, elapsed / interval, resident_mb(agent.pid)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("agents", nargs="+", metavar="NAME=COMMAND")
    arguments = parser.parse_args()
    farm = [subprocess.Popen(["sleep", "3600"]) for _ in range(arguments.processes)]
    try:
        count = processes_on_host()
        print(f"{count} processes on this host, a scrape every {arguments.interval} s, {arguments.seconds} s each")
        for _ in range(arguments.rounds):
            for agent in arguments.agents:
                name, command = agent.split("=", 1)
                used, scrapes, resident = measure(command, arguments.interval, arguments.seconds)
                each = used / scrapes / count * 1e6
                print(f"{name:20} {each:8.1f} us per process and scrape   {used / scrapes * 1e3:8.2f} ms a scrape   {resident:6.1f} MB resident")
    finally:
        for child in farm:
            child.terminate()
        for child in farm:
            child.wait()


if __name__ == "__main__":
    main()
