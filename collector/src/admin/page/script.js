// What the control loop sees and does, drawn from the admin endpoint's JSON. Text from the agent only ever becomes text,
// never markup. Nothing is changed from here.
"use strict";

const EVERY = 2000; // milliseconds between looks; the loop itself steps every few seconds
const PARTS = {
  state: "/control/state", history: "/control/history", decisions: "/control/decisions?limit=100",
  cost: "/control/cost", folding: "/debug/entities", explained: "/debug/explain?resource=*",
};
const STORE = "phoenix-token"; // for the life of this tab
const id = (name) => document.getElementById(name);
let token = sessionStorage.getItem(STORE), chosen = null, look = null, seen = null, cursor = null, timer = null;

// Words

const known = (value) => typeof value === "number" && isFinite(value);
const say = (value, word) => (known(value) ? word(value) : "-");
const count = (value) => say(value, (v) => Math.round(v).toLocaleString("en-US"));
const percent = (value) => say(value, (v) => (v > 0 && v < 0.005 ? "<1 %" : `${Math.round(v * 100)} %`));
const signed = (value) => say(value, (v) => (v < -0.005 ? "" : "+") + (Math.abs(v) < 0.005 ? 0 : v).toFixed(2));
const dollars = (value) => say(value, (v) => "$" + (Math.abs(v) < 100 ? v.toFixed(2) : count(v)));
const plain = (word) => String(word ?? "").replaceAll("_", " ");
function span(seconds) {
  return say(seconds, (value) => {
    const whole = Math.round(Math.max(value, 0));
    for (const [large, name, small, rest] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]) {
      if (whole >= large) {
        const over = Math.floor((whole % large) / small);
        return Math.floor(whole / large) + name + (over ? over + rest : "");
      }
    }
    return whole + "s";
  });
}
// The agent's nanoseconds as seconds; the digits a double cannot hold are below what is shown.
const seconds = (nanos) => (nanos == null ? null : Number(nanos) / 1e9);
const ago = (nanos) => (nanos == null ? "-" : span(seconds(look.state.time_unix_nano) - seconds(nanos)));
const clock = (unix, second) => new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second, hour12: false });

// Elements

function make(tag, kind, ...inside) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...inside.filter((part) => part != null));
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text != null) element.textContent = text;
  return element;
}
const put = (name, ...inside) => id(name).replaceChildren(...inside.filter((part) => part != null));
const dim = (text) => make("p", "dim", text);
function meter(value, kind) {
  const full = make("i", kind);
  full.style.left = "0";
  full.style.width = `${Math.min(Math.max(value || 0, 0), 1) * 100}%`;
  return make("div", "meter", full);
}
function swing(value) {
  const part = Math.min(Math.max(value || 0, -1), 1) * 50, full = make("i", part < 0 ? "" : "bad");
  full.style.left = `${50 + Math.min(part, 0)}%`;
  full.style.width = `${Math.abs(part)}%`;
  return make("div", "meter middle", full);
}
const fullness = (part) => (part <= 0.9 ? "good" : part <= 1.02 ? "warn" : "bad");
function table(head, rows, on) {
  const body = rows.map((row, at) => make("tr", on?.(at) ? "on" : "", ...row.map((cell) => make("td", "", cell))));
  const titles = make("tr", "", ...head.map((title) => make("th", "", title)));
  return make("div", "scroll", make("table", "", make("thead", "", titles), make("tbody", "", ...body)));
}

// Panels. A part that could not be asked is an Error, and said in its place.

const of = (part, stage) =>
  part.stages?.find((other) => other.pipeline === stage.pipeline && other.processor === stage.processor);

function tiles(stage) {
  const series = stage.series ?? {}, now = series.steered ?? series.out, part = now / stage.budget;
  const tile = (name, value, note, kind, more) =>
    make("div", more ? "two" : "", make("small", "", name), make("b", kind, value), more, make("small", "", note ?? ""));
  const cost = look.cost instanceof Error ? null : of(look.cost, stage);
  const risk = stage.risk?.score;
  const rates = stage.rates && `+${count(stage.rates.new_per_minute)} −${count(stage.rates.gone_per_minute)} a minute`;
  const left = stage.forecast?.robust_seconds;
  put("tiles",
    stage.budget == null
      ? tile("Series out", count(series.out), "no budget is set")
      : tile("Series out, of the budget", `${count(now)} of ${count(stage.budget)}`,
          known(part) ? `${percent(part)} of the budget` + (left > 0 ? `, reached in ${span(left)} at this pace` : "") : "nothing measured yet",
          known(part) ? fullness(part) : "", meter(part, known(part) ? fullness(part) : "")),
    tile("Series in", count(series.in), rates),
    tile("Profile", stage.profile ?? "-", stage.controlled ? `pressure ${percent(stage.pressure)}` : "chosen by people"),
    tile("Cost a month", dollars(cost?.now), known(cost?.before) ? `${dollars(cost.before)} unthinned` : "not known yet"),
    known(risk) ? tile("Risk", Math.round(risk), "of 100", risk < 25 ? "good" : risk < 60 ? "warn" : "bad") : null,
    known(stage.memory) ? tile("Memory", percent(stage.memory), "of its limit") : null,
  );
}

function control(stage) {
  if (!stage.controlled) return put("control", dim("This stage has no budget: people choose its profile."));
  const terms = stage.terms ?? {};
  const row = (name, value, bar) => make("div", "row", make("span", "", name), make("span", "", value), bar);
  const chip = (text, kind) => make("span", `chip ${kind}`, text);
  const manual = stage.manual;
  const notes = [
    stage.emergency && chip(`emergency: ${plain(stage.emergency)}`, "bad"),
    stage.conflict && chip(plain(stage.conflict), "warn"),
    manual && chip(`${manual.profile} chosen by a person${known(manual.expires_in_seconds) ? ` for ${span(manual.expires_in_seconds)}` : ""}`, "warn"),
    stage.observe_only && chip(`observes only; would run ${stage.wanted ?? "-"}`, "warn"),
    ...(stage.guards ?? []).map((guard) => chip(`held by ${plain(guard)}`, "")),
  ].filter(Boolean);
  put("control",
    make("p", "", ...(stage.profiles ?? []).map((profile) => chip(profile.name, profile.name === stage.profile ? "on" : ""))),
    row("Pressure", percent(stage.pressure), meter(stage.pressure, "steer")),
    row("Error", signed(terms.error), swing(terms.error)),
    row("P", signed(terms.p), swing(terms.p)),
    row("I", signed(terms.i), swing(terms.i)),
    row("D", signed(terms.d), swing(terms.d)),
    row("Demand", signed(terms.demand), swing(terms.demand)),
    notes.length ? make("p", "", ...notes) : null,
    dim(`Changes since the start: ${stage.switches?.tighten ?? 0} tighter, ${stage.switches?.relax ?? 0} looser; measured ${span(stage.age_seconds)} ago`),
  );
}

function profiles(stage) {
  const rows = stage.profiles ?? [];
  if (!rows.length) return put("profiles", dim("No profile is followed."));
  const cells = ({ name, series, attribution: part, cost_per_month: cost }) =>
    [name, count(series), percent(part?.cpu), percent(part?.memory), percent(part?.io), dollars(cost)];
  put("profiles", table(["", "series", "CPU", "memory", "I/O", "a month"], rows.map(cells), (at) => rows[at].active),
    dim("CPU, memory, I/O: the part that stays attributed to single entities."));
}

// Who makes series, and by which attribute that is told where it is no executable.
const called = ({ name, name_of: attribute, metric }) =>
  name ? name + (attribute === "process.executable.name" ? "" : ` (${attribute})`) : metric ?? "unknown";

function culprits(stage) {
  if (!stage.explosions) return put("culprits", dim("Not watched: that goes with a budget."));
  const grown = stage.explosions.map((found) => make("p", "",
    make("b", "bad", called(found)), ` ${found.kind}, ${percent(found.share)} of what is new, `,
    `+${count(found.new_per_minute)} a minute`, found.since_unix_nano ? ` for ${ago(found.since_unix_nano)}` : "",
    make("br"), make("span", "dim", [found.name && found.metric && `in ${found.metric}`, found.attribute && `by ${found.attribute}`].filter(Boolean).join(", "))));
  const done = (stage.remediations ?? []).map((order) => make("p", "",
    make("span", "chip", order.status), `${plain(order.action)} ${order.target ?? ""}`,
    known(order.expires_in_seconds) ? make("span", "dim", `, ${span(order.expires_in_seconds)} left`) : null));
  if (grown.length + done.length) return put("culprits", ...grown, ...done);
  const newest = (stage.culprits ?? []).map((found) => make("p", "dim", [
    `${called(found)} makes ${percent(found.share)} of what is new`,
    found.name && `in ${found.metric}`, found.attribute && `by ${found.attribute}`].filter(Boolean).join(", ")));
  put("culprits", dim("Nothing grows in a way that is out of the ordinary."), ...newest);
}

function leading(stage) {
  const { metrics = [], attributes = [] } = stage.leading ?? {};
  if (!stage.leading) return put("leading", dim("A cardinality stage in the pipeline measures this."));
  if (!metrics.length && !attributes.length) return put("leading", dim("Nothing measured yet."));
  const cells = ({ name, series, new_per_minute: fresh }) => [name, count(series), fresh > 0 ? `+${count(fresh)}` : ""];
  const one = ({ key, values, leading: rows }) =>
    table([`${key}: ${count(values)} values`, "series", "new/min"], rows.slice(0, 4).map(cells));
  put("leading", table(["metric", "series", "new/min"], metrics.slice(0, 5).map(cells)), ...attributes.filter(({ leading: rows }) => rows?.length).slice(0, 3).map(one));
}

// The last words of all stages together, keep before fold before individual, as they are joined in the chain.
function verdict({ decisions = [] }) {
  const last = decisions.filter((word, at) => !decisions.slice(0, at).some((newer) => newer.stage === word.stage));
  return ["keep", "fold", "individual"].map((what) => last.find((word) => word.decision === what)).find(Boolean);
}

function entities() {
  const lines = [];
  if (look.folding instanceof Error) lines.push(dim(look.folding.message));
  else for (const { processor, groups, entities: counted } of look.folding.processors ?? []) {
    const sum = (what) => counted.filter((one) => one.verdict === what).reduce((all, one) => all + one.count, 0);
    lines.push(make("p", "", `${processor}: `, make("b", "", count(sum("individual"))), " individual, ",
      make("b", "", count(sum("fold"))), ` folded into ${count(groups)} groups`));
  }
  for (const { measure, kept, first = [] } of look.folding.rankings ?? []) {
    const rows = first.slice(0, 5).map(({ rank, entity, host }) => [String(rank), entity, host ?? ""]);
    if (rows.length) lines.push(table(["", `${count(kept)} lead by ${measure}`, "host"], rows));
  }
  if (look.explained instanceof Error) lines.push(dim(look.explained.message));
  else {
    const folded = new Map(), kept = [];
    for (const entity of look.explained.entities ?? []) {
      const word = verdict(entity), name = entity.name ?? "unnamed";
      if (word?.decision === "fold") folded.set(name, (folded.get(name) ?? 0) + 1);
      else if (word) kept.push([`${name} ${entity.pid ?? ""}`, plain(word.reason)]);
    }
    if (kept.length) lines.push(table(["kept", "why"], kept.slice(0, 6)));
    if (folded.size) {
      const most = [...folded].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 12);
      lines.push(make("p", "", make("span", "dim", "folded "), ...most.map(([name, n]) => make("span", "chip", `${name} ×${n}`))));
    }
    if (kept.length || folded.size) lines.push(dim("Of the 100 whose decision changed last; some may have ended."));
  }
  put("entities", ...(lines.length ? lines : [dim("No stage has decided anything yet.")]));
}

function cost(stage) {
  if (look.cost instanceof Error) return put("cost", dim(look.cost.message));
  const found = of(look.cost, stage), model = found?.model;
  const source = model && dim(`Prices of ${plain(model.name)}: ${known(model.price) ? "$" + model.price : "-"} for ${say(model.per, (per) => per)} ${plain(model.unit)}`
    + (model.source ? ` (${model.source})` : ""));
  if (!known(found?.now)) return put("cost", dim("Not known yet: it takes a minute of data."), source);
  put("cost", table(["US dollars a month", ""], [["unthinned", dollars(found.before)], ["now", dollars(found.now)], ["saved", dollars(found.saved)]],
    (at) => at === 1), source);
}

function decisions(stage) {
  if (look.decisions instanceof Error) return put("decisions", dim(look.decisions.message));
  const own = (look.decisions.decisions ?? []).filter((one) => one.pipeline === stage.pipeline && one.processor === stage.processor);
  const kinds = { tighten: "warn", relax: "good", explosion: "bad", failed: "bad" };
  const line = (one) => make("li", "", make("span", "dim", ago(one.time_unix_nano)), make("b", kinds[one.kind] ?? "", one.kind), make("span", "", one.text));
  put("decisions", own.length ? make("ol", "", ...own.map(line)) : dim("Nothing was decided yet."));
}

// The plot: series above, the pressure in a strip below, the profile as the ground.

function plot(stage) {
  const svg = id("plot"), history = look.history;
  const empty = (text) => svg.replaceChildren(draw("text", { x: 8, y: 24 }, text));
  id("read").textContent = "";
  id("bands").replaceChildren();
  if (history instanceof Error) return empty(history.message);
  const found = of(history, stage), at = (name) => found?.columns.indexOf(name) ?? -1;
  const rows = found?.rows.filter((row) => known(row[at("time_unix_seconds")])) ?? [];
  if (rows.length < 2) return empty("Nothing measured yet.");
  const time = at("time_unix_seconds"), names = found.profiles ?? [];
  const box = svg.getBoundingClientRect(), width = box.width, height = box.height;
  const left = width < 500 ? 48 : 64, right = width - 8, top = 8, bottom = height - 22, strip = 34, floor = bottom - strip - 10;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const first = rows[0][time], last = rows[rows.length - 1][time];
  const values = rows.flatMap((row) => [row[at("series_in")], row[at("steered")]]).filter(known);
  const highest = Math.max(1, stage.budget ?? 0, ...values) * 1.06;
  const x = (t) => left + ((t - first) / Math.max(last - first, 1)) * (right - left);
  const y = (v) => floor - (v / highest) * (floor - top);
  const low = (v) => bottom - Math.min(Math.max(v, 0), 1) * strip;
  const parts = [];

  // The ground: how tight the profile was, from the least to the most.
  const tight = (profile) => (names.length < 2 ? 0 : Math.round((profile / (names.length - 1)) * 2));
  for (let from = 0; from < rows.length; ) {
    let to = from;
    while (to < rows.length && rows[to][at("profile")] === rows[from][at("profile")]) to += 1;
    const profile = rows[from][at("profile")], end = rows[Math.min(to, rows.length - 1)][time];
    if (known(profile)) {
      parts.push(draw("rect", { class: `band${tight(profile)}`, x: x(rows[from][time]), y: top, width: Math.max(x(end) - x(rows[from][time]), 0), height: bottom - top }));
    }
    from = to;
  }
  for (const share of [0, 0.5, 1]) {
    const level = (highest / 1.06) * share;
    parts.push(draw("line", { class: "grid", x1: left, x2: right, y1: y(level), y2: y(level) }));
    parts.push(draw("text", { x: left - 6, y: y(level) + 4, "text-anchor": "end" }, count(level)));
  }
  parts.push(draw("line", { class: "grid", x1: left, x2: right, y1: bottom, y2: bottom }));
  parts.push(draw("text", { x: left - 6, y: bottom - strip / 2 + 4, "text-anchor": "end" }, width < 500 ? "press." : "pressure"));
  const ticks = width < 500 ? 2 : 5;
  for (let tick = 0; tick <= ticks; tick += 1) {
    const t = first + ((last - first) * tick) / ticks;
    const anchor = tick === 0 ? "start" : tick === ticks ? "end" : "middle";
    parts.push(draw("text", { x: x(t), y: height - 6, "text-anchor": anchor }, clock(t, last - first < 600 ? "2-digit" : undefined)));
  }
  const curve = (name, kind, height) => {
    let path = "", pen = "M";
    for (const row of rows) {
      const value = row[at(name)];
      if (!known(value)) { pen = "M"; continue; }
      path += `${pen}${x(row[time]).toFixed(1)} ${height(value).toFixed(1)}`;
      pen = "L";
    }
    parts.push(draw("path", { class: `curve ${kind}`, d: path }));
  };
  curve("pressure", "steer", low);
  curve("series_in", "in", y);
  curve("steered", "out", y);
  if (known(stage.budget)) parts.push(draw("line", { class: "budget", x1: left, x2: right, y1: y(stage.budget), y2: y(stage.budget) }));
  const word = (row) => `${clock(row[time], "2-digit")}: ${count(row[at("series_in")])} in, ${count(row[at("steered")])} out, ${names[row[at("profile")]] ?? "-"}`;
  if (cursor != null) {
    const wanted = first + ((cursor - left) / (right - left)) * (last - first);
    const near = rows.reduce((a, b) => (Math.abs(b[time] - wanted) < Math.abs(a[time] - wanted) ? b : a));
    parts.push(draw("line", { class: "cursor", x1: x(near[time]), x2: x(near[time]), y1: top, y2: bottom }));
    id("read").textContent = word(near);
  }
  svg.replaceChildren(...parts);
  id("bands").replaceChildren("profile:", ...names.flatMap((name, i) => [make("i", `band band${tight(i)}`), name]));
}

// What is drawn

function show() {
  const stages = [...(look.state.stages ?? [])].sort((a, b) => Number(b.controlled ?? false) - Number(a.controlled ?? false));
  const name = (stage) => `${stage.pipeline} ${stage.processor}`;
  const stage = stages.find((one) => name(one) === chosen) ?? stages[0];
  id("main").hidden = !stage;
  id("message").hidden = Boolean(stage);
  id("message").textContent = "No pipeline of this agent has a stage with profiles. The processor adaptive is one.";
  const button = (one) => {
    const element = make("button", "", name(one));
    element.type = "button";
    element.setAttribute("aria-pressed", String(one === stage));
    element.addEventListener("click", () => { chosen = name(one); show(); });
    return element;
  };
  const names = stages.map(name).join("\n") + `\n${stage && name(stage)}`;
  if (id("stages").dataset.names !== names) {
    id("stages").dataset.names = names;
    put("stages", ...(stages.length > 1 ? stages.map(button) : stages.map((one) => make("span", "dim", name(one)))));
  }
  if (stage) for (const panel of [tiles, plot, control, profiles, culprits, leading, entities, cost, decisions]) panel(stage);
}

function fresh(error) {
  const place = id("fresh");
  place.className = error ? "stale" : "";
  const version = look?.state.version ? `, agent ${look.state.version}` : "";
  place.textContent = !error ? `live${version}` : seen == null ? "nothing seen" : `last seen ${span((Date.now() - seen) / 1000)} ago`;
}

async function ask(target) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(target, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  throw Object.assign(new Error(body.error ?? `status ${answer.status}`), { status: answer.status });
}

async function once() {
  try {
    const state = await ask(PARTS.state);
    const rest = Object.entries(PARTS).filter(([part]) => part !== "state");
    const answers = await Promise.all(rest.map(([, target]) => ask(target).catch((error) => error)));
    look = Object.assign({ state }, Object.fromEntries(rest.map(([part], at) => [part, answers[at]])));
    seen = Date.now();
    id("door").hidden = true;
    fresh(null);
    show();
  } catch (error) {
    fresh(error);
    if (error.status === 401) {
      id("door").hidden = false;
    } else if (!look) {
      id("message").hidden = false;
      id("message").textContent = error.status ? error.message : "The agent does not answer.";
    }
  }
}

async function watch() {
  clearTimeout(timer);
  // A token that is asked for is not asked for again and again.
  if (!document.hidden && id("door").hidden) await once();
  clearTimeout(timer);
  timer = setTimeout(watch, EVERY);
}

id("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = id("token").value;
  sessionStorage.setItem(STORE, token);
  id("door").hidden = true;
  watch();
});
document.addEventListener("visibilitychange", watch);
id("plot").addEventListener("pointermove", (event) => {
  cursor = event.clientX - id("plot").getBoundingClientRect().left;
  if (look) show();
});
id("plot").addEventListener("pointerleave", () => { cursor = null; if (look) show(); });
addEventListener("resize", () => { if (look) show(); });
watch();
