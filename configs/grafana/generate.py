#!/usr/bin/env python3
"""Writes dashboards/*.json for Grafana 10 and later, and for New Relic ../newrelic/dashboard.json with queries.nrql.

    generate.py           writes them
    generate.py --check   says whether they are what this file makes; exit status 1 if not

A panel is a line here, with its queries; everything Grafana wants around it is the same for all and made once. No package
is needed. The test `watch` of the agent asks a live Prometheus every query.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
OWN = 'instance=~"$instance"'


def graph(title, unit, *queries, about="", width=12, stack=False):
    return dict(title=title, kind="timeseries", unit=unit, queries=queries, about=about, width=width, stack=stack)


def stat(title, unit, query, about="", width=4, red=None):
    """One figure; `red` is the value from which it is red (negative: up to which)."""
    return dict(title=title, kind="stat", unit=unit, queries=[(query, "")], about=about, width=width, red=red)


def table(title, unit, query, about="", width=12):
    return dict(title=title, kind="table", unit=unit, queries=[(query, "")], about=about, width=width)


def rows(title, *panels):
    return dict(title=title, kind="row"), *panels


ALERTS = stat("Alerts", "short", 'count(ALERTS{alertstate="firing", alertname=~"Phoenix.*"}) or vector(0)', red=1)

DASHBOARDS = {
    "fleet": ("Phoenix: fleet", [], [
        *rows(
            "Now",
            stat("Agents", "short", "fleet:agents:count"),
            stat("Agents absent", "short", 'count(up{job="phoenix"} == 0) or vector(0)', red=1),
            ALERTS,
            stat("Series out", "short", 'fleet:series:sum{direction="out"}'),
            stat("Folded away", "percentunit", "fleet:rollup_effectiveness:ratio"),
            stat("Points a second", "short", "fleet:accepted_points:rate5m"),
        ),
        *rows(
            "Series",
            graph("Series in and out", "short", ("fleet:series:sum", "{{direction}}"), ("fleet:budget:sum", "budget"),
                  ("fleet:series_predicted_4h:sum", "in, in four hours")),
            graph("Agents by profile", "short", ("fleet:profile_agents:count", "{{profile}}"), stack=True),
            table("Hosts nearest to their budget", "percentunit", "topk(10, agent:budget_use:ratio)"),
            table("Hosts with most series", "short", 'topk(10, max by (instance) (phoenix_adaptive_series{direction="in"}))'),
        ),
        *rows(
            "Signal and cost",
            graph("Signal preserved on the worst host", "percentunit", ("fleet:signal_preservation:min", "{{measure}}"),
                  about="Part of CPU, memory and I/O that is attributed to single processes."),
            graph("Dollars a month", "currencyUSD", ("fleet:cost_before:usd_per_month", "without thinning"),
                  ("fleet:cost:usd_per_month", "as it is")),
        ),
        *rows(
            "The agents themselves",
            graph("CPU of all agents", "short", ("fleet:cpu:rate5m", "cores")),
            graph("Points a second", "short", ("fleet:accepted_points:rate5m", "in"), ("fleet:sent_points:rate5m", "out"),
                  about="Every exporter counts what it sends: with two of them, twice as much goes out."),
        ),
    ]),
    "host": ("Phoenix: one host", ["instance"], [
        *rows(
            "Host",
            graph("CPU by state", "short", ('sum by (state) (rate(system_cpu_time_seconds_total{%s}[$__rate_interval]))' % OWN, "{{state}}"), stack=True,
                  about="Cores."),
            graph("Memory by state", "bytes", ('sum by (state) (system_memory_usage_bytes{%s})' % OWN, "{{state}}"), stack=True),
            graph("Load", "short", ("system_cpu_load_average_1m{%s}" % OWN, "1 m"), ("system_cpu_load_average_15m{%s}" % OWN, "15 m")),
            graph("Disk", "Bps", ("sum by (device, direction) (rate(system_disk_io_bytes_total{%s}[$__rate_interval]))" % OWN, "{{device}} {{direction}}")),
            graph("Network", "Bps", ("sum by (device, direction) (rate(system_network_io_bytes_total{%s}[$__rate_interval]))" % OWN, "{{device}} {{direction}}")),
            graph("File systems used", "percentunit",
                  ('sum by (mountpoint) (system_filesystem_usage_bytes{state="used", %s}) / sum by (mountpoint) (system_filesystem_usage_bytes{%s})' % (OWN, OWN), "{{mountpoint}}")),
        ),
        *rows(
            "Processes",
            graph("CPU by program", "short", ("topk(10, sum by (process_executable_name) (rate(process_cpu_time_seconds_total{%s}[$__rate_interval])))" % OWN, "{{process_executable_name}}"),
                  about="Cores. Individual processes and groups together: folding does not change it."),
            graph("Memory by program", "bytes", ("topk(10, sum by (process_executable_name) (process_memory_usage_bytes{%s}))" % OWN, "{{process_executable_name}}")),
            table("Processes with most CPU", "short", "topk(15, sum by (process_pid, process_executable_name) (rate(process_cpu_time_seconds_total{%s}[$__rate_interval])))" % OWN),
            table("Processes with most memory", "bytes", "topk(15, sum by (process_pid, process_executable_name) (process_memory_usage_bytes{%s}))" % OWN),
            graph("Processes by status", "short", ("sum by (status) (system_processes_count{%s})" % OWN, "{{status}}"), stack=True),
            graph("CPU that is in no process", "percentunit", ("phoenix_unattributed_ratio{%s}" % OWN, "{{receiver}}"),
                  about="Processes that began and ended between two scrapes."),
        ),
    ]),
    "cardinality": ("Phoenix: cardinality and explosion", ["instance"], [
        *rows(
            "Series",
            stat("Explosions now", "short", "sum(phoenix_explosion_active{%s})" % OWN, red=1),
            stat("Risk", "short", "max(phoenix_risk_score{%s})" % OWN, red=50, about="0 to 100: the chance that the budget is exceeded, times what that would cost."),
            stat("New a minute", "short", "sum(phoenix_series_new_per_minute{%s})" % OWN),
            stat("Gone a minute", "short", "sum(phoenix_series_gone_per_minute{%s})" % OWN),
            stat("Series", "short", "sum(phoenix_series{%s})" % OWN),
            stat("Remedies at work", "short", "sum(phoenix_remediation_active{%s}) or vector(0)" % OWN),
            graph("Series and budget", "short", ('phoenix_adaptive_series{%s}' % OWN, "{{instance}} {{direction}}"), ("phoenix_control_budget{%s}" % OWN, "{{instance}} budget"),
                  ("agent:series_predicted_4h:count{%s}" % OWN, "{{instance}} in, in four hours")),
            graph("New and gone a minute", "short", ("phoenix_series_new_per_minute{%s}" % OWN, "{{instance}} new"), ("phoenix_series_gone_per_minute{%s}" % OWN, "{{instance}} gone")),
        ),
        *rows(
            "Whose they are",
            graph("Values by attribute", "short", ("max by (attribute) (agent:attribute_values:count{%s})" % OWN, "{{attribute}}"),
                  about="An attribute with about as many values as there are series makes them."),
            graph("Series by metric", "short", ("max by (metric) (agent:metric_series:count{%s})" % OWN, "{{metric}}")),
            table("Attributes on all hosts", "short", "fleet:attribute_values:max"),
            table("Metrics that explode: new series beyond the usual", "short", "phoenix_explosion_excess_series{%s} > 0" % OWN, about="Empty while nothing explodes."),
            graph("Explosions found", "short", ("sum by (kind) (increase(phoenix_explosions_total{%s}[1h]))" % OWN, "{{kind}}"), about="Empty until there has been one."),
            graph("Seconds until the budget is reached", "s", ("phoenix_budget_exhausted_seconds{%s}" % OWN, "{{instance}}"), about="-1: not in sight."),
        ),
    ]),
    "control": ("Phoenix: control loop", ["instance"], [
        *rows(
            "What it does",
            graph("Budget use", "percentunit", ("agent:budget_use:ratio{%s}" % OWN, "{{instance}} {{processor}}")),
            graph("Profile at work", "short", ("max by (profile) (phoenix_profile_active{%s})" % OWN, "{{profile}}"), stack=True),
            graph("What each profile lets out, or would", "short", ("max by (profile) (phoenix_profile_series{%s})" % OWN, "{{profile}}"), ("max(phoenix_control_budget{%s})" % OWN, "budget")),
            graph("Signal preserved under each profile", "percentunit", ('min by (profile, measure) (phoenix_profile_attribution_ratio{%s})' % OWN, "{{profile}} {{measure}}"),
                  ("max(phoenix_control_attribution_floor{%s})" % OWN, "floor")),
        ),
        *rows(
            "Why",
            graph("Terms of the PID", "short", ("phoenix_control_term{%s}" % OWN, "{{instance}} {{term}}"), ("phoenix_control_error{%s}" % OWN, "{{instance}} error")),
            graph("Pressure", "percentunit", ("phoenix_control_pressure{%s}" % OWN, "{{instance}}")),
            graph("Switches an hour", "short", ("sum by (instance, direction) (increase(phoenix_control_switches_total{%s}[1h]))" % OWN, "{{instance}} {{direction}}"), about="Empty until there has been one."),
            graph("Held back, by guard", "short", ("sum by (guard) (rate(phoenix_control_held_total{%s}[$__rate_interval]))" % OWN, "{{guard}}")),
            graph("Conflicts", "short", ("max by (which) (phoenix_control_conflict{%s})" % OWN, "{{which}}")),
            graph("Emergencies", "short", ("max by (why) (phoenix_control_emergency{%s})" % OWN, "{{why}}")),
            graph("Failures", "short", ("increase(phoenix_control_failures_total{%s}[1h])" % OWN, "{{instance}} decisions")),
            graph("Swaps", "short", ("increase(phoenix_swaps_total{%s}[1h])" % OWN, "{{instance}}")),
        ),
    ]),
    "cost": ("Phoenix: cost and savings", ["instance"], [
        *rows(
            "A month, in US dollars",
            stat("Without thinning", "currencyUSD", "sum(agent:cost_before:usd_per_month{%s})" % OWN, width=6),
            stat("As it is", "currencyUSD", "sum(agent:cost:usd_per_month{%s})" % OWN, width=6),
            stat("Saved", "currencyUSD", "sum(agent:cost_before:usd_per_month{%s}) - sum(agent:cost:usd_per_month{%s})" % (OWN, OWN), width=6),
            stat("Saved", "percentunit", "1 - sum(agent:cost:usd_per_month{%s}) / sum(agent:cost_before:usd_per_month{%s})" % (OWN, OWN), width=6),
            graph("With and without thinning", "currencyUSD", ("sum(agent:cost_before:usd_per_month{%s})" % OWN, "without"), ("sum(agent:cost:usd_per_month{%s})" % OWN, "as it is")),
            graph("Under each profile", "currencyUSD", ("sum by (profile) (phoenix_profile_cost_per_month{%s})" % OWN, "{{profile}}")),
            table("Dearest hosts", "currencyUSD", "topk(10, agent:cost:usd_per_month{%s})" % OWN),
            graph("Part that thinning saves", "percentunit", ("agent:cost_reduction:ratio{%s}" % OWN, "{{instance}}")),
        ),
        *rows(
            "What it is bought with",
            graph("Series folded away", "percentunit", ("agent:rollup_effectiveness:ratio{%s}" % OWN, "{{instance}} {{processor}}")),
            graph("Signal preserved", "percentunit", ("agent:signal_preservation:ratio{%s}" % OWN, "{{instance}} {{measure}}")),
        ),
    ]),
    "anomalies": ("Phoenix: anomalies", ["instance"], [
        *rows(
            "Scores: how far from the last hour, in standard deviations",
            graph("By median and MAD", "short", ("host:anomaly_mad:score{%s}" % OWN, "{{instance}} {{signal}}"), width=24,
                  about="Not moved by the outlier itself. Beyond 3.5 is unusual."),
            graph("By mean and standard deviation", "short", ("host:anomaly_stddev:score{%s}" % OWN, "{{instance}} {{signal}}"), width=24),
            table("Most unusual now", "short", "topk(15, abs(host:anomaly_mad:score{%s}))" % OWN),
            table("Most unusual now, by standard deviation", "short", "topk(15, abs(host:anomaly_stddev:score{%s}))" % OWN),
        ),
        *rows(
            "Signals",
            graph("CPU and memory", "percentunit", ('host:signal:value{signal=~"cpu|memory", %s}' % OWN, "{{instance}} {{signal}}"), ('host:signal:median1h{signal=~"cpu|memory", %s}' % OWN, "{{instance}} {{signal}} median")),
            graph("I/O", "Bps", ('host:signal:value{signal=~".*_io", %s}' % OWN, "{{instance}} {{signal}}"), ('host:signal:median1h{signal=~".*_io", %s}' % OWN, "{{instance}} {{signal}} median")),
            graph("Processes and series", "short", ('host:signal:value{signal=~"processes|series", %s}' % OWN, "{{instance}} {{signal}}"), ('host:signal:median1h{signal=~"processes|series", %s}' % OWN, "{{instance}} {{signal}} median")),
        ),
    ]),
    "agent": ("Phoenix: agent health", ["instance"], [
        *rows(
            "Now",
            ALERTS,
            stat("Uptime", "s", "min(otelcol_process_uptime{%s})" % OWN),
            stat("Versions", "short", "count(count by (version) (phoenix_build_info{%s}))" % OWN, red=3),
            stat("CPU, cores", "short", "sum(agent:cpu:rate5m{%s})" % OWN),
            stat("Memory", "bytes", "max(otelcol_process_memory_rss{%s})" % OWN),
            stat("Points lost a second", "short", "sum(agent:lost_points:rate5m{%s})" % OWN, red=0.001),
        ),
        *rows(
            "In",
            graph("Points in", "short", ("sum by (instance, receiver) (rate(otelcol_receiver_accepted_metric_points{%s}[$__rate_interval]))" % OWN, "{{instance}} {{receiver}}"),
                  ("sum by (instance, receiver) (rate(otelcol_receiver_refused_metric_points{%s}[$__rate_interval]))" % OWN, "{{instance}} {{receiver}} refused")),
            graph("Scrape time in parts of its interval", "percentunit", ("agent:scrape_duration:ratio{%s}" % OWN, "{{instance}} {{receiver}}")),
            graph("Points that could not be read", "short", ("sum by (scraper) (rate(otelcol_scraper_errored_metric_points{%s}[$__rate_interval]))" % OWN, "{{scraper}}")),
            graph("Scrapes left out", "short", ("increase(phoenix_scrape_missed_total{%s}[$__rate_interval])" % OWN, "{{instance}}")),
        ),
        *rows(
            "Out",
            graph("Points out", "short", ("sum by (instance, exporter) (rate(otelcol_exporter_sent_metric_points{%s}[$__rate_interval]))" % OWN, "{{instance}} {{exporter}}")),
            graph("Points lost", "short", ("agent:lost_points:rate5m{%s}" % OWN, "{{instance}} {{exporter}} {{how}}")),
            graph("Queues", "percentunit", ("agent:queue_use:ratio{%s}" % OWN, "{{instance}} {{exporter}}")),
            graph("Seconds until a queue is full", "s", ("agent:queue_time_to_full:seconds{%s}" % OWN, "{{instance}} {{exporter}}"), about="Empty while none grows."),
        ),
        *rows(
            "Itself",
            graph("CPU, cores", "short", ("agent:cpu:rate5m{%s}" % OWN, "{{instance}}")),
            graph("Memory", "bytes", ("otelcol_process_memory_rss{%s}" % OWN, "{{instance}} resident"), ('phoenix_memory_limit_bytes{%s}' % OWN, "{{instance}} limit, {{limit}}")),
            graph("Conservation error", "short", ("phoenix_conservation_error{%s}" % OWN, "{{instance}} {{processor}}"), about="0 at all times; anything else is a defect."),
            graph("Days until a certificate ends", "short", ("(phoenix_tls_certificate_not_after{%s} - time()) / 86400" % OWN, "{{instance}} {{component}} {{key}}"), about="Empty without TLS."),
        ),
    ]),
}


# Of New Relic: page -> (visualization, title, NRQL). Sums that only grow are rates there, as New Relic stores their increments.
NEWRELIC = {
    "Hosts": [
        ("line", "CPU by state, cores", "FROM Metric SELECT rate(sum(system.cpu.time), 1 second) FACET state TIMESERIES"),
        ("line", "Memory by host and state, bytes", "FROM Metric SELECT average(system.memory.usage) FACET host.name, state TIMESERIES"),
        ("line", "Load", "FROM Metric SELECT average(system.cpu.load_average.1m) FACET host.name TIMESERIES"),
        ("line", "Network, bytes a second", "FROM Metric SELECT rate(sum(system.network.io), 1 second) FACET host.name, direction TIMESERIES"),
        ("line", "Disk, bytes a second", "FROM Metric SELECT rate(sum(system.disk.io), 1 second) FACET host.name, direction TIMESERIES"),
        ("table", "File systems, bytes", "FROM Metric SELECT latest(system.filesystem.usage) FACET host.name, mountpoint, state LIMIT 100"),
    ],
    "Processes": [
        ("line", "CPU by program, cores", "FROM Metric SELECT rate(sum(process.cpu.time), 1 second) FACET process.executable.name LIMIT 10 TIMESERIES"),
        ("table", "Memory by program, bytes", "FROM (FROM Metric SELECT latest(process.memory.usage) AS used FACET host.name, process.executable.name, process.pid LIMIT MAX) SELECT sum(used) FACET process.executable.name LIMIT 20"),
        ("table", "Processes with most CPU, cores", "FROM Metric SELECT rate(sum(process.cpu.time), 1 second) FACET host.name, process.executable.name, process.pid LIMIT 20"),
        ("line", "Distinct processes by program", "FROM Metric SELECT uniqueCount(process.pid) FACET process.executable.name LIMIT 10 TIMESERIES"),
    ],
    "Cardinality and cost": [
        ("table", "Series by metric, today", "FROM Metric SELECT cardinality() FACET metricName LIMIT 20 SINCE today RAW"),
        ("bar", "Gigabytes by metric", "FROM Metric SELECT bytecountestimate() / 1e9 FACET metricName LIMIT 20"),
        ("line", "Billed gigabytes a day", "FROM NrConsumption SELECT sum(GigabytesIngested) WHERE productLine = 'DataPlatform' FACET usageMetric SINCE 1 month ago TIMESERIES 1 day"),
        ("table", "Rejected by New Relic", "FROM NrIntegrationError SELECT count(*) WHERE newRelicFeature = 'Metrics' FACET message"),
        ("line", "Series in and out", "FROM Metric SELECT sum(phoenix_adaptive_series) FACET direction TIMESERIES"),
        ("billboard", "Dollars a month as it is, and without thinning", "FROM Metric SELECT latest(phoenix_cost_per_month) FACET instance, of"),
        ("line", "Dollars a month under each profile", "FROM Metric SELECT average(phoenix_profile_cost_per_month) FACET profile TIMESERIES"),
    ],
    "Control loop": [
        ("line", "Series and budget", "FROM Metric SELECT average(phoenix_control_series), average(phoenix_control_budget) FACET instance TIMESERIES"),
        ("line", "Profile at work", "FROM Metric SELECT max(phoenix_profile_active) FACET profile TIMESERIES"),
        ("line", "Signal preserved under each profile", "FROM Metric SELECT min(phoenix_profile_attribution_ratio) FACET profile, measure TIMESERIES"),
        ("line", "Risk", "FROM Metric SELECT max(phoenix_risk_score) FACET instance TIMESERIES"),
        ("table", "Hosts where series explode", "FROM Metric SELECT latest(phoenix_explosion_active) FACET instance LIMIT 20"),
    ],
    "Anomalies": [
        ("table", "Load: standard deviations from the last hour", "FROM Metric SELECT (latest(system.cpu.load_average.1m) - average(system.cpu.load_average.1m)) / stddev(system.cpu.load_average.1m) AS score FACET host.name SINCE 1 hour ago"),
        ("table", "Processes: standard deviations from the last hour", "FROM Metric SELECT (latest(system.processes.count) - average(system.processes.count)) / stddev(system.processes.count) AS score FACET host.name, status SINCE 1 hour ago"),
    ],
    "Agent health": [
        ("line", "Points sent a second", "FROM Metric SELECT rate(sum(otelcol_exporter_sent_metric_points), 1 second) FACET instance, exporter TIMESERIES"),
        ("line", "Points lost a second", "FROM Metric SELECT rate(sum(otelcol_exporter_send_failed_metric_points), 1 second), rate(sum(otelcol_exporter_enqueue_failed_metric_points), 1 second) FACET instance TIMESERIES"),
        ("line", "Queues in parts of their capacity", "FROM Metric SELECT latest(otelcol_exporter_queue_size) / latest(otelcol_exporter_queue_capacity) FACET instance, exporter TIMESERIES"),
        ("line", "Memory and its limits, bytes", "FROM Metric SELECT max(otelcol_process_memory_rss), min(phoenix_memory_limit_bytes) FACET instance TIMESERIES"),
        ("billboard", "Conservation error", "FROM Metric SELECT max(abs(phoenix_conservation_error))"),
    ],
}


def newrelic():
    pages = []
    for title, widgets in NEWRELIC.items():
        made = []
        for number, (kind, name, query) in enumerate(widgets):
            layout = dict(column=1 + number % 2 * 6, row=1 + number // 2 * 3, width=6, height=3)
            config = dict(nrqlQueries=[dict(accountIds=[], query=query)])
            made.append(dict(title=name, layout=layout, visualization=dict(id="viz." + kind), rawConfiguration=config))
        pages.append(dict(name=title, description=None, widgets=made))
    return dict(name="Phoenix", description="Hosts, cardinality, cost and the agents", permissions="PUBLIC_READ_WRITE", pages=pages)


def nrql():
    return "\n".join(f"-- {page}: {title}\n{query}\n" for page, widgets in NEWRELIC.items() for _, title, query in widgets)


def panel(number, spec, x, y):
    if spec["kind"] == "row":
        return dict(id=number, type="row", title=spec["title"], collapsed=False, panels=[], gridPos=dict(h=1, w=24, x=0, y=y))
    kind = spec["kind"]
    source = dict(type="prometheus", uid="${datasource}")
    targets = []
    for letter, (query, legend) in zip("ABCDEF", spec["queries"]):
        target = dict(refId=letter, datasource=source, expr=query, legendFormat=legend or "__auto")
        if kind == "table":
            target |= dict(instant=True, format="table")
        targets.append(target)
    defaults = dict(unit=spec["unit"])
    if spec.get("red") is not None:
        steps = [dict(color="green", value=None), dict(color="red", value=spec["red"])]
        defaults["thresholds"] = dict(mode="absolute", steps=steps)
    if kind == "timeseries":
        defaults["custom"] = dict(fillOpacity=20 if spec["stack"] else 0, stacking=dict(mode="normal" if spec["stack"] else "none"))
        defaults["min"] = 0 if spec["stack"] else None
    options = {
        "timeseries": dict(legend=dict(displayMode="list", placement="bottom"), tooltip=dict(mode="multi", sort="desc")),
        "stat": dict(reduceOptions=dict(calcs=["lastNotNull"]), colorMode="value" if spec.get("red") is not None else "none"),
        "table": dict(showHeader=True),
    }[kind]
    made = dict(id=number, type=kind, title=spec["title"], description=spec["about"], datasource=source, targets=targets,
                gridPos=dict(h=height(spec), w=spec["width"], x=x, y=y), options=options,
                fieldConfig=dict(defaults={key: value for key, value in defaults.items() if value is not None}, overrides=[]))
    if kind == "table":
        hidden = {"Time": True, "__name__": True, "job": True}
        made["transformations"] = [dict(id="organize", options=dict(excludeByName=hidden)),
                                   dict(id="sortBy", options=dict(sort=[dict(field="Value", desc=True)]))]
    return made


def height(spec):
    return {"row": 1, "stat": 4}.get(spec["kind"], 8)


def dashboard(name, title, variables, specs):
    panels, x, y, tallest = [], 0, 0, 0
    for number, spec in enumerate(specs, 1):
        width = spec.get("width", 24)
        if spec["kind"] == "row" or x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        panels.append(panel(number, spec, x, y))
        x, tallest = x + width, max(tallest, height(spec))
    datasource = dict(name="datasource", label="Data source", type="datasource", query="prometheus")
    instance = dict(name="instance", label="Host", type="query", datasource=dict(type="prometheus", uid="${datasource}"),
                    query="label_values(phoenix_build_info, instance)", refresh=2, sort=1,
                    includeAll=name != "host", multi=name != "host", allValue=".*")
    links = [dict(title="Phoenix", type="dashboards", tags=["phoenix"], asDropdown=True, includeVars=True, keepTime=True)]
    return dict(uid="phoenix-" + name, title=title, tags=["phoenix"], schemaVersion=38, version=1, editable=True, graphTooltip=1,
                refresh="30s", time={"from": "now-3h", "to": "now"}, timezone="browser", links=links, panels=panels,
                templating=dict(list=[datasource] + ([instance] if "instance" in variables else [])))


def files():
    for name, (title, variables, specs) in DASHBOARDS.items():
        yield HERE / "dashboards" / f"{name}.json", as_json(dashboard(name, title, variables, specs))
    yield HERE.parent / "newrelic" / "dashboard.json", as_json(newrelic())
    yield HERE.parent / "newrelic" / "queries.nrql", nrql()


def as_json(content):
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main():
    stale = []
    for path, text in files():
        if "--check" in sys.argv[1:]:
            stale += [path.name] if not path.exists() or path.read_text() != text else []
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if stale:
        sys.exit(f"not what generate.py makes: {', '.join(stale)}; run it")


main()
