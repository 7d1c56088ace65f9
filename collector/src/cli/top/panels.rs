//! What the panels say: lines of text from the agent's answers. Nothing here knows where on the screen they stand.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};

use super::data::{Cost, Culprit, Decision, Explosion, Leader, Look, Part, Profile, Stage, seconds_between};
use super::words::{bar, count, dollars, percent, plain, short, signed, span, swing};

/// A title and what stands below it.
pub(super) struct Panel {
    pub title: &'static str,
    pub lines: Vec<Line<'static>>,
}

/// The panel of that name about one stage; `width` is that of its inside. A name that is none has nothing to say.
pub(super) fn panel(title: &'static str, look: &Look, stage: &Stage, width: usize) -> Panel {
    let lines = match title {
        "Budget" => budget(look, stage, width),
        "Control" => control(stage, width),
        "Culprits" => culprits(look, stage, width),
        "Profiles" => profiles(stage, width),
        "Most series" => leading(stage, width),
        "Entities" => entities(look, width),
        "Decisions" => decisions(look, stage, width),
        _ => Vec::new(),
    };
    Panel { title, lines }
}

/// How full the budget is: below, within what the estimates' error explains, or above.
fn fullness(part: f64) -> Color {
    match part {
        part if part <= 0.9 => Color::Green,
        part if part <= 1.02 => Color::Yellow,
        _ => Color::Red,
    }
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().fg(Color::DarkGray))
}

fn none(text: &str) -> Vec<Line<'static>> {
    vec![Line::from(dim(text.to_owned()))]
}

/// A name in the first column.
fn label(text: &str) -> Span<'static> {
    Span::raw(format!("{text:<9}"))
}

fn budget(look: &Look, stage: &Stage, width: usize) -> Vec<Line<'static>> {
    let series = stage.series.clone().unwrap_or_default();
    let now = series.steered.or(series.out);
    let part = now.zip(stage.budget).filter(|(_, budget)| *budget > 0.0).map(|(now, budget)| now / budget);
    let mut lines = Vec::new();
    match part {
        Some(part) => {
            let said = format!(" {} of {} ", count(now), count(stage.budget));
            let mut line = vec![label("series")];
            line.extend(bar(Some(part), width.saturating_sub(9 + 6 + said.len()), fullness(part)));
            line.push(said.into());
            line.push(Span::styled(format!("{:>5}", percent(Some(part))), Style::new().fg(fullness(part))));
            lines.push(Line::from(line));
        }
        None if stage.budget.is_some() => lines.push(Line::from(vec![
            label("series"),
            format!("- of {} ", count(stage.budget)).into(),
            dim("nothing measured yet"),
        ])),
        None => lines.push(Line::from(vec![label("series"), dim("no budget: set budget::series of this stage")])),
    }
    let rates = stage
        .rates
        .as_ref()
        .map(|rates| format!("+{} -{} a minute", count(rates.new_per_minute), count(rates.gone_per_minute)));
    lines.push(Line::from(vec![
        label("in, out"),
        format!("{} in, {} out ", count(series.incoming), count(series.out)).into(),
        dim(rates.unwrap_or_default()),
    ]));
    if let Some(forecast) = &stage.forecast {
        let left = match forecast.robust_seconds {
            Some(left) if left <= 0.0 => "reached ".to_owned(),
            Some(left) => format!("reached in {} ", span(Some(left))),
            None => "not in sight ".to_owned(),
        };
        let growth = forecast.series_per_minute.map(|growth| format!("{growth:+.0} a minute"));
        lines.push(Line::from(vec![label("limit"), left.into(), dim(growth.unwrap_or_default())]));
    }
    lines.push(cost(look, stage));
    let mut state = vec![label("state")];
    if let Some(score) = stage.risk.as_ref().and_then(|risk| risk.score) {
        let color = match score {
            score if score < 25.0 => Color::Green,
            score if score < 60.0 => Color::Yellow,
            _ => Color::Red,
        };
        state.push(Span::raw("risk "));
        state.push(Span::styled(format!("{score:.0}"), Style::new().fg(color)));
        state.push(Span::raw(" of 100, "));
    }
    if stage.memory.is_some() {
        state.push(Span::raw(format!("memory {}, ", percent(stage.memory))));
    }
    state.push(match stage.age_seconds {
        Some(age) => dim(format!("measured {} ago", span(Some(age)))),
        None => dim("no estimate yet"),
    });
    lines.push(Line::from(state));
    lines
}

fn cost(look: &Look, stage: &Stage) -> Line<'static> {
    let found = match &look.cost {
        Err(why) => return Line::from(vec![label("cost"), dim(why.clone())]),
        Ok(costs) => {
            costs.stages.iter().find(|cost| (&cost.pipeline, &cost.processor) == (&stage.pipeline, &stage.processor))
        }
    };
    match found {
        Some(Cost { now: Some(now), before, model, .. }) => {
            let by = model.as_ref().and_then(|model| model.name.clone()).unwrap_or_default();
            Line::from(vec![
                label("cost"),
                Span::from(dollars(Some(*now))).bold(),
                format!(" a month, {} unthinned ", dollars(*before)).into(),
                dim(plain(&by)),
            ])
        }
        _ => Line::from(vec![label("cost"), dim("not known yet: it takes a minute of data")]),
    }
}

fn control(stage: &Stage, width: usize) -> Vec<Line<'static>> {
    let active = stage.profile.clone().unwrap_or_default();
    let mut names = vec![label("profile")];
    let profiles = stage.profiles.as_deref().unwrap_or_default();
    let at_work = |name: &str| Span::from(format!("[{name}]")).bold().green();
    if profiles.iter().all(|profile| profile.name != active) && !active.is_empty() {
        names.extend([at_work(&active), Span::raw(" ")]);
    }
    for (at, profile) in profiles.iter().enumerate() {
        if at > 0 {
            names.push(dim(" > "));
        }
        let name = &profile.name;
        names.push(if *name == active { at_work(name) } else { dim(name.clone()) });
    }
    let mut lines = vec![Line::from(names)];
    if !stage.controlled {
        lines
            .push(Line::from(vec![label("control"), dim("none: this stage has no budget, people choose the profile")]));
        return lines;
    }
    let bars = width.saturating_sub(9 + 7);
    let number = |value: Option<f64>| Span::raw(format!("{:>6} ", signed(value)));
    let pressure = Span::raw(format!("{:>6} ", percent(stage.pressure)));
    lines.push(Line::from([vec![label("pressure"), pressure], bar(stage.pressure, bars, Color::Magenta)].concat()));
    let terms = stage.terms.clone().unwrap_or_default();
    for (name, value) in [("error", terms.error), ("P", terms.p), ("I", terms.i), ("D", terms.d)] {
        lines.push(Line::from([vec![label(name), number(value)], swing(value, bars)].concat()));
    }
    let (tighter, looser) = stage
        .switches
        .clone()
        .map_or((0, 0), |switches| (switches.tighten.unwrap_or_default(), switches.relax.unwrap_or_default()));
    lines.push(Line::from(vec![
        label("demand"),
        number(terms.demand),
        dim(format!("changes: {tighter} tighter, {looser} looser")),
    ]));
    lines.push(Line::from(vec![label("held by"), guards(stage)]));
    lines.extend(notes(stage));
    lines
}

fn guards(stage: &Stage) -> Span<'static> {
    match stage.guards.as_deref() {
        None | Some([]) => dim("nothing"),
        Some(guards) => Span::from(guards.iter().map(|guard| plain(guard)).collect::<Vec<_>>().join(", ")).yellow(),
    }
}

/// What is out of the ordinary.
fn notes(stage: &Stage) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(emergency) = &stage.emergency {
        lines.push(Line::from(vec![label("emergency"), Span::from(format!(" {}", plain(emergency))).red().bold()]));
    }
    if let Some(conflict) = &stage.conflict {
        lines.push(Line::from(vec![label("conflict"), Span::from(plain(conflict)).yellow()]));
    }
    if let Some(manual) = &stage.manual {
        let left = manual.expires_in_seconds.map_or_else(|| "stays".into(), |left| format!("for {}", span(Some(left))));
        lines.push(Line::from(vec![
            label("chosen"),
            Span::from(format!("{} by a person, {left}", manual.profile)).cyan(),
        ]));
    }
    if stage.observe_only == Some(true) {
        let wanted = stage.wanted.clone().unwrap_or_default();
        lines.push(Line::from(vec![label("observes"), Span::from(format!("only; would run {wanted}")).cyan()]));
    }
    lines
}

fn culprits(look: &Look, stage: &Stage, width: usize) -> Vec<Line<'static>> {
    if stage.explosions.is_none() {
        return none("not watched: that goes with a budget");
    }
    let mut lines = Vec::new();
    for explosion in stage.explosions.iter().flatten() {
        lines.extend(culprit(look, explosion, width));
    }
    for order in stage.remediations.iter().flatten() {
        let target = order.target.as_deref().map(|target| format!(" {target}")).unwrap_or_default();
        let left = order.expires_in_seconds.map(|left| format!(", {} left", span(Some(left)))).unwrap_or_default();
        let text = format!("{}{target} ({}{left})", plain(&order.action), order.status);
        lines.push(Line::from(vec![Span::from("> ").cyan(), Span::from(short(&text, width.saturating_sub(2)))]));
    }
    if lines.is_empty() {
        lines = none("nothing grows in a way that is out of the ordinary");
        lines.extend(stage.culprits.iter().map(|culprit| newest(culprit, width)));
    }
    lines
}

/// Who makes series, and by which attribute that is told where it is no executable.
fn called(name: &Option<String>, name_of: &Option<String>) -> Option<String> {
    let of = name_of.as_deref().filter(|name_of| *name_of != "process.executable.name");
    name.as_ref().map(|name| of.map_or_else(|| name.clone(), |of| format!("{name} ({of})")))
}

/// Who makes new series, where these are not too many.
fn newest(culprit: &Culprit, width: usize) -> Line<'static> {
    let Culprit { metric, attribute, name, name_of, share } = culprit;
    let who = called(name, name_of).unwrap_or_else(|| metric.clone());
    let mut parts = vec![format!("{who} makes {} of what is new", percent(*share))];
    parts.extend(name.as_ref().map(|_| format!("in {metric}")));
    parts.extend(attribute.as_ref().map(|attribute| format!("by {attribute}")));
    Line::from(dim(short(&parts.join(", "), width)))
}

fn culprit(look: &Look, explosion: &Explosion, width: usize) -> Vec<Line<'static>> {
    let Explosion { kind, metric, attribute, name, name_of, share, new_per_minute, since_unix_nano } = explosion;
    let who = called(name, name_of).or_else(|| metric.clone()).unwrap_or_else(|| "unknown".to_owned());
    let now = look.state.time_unix_nano.as_str();
    let since = since_unix_nano.as_deref().and_then(|since| seconds_between(since, now));
    let mut parts = vec![format!("{} of what is new", percent(*share))];
    parts.push(format!("+{} a minute", count(*new_per_minute)));
    parts.extend(since.map(|since| format!("for {}", span(Some(since)))));
    let mut place: Vec<String> =
        name.as_ref().and(metric.as_ref()).map(|metric| format!("in {metric}")).into_iter().collect();
    place.extend(attribute.as_ref().map(|attribute| format!("by {attribute}")));
    let (kind, who) = (format!("{kind:<8}"), format!("{who} "));
    let rest = short(&parts.join(", "), width.saturating_sub(kind.len() + who.chars().count()));
    let place = short(&format!("{:indent$}{}", "", place.join(", "), indent = kind.len()), width);
    vec![Line::from(vec![Span::from(kind).red(), Span::from(who).bold(), dim(rest)]), Line::from(dim(place))]
}

fn profiles(stage: &Stage, width: usize) -> Vec<Line<'static>> {
    let rows = stage.profiles.as_deref().unwrap_or_default();
    if rows.is_empty() {
        return none("no profile is followed");
    }
    let name = width.saturating_sub(8 * 5).clamp(10, 18);
    let head = format!("{:<name$}{:>8}{:>8}{:>8}{:>8}{:>8}", "", "series", "CPU", "memory", "I/O", "$/month");
    let mut lines = vec![Line::from(dim(head))];
    for row in rows {
        let Profile { series, attribution, cost_per_month, .. } = row;
        let part = attribution.clone().unwrap_or_default();
        let text = format!(
            "{:<name$}{:>8}{:>8}{:>8}{:>8}{:>8}",
            format!("{} {}", if row.active { '>' } else { ' ' }, short(&row.name, name.saturating_sub(3))),
            count(*series),
            percent(part.cpu),
            percent(part.memory),
            percent(part.io),
            dollars(*cost_per_month).trim_start_matches('$'),
        );
        let line = Line::from(text);
        lines.push(if row.active {
            line.style(Style::new().fg(Color::Green).add_modifier(Modifier::BOLD))
        } else {
            line
        });
    }
    lines
}

fn leading(stage: &Stage, width: usize) -> Vec<Line<'static>> {
    let Some(leading) = &stage.leading else { return none("put a cardinality stage into the pipeline to see this") };
    let mut lines = Vec::new();
    let row = |leader: &Leader| {
        let name = short(&leader.name, width.saturating_sub(19));
        let fill = width.saturating_sub(19 + name.chars().count());
        let new = leader.new_per_minute.filter(|new| *new > 0.0).map(|new| format!("+{}/min", count(Some(new))));
        Line::from(vec![
            Span::raw(format!("{name}{:fill$}{:>8}", "", count(leader.series))),
            dim(format!("{:>11}", new.unwrap_or_default())),
        ])
    };
    lines.extend(leading.metrics.iter().take(4).map(row));
    for attribute in leading.attributes.iter().filter(|attribute| !attribute.leading.is_empty()).take(2) {
        let head = format!("{}: {} values", attribute.key, count(attribute.values));
        lines.push(Line::from(dim(short(&head, width))));
        lines.extend(attribute.leading.iter().take(3).map(row));
    }
    if lines.is_empty() { none("nothing measured yet") } else { lines }
}

fn entities(look: &Look, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for folder in look.folding.iter().flat_map(|folding| &folding.processors) {
        let of = |verdict: &str| {
            let counted = folder.entities.iter().filter(|counted| counted.verdict == verdict);
            counted.map(|counted| counted.count).sum::<f64>()
        };
        let text = format!(
            "{}: {} individual, {} folded into {} groups",
            folder.processor,
            count(Some(of("individual"))),
            count(Some(of("fold"))),
            count(folder.groups)
        );
        lines.push(Line::from(short(&text, width)));
    }
    for ranking in look.folding.iter().flat_map(|folding| &folding.rankings).filter(|ranking| !ranking.first.is_empty())
    {
        let head = format!("{} lead by {}: ", count(ranking.kept), ranking.measure);
        let who = ranking.first.iter().take(5).map(|one| one.entity.as_str()).collect::<Vec<_>>().join(", ");
        let left = width.saturating_sub(head.chars().count());
        lines.push(Line::from(vec![dim(short(&head, width)), short(&who, left).into()]));
    }
    let Some(explained) = known(&look.explained, &mut lines) else { return lines };
    let mut folded: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for entity in &explained.entities {
        let name = entity.name.as_deref().unwrap_or("unnamed");
        match entity.verdict() {
            Some(word) if word.decision == "fold" => *folded.entry(name).or_default() += 1,
            Some(word) => kept.push((entity.pid, name, word)),
            None => {}
        }
    }
    for (pid, name, word) in kept.into_iter().take(5) {
        let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
        let who = short(&format!("{name}{pid}"), width / 2);
        let why = short(&plain(&word.reason), width.saturating_sub(6 + who.chars().count()));
        lines.push(Line::from(vec![Span::from("kept ").green(), who.into(), dim(format!(" {why}"))]));
    }
    if !folded.is_empty() {
        let mut folded: Vec<(&str, usize)> = folded.into_iter().collect();
        folded.sort_by_key(|(name, members)| (std::cmp::Reverse(*members), *name));
        let text = folded.iter().map(|(name, members)| format!("{name} x{members}")).collect::<Vec<_>>().join(", ");
        lines.push(Line::from(vec![Span::from("folded ").magenta(), short(&text, width.saturating_sub(7)).into()]));
    }
    if lines.is_empty() { none("no stage has decided anything yet") } else { lines }
}

/// What an answer holds; where there is none, why.
fn known<'p, T>(part: &'p Part<T>, lines: &mut Vec<Line<'static>>) -> Option<&'p T> {
    part.as_ref().map_err(|why| lines.push(Line::from(dim(why.clone())))).ok()
}

fn decisions(look: &Look, stage: &Stage, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let Some(found) = known(&look.decisions, &mut lines) else { return lines };
    let now = look.state.time_unix_nano.as_str();
    let own = |decision: &&Decision| decision.pipeline == stage.pipeline && decision.processor == stage.processor;
    for decision in found.decisions.iter().filter(own) {
        let ago = format!("{:>7} ", span(seconds_between(&decision.time_unix_nano, now)));
        let kind = Span::from(format!("{:<12}", decision.kind));
        let kind = match decision.kind.as_str() {
            "tighten" => kind.magenta(),
            "relax" => kind.green(),
            "explosion" | "failed" => kind.red(),
            "manual" | "remediation" => kind.cyan(),
            _ => kind,
        };
        lines.push(Line::from(vec![dim(ago), kind, short(&decision.text, width.saturating_sub(20)).into()]));
    }
    if lines.is_empty() { none("nothing was decided yet") } else { lines }
}
