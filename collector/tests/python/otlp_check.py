"""Holds what otlp_sink.py received against what proc_reader.py read at about the same time.

    otlp_check.py FOLDER [--ended PID]... [--whole-line PID]... [--metrics all|default] [--only NAME]...

Prints what does not agree, one line each, and ends with status 1; or how much was compared, as one line of JSON.
--ended: this process ended while the sink listened, so each of its series must be closed, once.
--only: processes with other names are not asked for.
--whole-line: the command line of this process holds nothing to hide and must be shown as it is.
"""

import argparse
import bisect
import collections
import glob
import json
import os
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics

import proc_reader
from process_table import COUNTER, GAUGE, LEVEL, ON_BY_DEFAULT, SOURCE, TABLE

CLOSED = metrics.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
Series = collections.namedtuple("Series", "road pid start name label texts")  # road: the exporter; texts: the resource
Sample = collections.namedtuple("Sample", "series time received value closed attributes")

mistakes = collections.Counter()
compared = collections.Counter()
levels = collections.defaultdict(list)


def wrong(text):
    mistakes[text] += 1


def plain(value):
    return getattr(value, value.WhichOneof("value"), None) if value.WhichOneof("value") else None


def pairs(attributes):
    keys = [attribute.key for attribute in attributes]
    if len(keys) != len(set(keys)):
        wrong(f"a key stands twice in {sorted(keys)}")
    return {attribute.key: plain(attribute.value) for attribute in attributes}


def requests(folder):
    for path in sorted(glob.glob(os.path.join(folder, "[0-9]*.pb")) + glob.glob(os.path.join(folder, "[0-9]*.json"))):
        base, suffix = os.path.splitext(path)
        request = service.ExportMetricsServiceRequest()
        with open(path, "rb") as file:
            body = file.read()
        json_format.Parse(body, request) if suffix == ".json" else request.MergeFromString(body)
        with open(base + ".meta") as file:
            yield json.load(file), request


def samples(folder):
    """Every data point of a process, in the order of arrival."""
    for meta, request in requests(folder):
        for resource in request.resource_metrics:
            attributes = pairs(resource.resource.attributes)
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if not metric.name.startswith("process."):
                    continue
                if type(attributes.get("process.pid")) is not int:
                    wrong(f"{metric.name} has no process.pid but {attributes}")
                    continue
                yield from points(metric, attributes, meta)


def points(metric, attributes, meta):
    if metric.name not in TABLE:
        return wrong(f"{metric.name} is not in the table")
    shape, kind, unit, labels = TABLE[metric.name]
    data = metric.WhichOneof("data")
    found = (GAUGE if data == "gauge" else COUNTER if metric.sum.is_monotonic else LEVEL) if data in ("gauge", "sum") else data
    if (found, metric.unit) != (shape, unit):
        wrong(f"{metric.name} is a {found} in {metric.unit!r}, the table has {shape} in {unit!r}")
    if data == "sum" and metric.sum.aggregation_temporality != metrics.AGGREGATION_TEMPORALITY_CUMULATIVE:
        wrong(f"{metric.name} is not cumulative")
    if not metric.description:
        wrong(f"{metric.name} has no description")
    for point in getattr(metric, data).data_points:
        own = pairs(point.attributes)
        if set(own) != set(labels) or any(value not in labels[key] for key, value in own.items()):
            wrong(f"{metric.name} has the attributes {own}, the table has {labels}")
        closed, value = bool(point.flags & CLOSED), point.WhichOneof("value")
        if closed == (value is not None):
            wrong(f"{metric.name}: flags {point.flags} and value {value}")
        if not closed and value != {int: "as_int", float: "as_double"}[kind]:
            wrong(f"{metric.name}: {value}, the table has {kind.__name__}")
        label = next(iter(own.values()), None)
        road, texts = meta["headers"].get("x-road", ""), tuple(sorted(attributes.items()))
        series = Series(road, attributes["process.pid"], point.start_time_unix_nano, metric.name, label, texts)
        yield Sample(series, point.time_unix_nano, meta["received"], getattr(point, value or "", None), closed, attributes)


class Readings:
    """What /proc said, by time and by identity (pid and start)."""

    def __init__(self, folder):
        with open(os.path.join(folder, "proc.jsonl")) as file:
            self.all = [json.loads(line) for line in file]
        for reading in self.all:
            reading["by_start"] = {(p["pid"], self.start(p)): p for p in reading["processes"]}
        self.begins = [reading["begin"] for reading in self.all]
        self.ends = [reading["end"] for reading in self.all]
        self.starts = collections.defaultdict(set)
        for reading in self.all:
            for pid, start in reading["by_start"]:
                self.starts[pid].add(start)

    def start(self, process):
        """Exactly boot time + ticks. The boot time may be restated by a second when the clock is set: the first counts."""
        return self.all[0]["boot"] * 10**9 + process["ticks"] * (10**9 // proc_reader.TICKS)

    def around(self, sample):
        """The last reading that ended before the point's time, and the first that began after it had arrived."""
        before = bisect.bisect_right(self.ends, sample.time)
        after = bisect.bisect_left(self.begins, sample.received)
        if before == 0 or after == len(self.all):
            return None
        return self.all[before - 1], self.all[after], self.all[max(before - 3, 0) : before] + self.all[after : after + 3]


def brief(series):
    return " ".join(str(part) for part in series[:-1])


def check_value(sample, before, after, near):
    name, label = sample.series.name, sample.series.label
    key = SOURCE.get((name, label))
    low, high = before.get(key), after.get(key)
    if low is None or high is None:
        return
    if name == "process.context_switches" and max(process["threads"] for process in near) > 1:
        return  # the table's source is the main thread's; a total of all threads is as right
    who = f"{name} {label or ''} of {before['name']} (pid {before['pid']})"
    if TABLE[name][0] == COUNTER:
        compared[name] += 1
        if not low - 1e-9 <= sample.value <= high + 1e-9:
            wrong(f"{who} is {sample.value}; /proc said {low} before and {high} after")
        return
    values = [process[key] for process in near]
    compared[name] += 1
    # A process that sleeps stays as it is, to the byte.
    slack = 0 if before["name"] == "sleep" else 0.05 * max(values) + (512 << 10 if TABLE[name][2] == "By" else 3)
    agrees = min(values) - slack <= sample.value <= max(values) + slack
    levels[sample.series].append(None if agrees else f"{who} is {sample.value}; /proc said {values}")


def check_levels():
    """A level may jump and be back before the next reading, once; a wrong one is wrong most of the time."""
    for judged in levels.values():
        bad = [text for text in judged if text]
        if len(bad) > max(1, len(judged) // 3):
            wrong(f"{len(bad)} times of {len(judged)}: {bad[0]}")


def check_attributes(sample, before, after, whole_lines):
    if not before["arguments"]:
        return  # a kernel thread renames itself with its work
    expected = {
        "process.parent_pid": [process["parent"] for process in (before, after)],
        "process.executable.name": [process["name"] for process in (before, after)],
        "process.owner": [process["owner"] for process in (before, after)],
        "process.executable.path": [process["path"] for process in (before, after)],
        "process.command": [next(iter(process["arguments"]), None) for process in (before, after)],
    }
    if before["pid"] in whole_lines:
        expected["process.command_line"] = [" ".join(process["arguments"]) for process in (before, after)]
    compared["long name"] += len(before["name"]) > 15
    for key, (early, late) in expected.items():
        if early == late and early is not None:
            compared[key] += 1
            if sample.attributes.get(key) != early:
                wrong(f"{key} of pid {before['pid']} is {sample.attributes.get(key)!r}; /proc says {early!r}")


def check_life(histories, readings, ended):
    """Order within a series, and its end."""
    for history in histories.values():
        history.sort(key=lambda sample: sample.time)  # several requests may be on their way at a time
    last = readings.all[-1]["by_start"]
    goes_on = {series[:-1] for series, history in histories.items() if not history[-1].closed}
    for series, history in histories.items():
        times = [sample.time for sample in history]
        if times != sorted(set(times)):
            wrong(f"{brief(series)}: times do not grow: {times}")
        values = [sample.value for sample in history if not sample.closed]
        if TABLE[series.name][0] == COUNTER and values != sorted(values):
            wrong(f"{brief(series)} falls: {values}")
        closings = [sample.closed for sample in history]
        if sum(closings) > 1 or (any(closings) and not closings[-1]):
            wrong(f"{brief(series)} is closed {sum(closings)} times or goes on after it: {closings}")
        # A process that becomes another program is another resource: one series is closed and the next goes on.
        if any(closings) and (series.pid, series.start) in last and series[:-1] not in goes_on:
            wrong(f"{brief(series)} is closed and its process lives")
        if series.pid in ended:
            compared["closed"] += 1
            if not any(closings) or all(closings):
                wrong(f"{brief(series)} of an ended process: closed {closings}")
    for pid in ended - {series.pid for series in histories}:
        wrong(f"the process {pid}, which ended, was never there")


def check_scrapes(scrapes, readings, on, only):
    """Every process that lived through a scrape is in it, with every metric that is on."""
    for sample, seen in scrapes.values():
        around = readings.around(sample)
        if not around:
            continue
        for identity in set(around[0]["by_start"]) & set(around[1]["by_start"]):
            process = around[0]["by_start"][identity]
            if only and (process["name"] not in only or around[1]["by_start"][identity]["name"] not in only):
                continue
            compared["lived through a scrape"] += 1
            missing = on - seen.get(identity, set())
            if "read_bytes" not in process:
                missing -= {"process.disk.io", "process.disk.operations"}
            if process["files"] is None:
                missing -= {"process.open_file_descriptors"}
            if missing:
                wrong(f"{process['name']} (pid {identity[0]}) lacks {sorted(missing)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--ended", type=int, action="append", default=[])
    parser.add_argument("--whole-line", type=int, action="append", default=[])
    parser.add_argument("--only", action="append")
    parser.add_argument("--metrics", choices=["all", "default"], default="default")
    options = parser.parse_args()
    # Utilizations say nothing at the first sight of a process.
    every = {name for name in TABLE if name != "process.cpu.utilization"}
    on = every if options.metrics == "all" else ON_BY_DEFAULT
    may = on | {"process.cpu.utilization"} if options.metrics == "all" else on
    readings, histories, scrapes = Readings(options.folder), collections.defaultdict(list), {}
    for sample in samples(options.folder):
        histories[sample.series].append(sample)
        if sample.series.name not in may:
            wrong(f"{sample.series.name} is there and not asked for")
        identity = (sample.series.pid, sample.series.start)
        if sample.closed:
            continue
        scrapes.setdefault(sample.received, (sample, {}))[1].setdefault(identity, set()).add(sample.series.name)
        if identity[0] in readings.starts and identity[1] not in readings.starts[identity[0]]:
            wrong(f"pid {identity[0]} starts at {identity[1]}; boot time + ticks is {readings.starts[identity[0]]}")
        around = readings.around(sample)
        near = [r["by_start"][identity] for r in around[2] if identity in r["by_start"]] if around else []
        if around and identity in around[0]["by_start"] and identity in around[1]["by_start"]:
            ends = (around[0]["by_start"][identity], around[1]["by_start"][identity])
            compared["start"] += 1
            check_value(sample, *ends, near)
            check_attributes(sample, *ends, set(options.whole_line))
    check_levels()
    check_life(histories, readings, set(options.ended))
    check_scrapes(scrapes, readings, on, options.only)
    if os.path.exists(refused := os.path.join(options.folder, "refused.txt")):
        wrong("refused: " + open(refused).read())
    for text, times in mistakes.most_common(40):
        print(text if times == 1 else f"{text} ({times} times)")
    if not mistakes:
        print(json.dumps(compared))
    sys.exit(1 if mistakes else 0)


main()
