//! A series explosion in the built agent: an attribute that never has the same value twice is found, named, summed over
//! where that is permitted, and let go again; and nothing that was counted is lost by it.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Room, Running, agent, free_port, get, until};
use crate::otlp_json::read;

/// Points of one request to the agent, half of them of each method.
const POINTS: u64 = 20;
const METRIC: &str = "http.server.requests";

/// A service that counts requests, and its agent.
struct Shop {
    room: Room,
    phoenix: Running,
    otlp: u16,
    admin: u16,
    /// Time of the last points, Unix nanoseconds.
    last: u64,
    sent: u64,
    ids: u64,
}

impl Shop {
    /// Everything that takes minutes on a real host, in seconds.
    fn open(remediation: &str) -> Shop {
        let (room, otlp, admin) = (Room::new(), free_port(), free_port());
        let out = room.path("out.json").display().to_string();
        let config = room.file(
            "phoenix.yaml",
            &format!(
                "receivers:
  otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{otlp}\"}}}}}}
processors:
  cardinality: {{}}
  aggregate: {{}}
  adaptive:
    budget: {{series: 100000, interval: 200ms}}
    control: {{detect: {{history: 20, warm_up: 4, least: 30.0, deploy_time: 2s}}}}
    remediation: {{{remediation}}}
    profiles: {{loose: [aggregate]}}
exporters:
  file: {{path: \"{out}\", flush_interval: 100ms}}
service:
  admin: {{endpoint: \"127.0.0.1:{admin}\"}}
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [otlp], processors: [cardinality, adaptive], exporters: [file]}}
"
            ),
        );
        let phoenix = room.start("phoenix", agent().arg("--config").arg(config));
        let mut shop = Shop { room, phoenix, otlp, admin, last: 0, sent: 0, ids: 0 };
        until("the agent listens", PATIENCE, || TcpStream::connect((Ipv4Addr::LOCALHOST, otlp)).ok());
        // Of what began before the first points nothing is known.
        shop.serve(false);
        shop.sent = 0;
        shop
    }

    /// Serves some requests and says so: one counter a method, or one a request.
    fn serve(&mut self, leaks: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let mut points = Vec::new();
        self.sent += POINTS;
        for method in ["GET", "PUT"] {
            let mut point = |start: u64, value: u64, id: Option<u64>| {
                let mut attributes = vec![text("method", method)];
                attributes.extend(id.map(|id| text("request.id", &format!("r-{id}"))));
                points.push(json!({
                    "attributes": attributes, "startTimeUnixNano": start.to_string(),
                    "timeUnixNano": now.to_string(), "asInt": value.to_string(),
                }));
            };
            if leaks {
                for _ in 0..POINTS / 2 {
                    self.ids += 1;
                    point(self.last + 1, 1, Some(self.ids));
                }
            } else {
                // A life of its own each time, as the counters of a job have.
                point(self.last + 1, POINTS / 2, None);
            }
        }
        self.last = now;
        let sum = json!({ "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points });
        let resource = [("host.name", "h"), ("service.name", "shop"), ("process.executable.name", "shopd")];
        let body = json!({ "resourceMetrics": [{
            "resource": { "attributes": resource.map(|(key, value)| text(key, value)) },
            "scopeMetrics": [{ "scope": { "name": "shop" }, "metrics": [{ "name": METRIC, "unit": "1", "sum": sum }] }],
        }] })
        .to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.otlp)).expect("the agent listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let length = body.len();
        let head =
            "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json";
        write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        std::thread::sleep(Duration::from_millis(100));
    }

    /// Goes on serving until the stage's state is as wanted.
    fn serve_until(&mut self, what: &str, leaks: bool, wanted: impl Fn(&Value) -> bool) -> Value {
        let admin = self.admin;
        until(what, 3 * PATIENCE, || {
            self.serve(leaks);
            Some(ask(admin, "/control/state")?["stages"][0].clone()).filter(|stage| wanted(stage))
        })
    }

    /// What a reader of the file adds up, and the ids that are in it.
    fn read(&self) -> (u64, HashSet<String>, usize) {
        let mut last: BTreeMap<(BTreeMap<String, String>, u64), f64> = BTreeMap::new();
        let (mut ids, mut sums) = (HashSet::new(), 0);
        let samples = read(&self.room.path("out.json"));
        let began = samples.iter().map(|sample| sample.time).min().unwrap_or_default();
        for sample in samples.into_iter().filter(|sample| sample.metric == METRIC && sample.start >= began) {
            ids.extend(sample.attributes.get("request.id").cloned());
            if let Some(folded) = sample.attributes.get("phoenix.folded") {
                assert_eq!(folded, "request.id");
                assert!(sample.attributes.contains_key("method"), "no other attribute is summed over: {sample:?}");
                sums += 1;
            }
            last.insert((sample.attributes, sample.start), sample.value);
        }
        (last.values().sum::<f64>() as u64, ids, sums)
    }
}

fn ask(admin: u16, path: &str) -> Option<Value> {
    let answer = get(admin, path, "").ok().filter(|answer| answer.status == 200)?;
    Some(serde_json::from_str(&answer.body).expect("the answer is JSON"))
}

fn is(stage: &Value, status: &str) -> bool {
    let all = stage["remediations"].as_array().into_iter().flatten();
    all.clone().any(|one| one["action"] == "fold_attribute" && one["status"] == status)
}

#[test]
fn an_exploding_attribute_is_found_named_summed_over_and_let_go_again() {
    let mut shop = Shop::open("fold_attribute: true, expires_after: 10s, max_per_hour: 1");
    let quiet = shop.serve_until("some looks", false, |stage| stage["leading"]["metrics"][0]["name"] == METRIC);
    assert_eq!(quiet["explosions"], json!([]), "{quiet}");
    (0..70).for_each(|_| shop.serve(false));

    let stage = shop.serve_until("the explosion is answered", true, |stage| is(stage, "active"));
    let found = &stage["explosions"][0];
    assert_eq!((&found["metric"], &found["attribute"]), (&METRIC.into(), &"request.id".into()), "{stage}");
    assert_eq!((&found["attribute_of"], &found["name"]), (&"points".into(), &"shopd".into()), "{stage}");
    assert_eq!(found["name_of"], "process.executable.name");
    let culprit = &stage["culprits"][0];
    let named = (&culprit["metric"], &culprit["attribute"], &culprit["name"], &culprit["share"]);
    assert_eq!(named, (&METRIC.into(), &"request.id".into(), &"shopd".into(), &1.0.into()), "{stage}");
    assert_eq!(stage["remediations"][0]["target"], format!("request.id of {METRIC}"));

    // From the next batch on no id leaves, however many come.
    (0..3).for_each(|_| shop.serve(true));
    std::thread::sleep(Duration::from_millis(500));
    let (_, before, _) = shop.read();
    (0..20).for_each(|_| shop.serve(true));
    std::thread::sleep(Duration::from_millis(500));
    let (_, after, sums) = shop.read();
    assert_eq!(before.len(), after.len(), "ids leave no more");
    assert!(sums > 10, "their sums do: {sums}");

    // It ends by itself, though the explosion goes on; another one is more than the hour allows, and only proposed.
    shop.serve_until("the action is taken back", true, |stage| is(stage, "proposed") && !is(stage, "active"));
    (0..3).for_each(|_| shop.serve(true));
    std::thread::sleep(Duration::from_millis(500));
    assert!(shop.read().1.len() > after.len(), "ids leave again");
    let log = ask(shop.admin, "/control/decisions?limit=100").expect("the decisions");
    let texts: Vec<&str> =
        log["decisions"].as_array().into_iter().flatten().filter_map(|one| one["text"].as_str()).collect();
    for said in
        ["told apart by request.id", "sum over request.id of", "taken back: sum over", "not permitted: sum over"]
    {
        assert!(texts.iter().any(|text| text.contains(said)), "{said}: {log}");
    }
    shop.phoenix.end();
    assert_eq!(shop.read().0, shop.sent, "nothing that was counted is lost");
}

#[test]
fn what_is_not_permitted_is_proposed_and_changes_nothing() {
    let mut shop = Shop::open("");
    (0..70).for_each(|_| shop.serve(false));
    let stage = shop.serve_until("the explosion is found", true, |stage| is(stage, "proposed"));
    assert!(!is(&stage, "active"), "{stage}");
    (0..3).for_each(|_| shop.serve(true));
    // What the page and `phoenix top` read, of the same agent.
    let history = ask(shop.admin, "/control/history").expect("the history");
    let rows = history["stages"][0]["rows"].as_array().expect("rows").len();
    assert!(rows > 0 && stage["risk"]["score"].is_number() && stage["forecast"].is_object(), "{stage} {history}");
    assert!(ask(shop.admin, "/control/cost").expect("the cost")["stages"].is_array());
    shop.phoenix.end();
    let (sum, ids, sums) = shop.read();
    assert_eq!((sum, ids.len() as u64, sums), (shop.sent, shop.ids, 0), "all of it leaves as it came");
}
