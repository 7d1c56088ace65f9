"""Reads what went into a pipeline and what left it, as the two readers of a ledger would, and holds one against the other.

    ledger_check.py IN OUT WORLD

IN and OUT are files of length-prefixed OTLP requests (4 bytes, big-endian) of one host: every scrape as it was read, and
as it left after thinning. WORLD is JSON: {"steady": {EXECUTABLE: {METRIC: what all its processes added}}}; those
executables have no process that begins or ends.

Held at every scrape: R1 (the OTLP reader) finds in OUT exactly what IN added, by metric, attributes of the point and
executable; R2 (Prometheus' increase) finds no more than that; levels of processes and groups add up to those of IN.
Held at every point: no counter falls under one start time, no point stands at the time of another or in the past, a
series is closed once and only after it was there. Prints one line of JSON, or what is wrong and status 1.
"""

import collections
import json
import struct
import sys

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics

CLOSED = metrics.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
CUMULATIVE = metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
Point = collections.namedtuple("Point", "series account monotonic start time value closed")

mistakes = collections.Counter()


def wrong(text):
    mistakes[text] += 1


def same(attributes):
    return tuple(sorted(attribute.SerializeToString() for attribute in attributes))


def requests(path):
    with open(path, "rb") as file:
        while length := file.read(4):
            body = file.read(struct.unpack(">I", length)[0])
            request = service.ExportMetricsServiceRequest()
            request.MergeFromString(body)
            yield request


class Names:
    """What stands for a list of attributes: looked up by its bytes, since a scrape repeats those of the one before."""

    def __init__(self):
        self.known = {}

    def of(self, attributes):
        raw = b"".join(attribute.SerializeToString() for attribute in attributes)
        if raw not in self.known:
            texts = {attribute.key: attribute.value.string_value for attribute in attributes}
            self.known[raw] = same(attributes), texts
        return self.known[raw]


def points(request, names):
    """The points of all sums of processes and their groups."""
    for resource in request.resource_metrics:
        own, texts = names.of(resource.resource.attributes)
        executable = texts.get("process.executable.name")
        if executable is None:
            continue
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.WhichOneof("data") != "sum":
                    continue
                if metric.sum.aggregation_temporality != CUMULATIVE:
                    wrong(f"{metric.name} is not cumulative")
                for point in metric.sum.data_points:
                    attributes, _ = names.of(point.attributes)
                    number = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
                    yield Point(
                        (own, metric.name, attributes),
                        (executable, metric.name, attributes),
                        metric.sum.is_monotonic,
                        point.start_time_unix_nano,
                        point.time_unix_nano,
                        number,
                        bool(point.flags & CLOSED),
                    )


def increase(known, point):
    """What Prometheus' increase sees between two points of a series: a value that falls is a reset."""
    if known is None:
        return 0
    return point.value - known.value if point.value >= known.value else point.value


class Truth:
    """What each entity added since it was first seen, and all of those created since the scrape before."""

    def __init__(self):
        self.total = collections.defaultdict(int)
        self.increases = collections.defaultdict(int)
        self.levels = {}
        self.last = {}
        self.ended = set()
        self.before = None

    def scrape(self, batch, time):
        self.levels = collections.defaultdict(int)
        before = time if self.before is None else self.before
        for point in batch:
            if point.closed:
                self.ended.add(point.series)
                continue
            if not point.monotonic:
                self.levels[point.account] += point.value
                continue
            known = self.last.get(point.series)
            again = known is not None and point.series not in self.ended
            self.ended.discard(point.series)
            self.last[point.series] = point
            added = increase(known, point)
            self.increases[point.account] += added
            if point.start > before and (not again or point.start != known.start):
                self.total[point.account] += point.value
            elif again:
                self.total[point.account] += added
        self.before = time


class Readers:
    """R1 and R2 over what left."""

    def __init__(self):
        self.r1 = collections.defaultdict(int)
        self.r2 = collections.defaultdict(int)
        self.levels = {}
        self.last = {}
        self.closings = {}
        self.began = None
        self.figures = collections.Counter()

    def scrape(self, batch, time):
        self.began = self.began or time
        self.levels = collections.defaultdict(int)
        for point in batch:
            self.point(point)

    def point(self, point):
        self.figures["points"] += 1
        known = self.last.get(point.series)
        closed = self.closings.get(point.series)
        if known and point.time <= max(known.time, closed or 0):
            wrong("a point stands at the time of another of its series, or before it")
        if point.closed:
            self.figures["closings"] += 1
            if known is None or closed:
                wrong("a series is closed that is not there")
            self.closings[point.series] = point.time
            return
        self.closings.pop(point.series, None)
        self.last[point.series] = point
        if not point.monotonic:
            self.levels[point.account] += point.value
            return
        self.r2[point.account] += increase(known, point)
        if known and point.start == known.start:
            if point.value < known.value:
                self.figures["falls"] += 1
                wrong(f"{point.account[1]} falls under one start")
            self.r1[point.account] += point.value - known.value
            return
        if known and point.start < known.start:
            wrong("a start lies before the one before")
        if self.began <= point.start < point.time:
            self.r1[point.account] += point.value


def off(a, b):
    """Relative error; integers must be equal."""
    if isinstance(a, int) and isinstance(b, int):
        return 0.0 if a == b else 1.0
    return abs(a - b) / max(abs(a), abs(b), 1.0)


def main(path_in, path_out, path_world):
    names, truth, readers = Names(), Truth(), Readers()
    worst, scrapes, points_in, accounts = 0.0, 0, 0, set()
    transitions, individual = 0, set()
    left = requests(path_out)
    for request in requests(path_in):
        batch = list(points(request, names))
        if not batch:
            continue
        time = max(point.time for point in batch)
        scrapes += 1
        points_in += len(batch)
        truth.scrape(batch, time)
        out = list(points(next(left, service.ExportMetricsServiceRequest()), names))
        if {point.time for point in out} != {time}:
            wrong("a scrape did not leave as one batch of its own time")
        readers.scrape(out, time)
        inside = {point.series[0] for point in batch}
        now = {point.series[0] for point in out if not point.closed} & inside
        transitions += len(now ^ individual)
        individual = now
        accounts |= truth.total.keys() | readers.r1.keys()
        for account in accounts:
            error = off(readers.r1[account], truth.total[account])
            worst = max(worst, error)
            if error > 1e-9:
                wrong(f"R1 of {account[1]} is not what went in")
            if readers.r2[account] > truth.total[account] + 1e-6:
                wrong(f"R2 of {account[1]} is more than went in")
        for account in truth.levels.keys() | readers.levels.keys():
            error = off(readers.levels.get(account, 0), truth.levels.get(account, 0))
            worst = max(worst, error)
            if error > 1e-9:
                wrong(f"levels of {account[1]} do not add up")
    for request in left:
        if list(points(request, names)):
            wrong("something left that never came in")
    with open(path_world) as file:
        steady = json.load(file)["steady"]
    for executable, metrics_of in steady.items():
        for name, added in metrics_of.items():
            of = [account for account in accounts if account[:2] == (executable, name)]
            total = sum(readers.r1[account] for account in of)
            if off(total, added) > 1e-9:
                wrong(f"{name} of {executable}: {total}, and its processes added {added}")
            if any(readers.r2[account] < truth.increases[account] - 1e-6 for account in of):
                wrong(f"R2 of {name} is less than before thinning")
    if mistakes:
        for text, count in mistakes.most_common(20):
            print(f"{count} times: {text}")
        sys.exit(1)
    figures = {"scrapes": scrapes, "points_in": points_in, "points_out": readers.figures["points"]}
    figures |= {"accounts": len(accounts), "transitions": transitions, "closings": readers.figures["closings"]}
    figures |= {"falls": readers.figures["falls"], "worst_relative_error": worst}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
