#!/usr/bin/env python3
"""A budget held by a real agent over real processes, and a picture of what it did.

    benches/budget_run.py target/release/phoenix docs/budget-run        (as root, some ten minutes)

writes docs/budget-run.svg from the agent's own history and decisions, and docs/budget-run.txt, what `phoenix top` shows
under load, if tmux is there. The agent runs the config that is embedded in it, all times of it five times as fast (FASTER).
It and its load have a pid namespace of their own (`unshare`), so nothing else on the machine has a part in it: 100 processes
that idle and 10 that work a little; then for 80 s five more a second that sleep for 20 s; then quiet until the first profile
is back. Only what is started here is ended here.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from html import escape

ADMIN = "127.0.0.1:18479"
QUIET, LOAD, PATIENCE = 40, 80, 600
IDLE, WORKING = 100, 10
WORK = "import time\nwhile True: sum(range(20000)); time.sleep(0.1)"
# Every time of the embedded config that the loop goes by, a fifth of its default.
FASTER = {
    "receivers.hostmetrics.collection_interval": "2s",
    "processors.cardinality.window": "60s",
    "processors.topk.half_life": "60s",
    "processors.topk.min_stay": "12s",
    "processors.adaptive_filter.window": "60s",
    "processors.adaptive_filter.min_stay": "12s",
    "processors.adaptive_filter.unusual.hold": "60s",
    "processors.aggregate.member_expiry": "60s",
    "processors.aggregate.group_expiry": "60s",
    "processors.adaptive.budget.interval": "2s",
    "processors.adaptive.estimates.window": "60s",
    "processors.adaptive.control.gains.integral_time": "24s",
    "processors.adaptive.control.gains.derivative_time": "6s",
    "processors.adaptive.control.gains.derivative_filter": "12s",
    "processors.adaptive.control.gains.tracking_time": "6s",
    "processors.adaptive.control.tighten_dwell": "6s",
    "processors.adaptive.control.relax_dwell": "6m",
    "processors.adaptive.control.emergency_lockout": "2m",
    "processors.adaptive.control.stale_after": "12s",
}
# Doors of its own, so that it does not meet an agent that runs here already.
DOORS = {
    "extensions.health_check.endpoint": "127.0.0.1:18480",
    "exporters.prometheus.endpoint": "127.0.0.1:18481",
    "service.admin.endpoint": ADMIN,
}


def ask(target):
    with urllib.request.urlopen(f"http://{ADMIN}{target}", timeout=10) as answer:
        return json.load(answer)


def load(program, seconds):
    """Five processes a second, each of which sleeps for 20 s."""
    children, end = [], time.time() + seconds
    try:
        while time.time() < end:
            children.append(subprocess.Popen([program, "20"]))
            children = [child for child in children if child.poll() is None]
            time.sleep(0.2)
    finally:
        end_all(children)


def end_all(children):
    for child in children:
        child.kill()
        child.wait()


def screen(phoenix):
    """What `phoenix top` shows now."""
    tmux = ["tmux", "-L", "budget-run"]
    start = tmux + ["new-session", "-d", "-x", "150", "-y", "42", phoenix, "top", "--endpoint", ADMIN]
    subprocess.run(start, check=True)
    time.sleep(4)
    text = subprocess.run(tmux + ["capture-pane", "-p"], check=True, capture_output=True, text=True).stdout
    subprocess.run(tmux + ["send-keys", "q"], check=True)
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip() + "\n"


def picture(history, decisions, began, budget):
    """The history of one stage as SVG: series in and out, the budget, the profiles as ground, the changes as lines."""
    at = {name: i for i, name in enumerate(history["columns"])}
    rows = [row for row in history["rows"] if row[at["series_in"]] is not None]
    width, height, left, right, top, bottom = 860, 360, 60, 850, 40, 320
    first, last = rows[0][0], rows[-1][0]
    highest = max(max(row[at["series_in"]] for row in rows), budget) * 1.05
    x = lambda t: left + (t - first) / (last - first) * (right - left)
    y = lambda v: bottom - v / highest * (bottom - top)
    grounds = ["#e8f4ee", "#fbeeda", "#f9e0e0"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i][at["profile"]] != rows[start][at["profile"]]:
            profile, end = rows[start][at["profile"]], rows[min(i, len(rows) - 1)][0]
            if profile is not None:
                profile = int(profile)
                a, b = x(rows[start][0]), x(end)
                out.append(f'<rect x="{a:.1f}" y="{top}" width="{b - a:.1f}" height="{bottom - top}" fill="{grounds[min(profile, 2)]}"/>')
                if b - a > 60:
                    out.append(f'<text x="{(a + b) / 2:.1f}" y="{top + 14}" text-anchor="middle" fill="#555">{escape(history["profiles"][profile])}</text>')
            start = i
    for series in range(0, int(highest) + 1, 1000):
        out.append(f'<path d="M{left} {y(series):.1f}H{right}" stroke="#ddd"/><text x="{left - 6}" y="{y(series) + 4:.1f}" text-anchor="end" fill="#555">{series:,}</text>')
    for tick in range(0, int(last - first) + 1, 60):
        out.append(f'<text x="{x(first + tick):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{tick}</text>')
    out.append(f'<text x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle" fill="#555">seconds</text>')
    for moment, word in zip(began, ("load begins", "load ends")):
        out.append(f'<path d="M{x(moment):.1f} {top}V{bottom}" stroke="#888" stroke-dasharray="2 3"/><text x="{x(moment) + 4:.1f}" y="{bottom - 6}" fill="#555">{word}</text>')
    for name, color in (("series_in", "#2563c9"), ("steered", "#0f8a5f")):
        points = " ".join(f"{x(row[0]):.1f},{y(row[at[name]]):.1f}" for row in rows if row[at[name]] is not None)
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    out.append(f'<path d="M{left} {y(budget):.1f}H{right}" stroke="#b45309" stroke-width="1.5" stroke-dasharray="6 4"/>')
    for decision in decisions:
        moment = int(decision["time_unix_nano"]) / 1e9
        if decision["kind"] in ("tighten", "relax") and first <= moment <= last:
            color = "#c22f2f" if decision["kind"] == "tighten" else "#7a3fc7"
            out.append(f'<path d="M{x(moment):.1f} {top}V{bottom}" stroke="{color}"><title>{escape(decision["text"])}</title></path>')
    keys = (("series in", "#2563c9"), ("series out", "#0f8a5f"), ("budget", "#b45309"), ("tightened", "#c22f2f"), ("relaxed", "#7a3fc7"))
    for i, (word, color) in enumerate(keys):
        out.append(f'<path d="M{left + 120 * i} 20h18" stroke="{color}" stroke-width="2"/><text x="{left + 24 + 120 * i}" y="24">{word}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main(phoenix, target):
    with tempfile.TemporaryDirectory() as folder:
        room = pathlib.Path(folder)
        sets = [word for path, value in (FASTER | DOORS).items() for word in ("--set", f"{path}={value}")]
        named = lambda name: shutil.copy(shutil.which("sleep"), room / name)
        idle = [named(f"idle-{number}") for number in range(10)]
        leaky = named("leaky")
        others = [subprocess.Popen([idle[number % 10], "3600"]) for number in range(IDLE)]
        others += [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(WORKING)]
        with open(room / "log", "w") as log:
            agent = subprocess.Popen([phoenix, *sets, "--state-dir", room / "state"], stderr=log)
        try:
            time.sleep(QUIET)
            began = [time.time()]
            crowd = subprocess.Popen([sys.executable, __file__, "--load", leaky, str(LOAD)])
            time.sleep(LOAD - 20)
            if shutil.which("tmux"):
                pathlib.Path(target + ".txt").write_text(screen(phoenix))
            crowd.wait()
            began.append(time.time())
            end = time.time() + PATIENCE
            while time.time() < end:
                time.sleep(1)
                stage = ask("/control/state")["stages"][0]
                if stage["profile"] == stage["profiles"][0]["name"]:
                    break
            time.sleep(10)
            budget = stage["budget"]
            history = ask("/control/history")["stages"][0]
            decisions = ask("/control/decisions?limit=1000")["decisions"]
        finally:
            agent.terminate()
            agent.wait(30)
            end_all(others)
    pathlib.Path(target + ".svg").write_text(picture(history, decisions, began, budget))
    for decision in reversed(decisions):
        print(f'{int(decision["time_unix_nano"]) / 1e9 - began[0]:+7.1f} s {decision["kind"]:9} {decision["text"]}')
    at = history["columns"].index
    held = [row for row in history["rows"] if row[at("steered")] is not None and began[0] + 10 <= row[0] <= began[1]]
    print("under load, from its 10th second on:", f'series in {max(row[at("series_in")] for row in held):.0f} at most,',
          f'out {max(row[at("steered")] for row in held):.0f} at most,',
          f'{sum(row[at("steered")] > budget for row in held)} of {len(held)} steps above the budget')


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load(sys.argv[2], float(sys.argv[3]))
    elif len(sys.argv) == 3 and os.getpid() == 1:
        main(*sys.argv[1:])
    elif len(sys.argv) == 3:
        sys.exit(subprocess.call(["unshare", "--pid", "--fork", "--mount-proc", sys.executable, *sys.argv]))
    else:
        sys.exit(__doc__)
