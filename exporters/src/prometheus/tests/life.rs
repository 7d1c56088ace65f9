//! What becomes of series over time: who takes whose place, when they end, what the page has room for and gives back.

use proptest::prelude::*;

use super::*;

#[test]
fn deltas_are_added_up() {
    let mut store = store();
    let push = |store: &mut Store, time, value| {
        absorb(
            store,
            vec![
                sum("hits", "", DELTA, true, vec![number(time, value, &[])]),
                histogram(DELTA, vec![buckets(time, &[1.0], &[1, 1], 2.0)]),
            ],
        )
    };
    push(&mut store, 10, 5.0);
    push(&mut store, 20, 2.5);
    assert!(text(&store).contains("hits_total 7.5\n") && text(&store).contains("latency_seconds_bucket{le=\"1\"} 2\n"));
    let again = push(&mut store, 20, 2.5);
    assert_eq!(again.dropped[&Reason::OutOfOrder], 2, "an increment counts once");
    assert!(text(&store).contains("hits_total 7.5\n"));
    absorb(&mut store, vec![histogram(DELTA, vec![buckets(30, &[1.0, 2.0], &[1, 1, 1], 2.0)])]);
    assert!(text(&store).contains("le=\"2\"} 2\n"), "other bounds begin anew");
}

#[test]
fn a_conflicting_type_stays_off_until_the_other_is_gone() {
    let mut store =
        of(vec![gauge("x.y", "", vec![number(1, 1.0, &[])]), histogram(CUMULATIVE, vec![buckets(1, &[], &[], 0.0)])]);
    let conflicting = || {
        vec![
            sum("x_y", "", CUMULATIVE, false, vec![number(1, 2.0, &[("a", "b")])]),
            metric("x-y", "", Data::Summary(Summary { data_points: vec![SummaryDataPoint::default()] })),
            gauge("latency_seconds_sum", "", vec![number(1, 1.0, &[])]),
        ]
    };
    let absorbed = absorb(&mut store, conflicting());
    assert_eq!(absorbed.dropped, [(Reason::TypeConflict, 2)].into(), "a gauge is a gauge, whatever it was");
    assert_eq!(absorbed.complaints.len(), 2);
    assert!(absorb(&mut store, conflicting()).complaints.is_empty(), "said once");
    let gone = |metric: &mut Metric| {
        if let Some(Data::Gauge(gauge)) = &mut metric.data {
            gauge.data_points[0].flags = 1
        }
    };
    let mut closed = gauge("x.y", "", vec![number(2, 0.0, &[])]);
    gone(&mut closed);
    absorb(&mut store, vec![closed]);
    let mut other = sum("x_y", "", CUMULATIVE, false, vec![number(2, 0.0, &[("a", "b")])]);
    if let Some(Data::Sum(sum)) = &mut other.data {
        sum.data_points[0].flags = 1;
    }
    absorb(&mut store, vec![other]);
    assert_eq!(
        absorb(&mut store, conflicting().split_off(1)).dropped[&Reason::TypeConflict],
        1,
        "only the histogram's is left"
    );
    assert!(text(&store).contains("# TYPE x_y summary"));
    assert_eq!(
        absorb(&mut store, vec![gauge("target_info", "", vec![number(1, 1.0, &[])])]).dropped[&Reason::TypeConflict],
        1
    );
}

#[test]
fn series_end_with_their_flag_and_with_time() {
    let mut store = store();
    let start = Instant::now();
    let points = |time, flags| {
        vec![gauge(
            "g",
            "",
            vec![number(time, 1.0, &[("a", "1")]), NumberDataPoint { flags, ..number(time, 1.0, &[("a", "2")]) }],
        )]
    };
    store.absorb(&batch(points(1, 0)), start);
    assert_eq!(store.len(), 2);
    store.absorb(&batch(points(2, 1)), start + Duration::from_secs(200));
    assert!(!text(&store).contains("a=\"2\"") && store.len() == 1, "gone at once");
    assert_eq!(store.sweep(start + Duration::from_secs(500)), 0, "300 s after the last value it is still there");
    assert_eq!(store.sweep(start + Duration::from_secs(501)), 1);
    assert_eq!(text(&store), "");
    store.absorb(&batch(points(3, 1)), start);
    assert_eq!(store.len(), 1, "a name comes back, a flag alone makes no series");
}

#[test]
fn the_newer_point_wins() {
    let mut store = of(vec![gauge("g", "", vec![number(10, 1.0, &[])])]);
    assert_eq!(absorb(&mut store, vec![gauge("g", "", vec![number(9, 2.0, &[])])]).dropped[&Reason::OutOfOrder], 1);
    absorb(&mut store, vec![gauge("g", "", vec![number(10, 3.0, &[])])]);
    assert!(text(&store).ends_with("g 3\n"), "the same time corrects");
}

#[test]
fn the_page_is_bounded() {
    let mut store = Store::new(TextOptions::default(), Bounds { series: 2, ..bounds() });
    let points = |n: u64| (0..n).map(|i| number(1, 1.0, &[("i", &i.to_string())])).collect();
    let absorbed = store.absorb(&batch(vec![gauge("g", "", points(5))]), Instant::now());
    assert_eq!((store.len(), absorbed.dropped[&Reason::Overflow], absorbed.complaints.len()), (2, 3, 1));
    let long = "x".repeat(70_000);
    let absorbed =
        self::store().absorb(&batch(vec![gauge("g", "", vec![number(1, 1.0, &[("a", &long)])])]), Instant::now());
    assert_eq!(absorbed.dropped[&Reason::Malformed], 1);
}

#[test]
fn the_page_empties_and_gives_back_what_it_held() {
    let mut store = of(vec![gauge("g", "", vec![number(1, 1.0, &[])])]);
    let start = Instant::now();
    for i in 0..200u64 {
        let resource = i.to_string();
        let batch = request(vec![of_resource(
            &[("host.name", &resource)],
            vec![gauge("g", "", vec![number(1, 1.0, &[("i", &resource)])])],
        )]);
        store.absorb(&batch, start);
    }
    assert_eq!(store.len(), 201);
    store.sweep(start + Duration::from_secs(1000));
    assert_eq!((store.len(), store.targets().len(), store.families().count()), (0, 0, 0));
}

#[test]
fn a_histogram_counts_every_bound_against_the_limit() {
    let mut store = Store::new(TextOptions::default(), Bounds { series: 7, ..bounds() });
    let push = |store: &mut Store, time, bounds: &[f64]| {
        let counts = vec![1; bounds.len() + 1];
        absorb(store, vec![histogram(CUMULATIVE, vec![buckets(time, bounds, &counts, 1.0)])]).dropped
    };
    assert!(push(&mut store, 1, &[1.0, 2.0]).is_empty());
    assert_eq!((store.len(), text(&store).lines().filter(|line| !line.starts_with('#')).count()), (5, 5));
    assert!(push(&mut store, 2, &[1.0, 2.0, 3.0, 4.0]).is_empty());
    assert_eq!(push(&mut store, 3, &[1.0, 2.0, 3.0, 4.0, 5.0])[&Reason::Overflow], 1, "nor may it grow beyond");
    assert_eq!(store.len(), 7);
    assert!(push(&mut store, 4, &[]).is_empty());
    assert_eq!(store.len(), 3);
}

fn process(pid: &str, parent: &str, time: u64, value: f64) -> ResourceMetrics {
    let resource = [
        ("process.pid", pid),
        ("process.parent_pid", parent),
        ("process.command_line", "secret"),
        ("host.name", "h"),
        ("process.executable.name", "sh"),
    ];
    of_resource(&resource, vec![counter("c", vec![number(time, value, &[])])])
}

#[test]
fn processes_are_told_apart_and_a_changed_parent_replaces_its_series() {
    let mut store = store();
    let absorbed = store.absorb(&request(vec![process("1", "0", 1, 1.0), process("2", "1", 1, 2.0)]), Instant::now());
    assert_eq!(absorbed, Absorbed::default());
    let row = "target_info{host_name=\"h\"} 1\n";
    assert!(text(&store).ends_with(&format!("c_total{{process_executable_name=\"sh\",process_pid=\"1\"}} 1\nc_total{{process_executable_name=\"sh\",process_pid=\"2\"}} 2\n# HELP target_info Target metadata\n# TYPE target_info gauge\n{row}")), "{}", text(&store));
    assert!(open_metrics(&store).contains("# TYPE target info\ntarget_info{"));

    let absorbed = store.absorb(&request(vec![process("1", "0", 2, 3.0), process("2", "7", 2, 4.0)]), Instant::now());
    assert_eq!((absorbed.replaced, absorbed.dropped.len()), (1, 0));
    assert!(text(&store).contains("process_pid=\"2\"} 4\n") && store.len() == 2);

    let same_time = store.absorb(&request(vec![process("2", "8", 2, 9.0)]), Instant::now());
    assert_eq!(same_time.dropped[&Reason::Collision], 1);
    assert!(
        text(&store).contains("process_pid=\"2\"} 4\n") && same_time.complaints[0].contains("resource_constant_labels")
    );
    let by_wildcard =
        TextOptions { resource_labels: ResourceLabels::new(&["*"], &[]).unwrap(), ..TextOptions::default() };
    let mut all = Store::new(by_wildcard, bounds());
    all.absorb(&request(vec![process("1", "0", 1, 1.0)]), Instant::now());
    assert!(text(&all).contains("process_parent_pid=\"0\"") && !text(&all).contains("secret"));
}

/// What a process reports in a scrape: its id, whether its attributes come in another order, which of its points are left, and its
/// value; none where its series end.
type Report = (u8, bool, [bool; 4], Option<u8>);

fn report((pid, turned, _, value): Report, time: u64) -> ResourceMetrics {
    let pid = pid.to_string();
    let mut resource = vec![("process.pid", pid.as_str()), ("host.name", "h"), ("process.executable.name", "sh")];
    let mut states = ["user", "system"];
    if turned {
        resource.reverse();
        states.reverse();
    }
    let point = |labels: &[(&str, &str)]| match value {
        Some(value) => number(time, f64::from(value), labels),
        None => NumberDataPoint { value: None, flags: 1, ..number(time, 0.0, labels) },
    };
    let of_state = |state: &str| point(&[("state", state)]);
    of_resource(
        &resource,
        vec![
            counter("cpu", states.map(of_state).to_vec()),
            gauge("memory", "By", vec![point(&[])]),
            sum("read", "By", DELTA, true, vec![point(&[("direction", "read")])]),
        ],
    )
}

proptest! {
    /// What a batch repeats is not worked out again; it must come to the same as every resource by itself, and nothing may be
    /// held for longer than its series.
    #[test]
    fn a_batch_says_what_its_resources_say_one_by_one(
        scrapes in prop::collection::vec(prop::collection::vec(any::<(u8, bool, [bool; 4], Option<u8>)>(), 0..6), 1..8),
    ) {
        let (mut whole, mut single) = (store(), store());
        let now = Instant::now();
        for (time, reports) in (1..).zip(&scrapes) {
            let reports: Vec<Report> = reports.iter().map(|(pid, turned, left, value)| (pid % 4, *turned, *left, *value)).collect();
            let mut all = request(reports.iter().map(|of| report(*of, time)).collect());
            let mut places = reports.iter().flat_map(|(_, _, left, _)| left);
            all.drop_points(|_| !*places.next().unwrap());
            let mut absorbed = Absorbed::default();
            for of in &reports {
                let mut one = request(vec![report(*of, time)]);
                let mut places = of.2.iter();
                one.drop_points(|_| !*places.next().unwrap());
                let Absorbed { dropped, replaced, .. } = single.absorb(&one, now);
                dropped.into_iter().for_each(|(reason, points)| *absorbed.dropped.entry(reason).or_default() += points);
                absorbed.replaced += replaced;
            }
            let Absorbed { dropped, replaced, .. } = whole.absorb(&all, now);
            prop_assert_eq!((dropped, replaced), (absorbed.dropped, absorbed.replaced));
            prop_assert_eq!(text(&whole), text(&single));
        }
        prop_assert_eq!(whole.len(), single.len());
        prop_assert!(whole.held() <= 4 * whole.len());
        whole.sweep(now + Duration::from_secs(1000));
        prop_assert_eq!(whole.held(), 0);
    }
}
