//! The screen itself, against `golden/NAME.txt`. With `BLESS=1` the files are written anew; read the difference.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::data::{Entity, Word};
use super::*;

/// What an agent answers that is over its budget, in the words of its endpoint.
fn busy(target: &str) -> Result<Value, String> {
    let rows: Vec<Value> = (0..60_u32)
        .map(|step| {
            let incoming = if step < 20 { 1500.0 } else { 5400.0 };
            let steered = if step == 20 { None } else { Some(f64::min(incoming, 2300.0 - 10.0 * f64::from(step))) };
            json!([1_763_719_000.0 + 10.0 * f64::from(step), incoming, steered, 0.3, 1])
        })
        .collect();
    let word = |pid: i64, name: &str, decision: &str, reason: &str| {
        let decisions = json!([{ "time_unix_nano": "1763719590000000000", "stage": "topk", "decision": decision,
            "class": "normal", "reason": reason }]);
        json!({ "pid": pid, "name": name, "attributes": {}, "decisions": decisions })
    };
    Ok(match target {
        "/control/state" => json!({ "time_unix_nano": "1763719600000000000", "version": "0.1.0", "stages": [
            { "pipeline": "metrics/two", "processor": "adaptive/two", "controlled": false, "profile": "plain",
              "explosions": null, "series": null },
            { "pipeline": "metrics", "processor": "adaptive", "controlled": true, "observe_only": true,
              "profile": "balanced", "wanted": "aggressive", "manual": { "profile": "balanced", "expires_in_seconds": 571.2 },
              "budget": 2000, "age_seconds": 3.1,
              "series": { "in": 5400, "out": 1810, "steered": 2310, "error": 0.0081 },
              "rates": { "new_per_minute": 1212, "gone_per_minute": 9, "sampled": 1 },
              "profiles": [
                { "name": "conservative", "active": false, "series": 5400, "attribution": { "cpu": 1.0, "memory": 1.0, "io": null }, "cost_per_month": 118.2 },
                { "name": "balanced", "active": true, "series": 2310, "attribution": { "cpu": 0.974, "memory": 0.91, "io": null }, "cost_per_month": 12.4 },
                { "name": "aggressive", "active": false, "series": 640, "attribution": null, "cost_per_month": null } ],
              "pressure": 0.34, "terms": { "error": 0.155, "p": 0.31, "i": 0.54, "d": -0.22, "demand": 0.63 },
              "guards": ["dwell", "shadow_above"], "emergency": "explosion", "conflict": "budget_out_of_reach",
              "memory": 0.41, "switches": { "tighten": 2, "relax": 1 }, "risk": { "score": 31.4 },
              "forecast": { "linear_seconds": null, "robust_seconds": 5400, "series_per_minute": 11.2 },
              "explosions": [ { "kind": "jump", "metric": "process.cpu.time", "attribute": "process.pid",
                "name_of": "process.executable.name", "name": "leaky\u{1b}[31m", "share": 0.93, "new_per_minute": 1200, "since_unix_nano": "1763719525000000000" } ],
              "remediations": [ { "id": 3, "action": "fold_executable", "target": "leaky", "status": "active", "expires_in_seconds": 1723.0 } ],
              "leading": { "metrics": [ { "name": "process.cpu.time", "series": 1800, "new_per_minute": 400 } ],
                "attributes": [ { "key": "process.executable.name", "values": 41,
                  "leading": [ { "name": "leaky", "series": 900, "new_per_minute": 1200 } ] } ] } } ] }),
        "/control/history" => json!({ "stages": [ { "pipeline": "metrics", "processor": "adaptive", "budget": 2000,
            "columns": ["time_unix_seconds", "series_in", "steered", "pressure", "profile"], "rows": rows } ] }),
        "/control/decisions?limit=50" => json!({ "total": 2, "kept": 2, "decisions": [
            { "time_unix_nano": "1763719580000000000", "pipeline": "metrics", "processor": "adaptive", "kind": "tighten",
              "text": "4,512 series against a budget of 2,000: conservative gives way to balanced" },
            { "time_unix_nano": "1763719000000000000", "pipeline": "metrics/two", "processor": "adaptive/two",
              "kind": "manual", "text": "of another stage" } ] }),
        "/control/cost" => json!({ "stages": [ { "pipeline": "metrics", "processor": "adaptive", "before": 120.0,
            "now": 12.4, "model": { "name": "new_relic" } } ] }),
        "/debug/entities" => json!({ "processors": [ { "processor": "aggregate", "groups": 24, "entities": [
            { "verdict": "fold", "reason": "topk_rank", "count": 547 }, { "verdict": "individual", "reason": "x", "count": 53 } ] } ],
            "rankings": [ { "pipeline": "metrics", "processor": "topk", "measure": "process.cpu.time", "kept": 50, "first": [
                { "rank": 1, "entity": "nginx 4", "host": null, "value": 0.71, "since_unix_nano": null },
                { "rank": 2, "entity": "leaky 9", "host": "a", "value": 0.4, "since_unix_nano": "1763719525000000000" } ] } ] }),
        "/debug/explain?resource=*" => json!({ "truncated": false, "entities": [
            word(1, "postgres", "keep", "priority_critical"), word(2, "leaky", "fold", "topk_rank"),
            word(3, "leaky", "fold", "topk_rank"), word(4, "nginx", "individual", "topk_process.cpu.time") ] }),
        other => return Err(format!("there is no {other}")),
    })
}

fn screen(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(row).collect()
}

fn app(ask: impl Fn(&str) -> Result<Value, String>) -> App {
    let mut app = App::new("localhost:55679");
    app.take(Look::take(ask), Instant::now());
    app
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/golden").join(name).with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn a_wide_and_a_narrow_screen() {
    golden("wide", &screen(&mut app(busy), 150, 44));
    golden("narrow", &screen(&mut app(busy), 56, 40));
    let mut scrolled = app(busy);
    (0..99).for_each(|_| assert!(scrolled.press(KeyCode::Down, KeyModifiers::NONE)));
    let text = screen(&mut scrolled, 56, 12);
    assert!(text.contains("Decisions") && !text.contains("Budget"), "{text}");
    assert!(scrolled.press(KeyCode::Up, KeyModifiers::NONE) && screen(&mut scrolled, 56, 12).contains("Entities"));
}

#[test]
fn what_is_missing_is_said() {
    let mut other = app(busy);
    assert!(other.press(KeyCode::Tab, KeyModifiers::NONE));
    golden("no-budget", &screen(&mut other, 80, 30));
    let alone =
        |target: &str| if target == "/control/state" { busy(target) } else { Err(format!("there is no {target}")) };
    golden("only-state", &screen(&mut app(alone), 130, 40));
    let none = |_: &str| Ok(json!({ "stages": [] }));
    assert!(screen(&mut app(none), 60, 10).contains("has a stage with profiles"));
    let mut gone = app(|_| Err("nobody answers".into()));
    assert!(screen(&mut gone, 60, 10).contains("nothing seen") && screen(&mut gone, 60, 10).contains("nobody answers"));
    let odd = |_: &str| Ok(json!({ "stages": [{ "budget": "much" }] }));
    assert!(screen(&mut app(odd), 70, 10).contains("of another version"));
    let mut late = app(busy);
    late.take(Err("nobody answers".into()), Instant::now());
    let text = screen(&mut late, 110, 40);
    assert!(text.contains("last seen 0s ago") && text.contains("Budget"), "what was seen stays");
}

#[test]
fn every_size_is_drawn_and_no_control_character_reaches_the_terminal() {
    for (width, height) in [(1, 1), (2, 3), (10, 5), (20, 100), (109, 24), (110, 24), (300, 10)] {
        let text = screen(&mut app(busy), width, height);
        assert!(!text.contains('\u{1b}'), "{width} x {height}");
    }
}

#[test]
fn keys_that_end_it() {
    let mut app = app(busy);
    assert!(!app.press(KeyCode::Char('q'), KeyModifiers::NONE) && !app.press(KeyCode::Esc, KeyModifiers::NONE));
    assert!(!app.press(KeyCode::Char('c'), KeyModifiers::CONTROL) && app.press(KeyCode::Char('c'), KeyModifiers::NONE));
}

#[test]
fn the_newest_words_of_all_stages_count_and_keep_before_fold() {
    let word = |stage: &str, decision: &str| Word { stage: stage.into(), decision: decision.into(), ..Word::default() };
    let verdict = |words: &[(&str, &str)]| {
        let decisions = words.iter().map(|(stage, decision)| word(stage, decision)).collect();
        Entity { decisions, ..Entity::default() }.verdict().map(|word| word.decision.clone())
    };
    assert_eq!(verdict(&[]), None);
    assert_eq!(verdict(&[("topk", "individual"), ("topk", "fold")]).as_deref(), Some("individual"));
    assert_eq!(verdict(&[("topk", "fold"), ("priority", "keep")]).as_deref(), Some("keep"));
    assert_eq!(verdict(&[("topk", "individual"), ("filter", "fold")]).as_deref(), Some("fold"));
}
