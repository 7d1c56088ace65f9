//! The synthetic host through the real `adaptive` stage with all of its profiles: what the simulator's figures come from
//! and are held against. No clock: time passes by scrapes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phoenix_control::simulate::response::Response;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::estimates::Thinning;
use phoenix_pipeline::{BuildError, ComponentId, Context, Delivery, Marks, Processor, ProfileError, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{Batch, Limits};

use crate::{Host, INTERVAL};

/// The profiles, least thinning first.
pub const PROFILES: [&str; 3] = ["conservative", "balanced", "aggressive"];

/// Points of the table of responses: processes, of which so many are replaced in a cycle, under a pressure.
pub const PROCESSES: [f64; 8] = [120.0, 160.0, 200.0, 250.0, 320.0, 420.0, 560.0, 800.0];
/// See [`PROCESSES`].
pub const CHURN: [f64; 3] = [0.0, 1.0, 6.0];
/// See [`PROCESSES`].
pub const PRESSURE: [f64; 4] = [0.0, 0.5, 0.75, 1.0];
/// Scrapes until groups have come and gone and windows are full, and those that are measured.
const FIRST: usize = 80;
const SCRAPES: usize = 20;

/// The config that is measured: the one the agent runs without being told.
const CONFIG: &str = include_str!("../../configs/default.yaml");

/// The steady response of each profile: means over the scrapes of `SCRAPES`.
///
/// # Errors
/// The stage cannot be built, or measures nothing.
pub fn response(processes: f64, churn: f64, pressure: f64) -> Result<[Response; PROFILES.len()], BuildError> {
    let mut stage = Adaptive::new(processes as usize, 1)?;
    let mut mean = [Response::default(); PROFILES.len()];
    for scrape in 1..=FIRST + SCRAPES {
        let measured = stage.next(processes as usize, churn as usize, pressure).ok_or("nothing is measured")?;
        for (mean, profile) in mean.iter_mut().zip(&measured.profiles).filter(|_| scrape > FIRST) {
            mean.individual += profile.individual as f64 / SCRAPES as f64;
            mean.grouped += profile.grouped as f64 / SCRAPES as f64;
            mean.window += profile.output.series / SCRAPES as f64;
            mean.attribution += profile.attribution.cpu.ok_or("no CPU time")? / SCRAPES as f64;
        }
    }
    Ok(mean)
}

/// The stage and the host that feeds it.
pub struct Adaptive {
    host: Host,
    site: Site,
    stage: Box<dyn Processor>,
    now: Instant,
    pressure: f64,
}

impl Adaptive {
    /// With the first profile at work.
    ///
    /// # Errors
    /// A processor refuses its settings.
    pub fn new(processes: usize, seed: u64) -> Result<Self, BuildError> {
        let config = parse("default.yaml", CONFIG).map_err(|mistakes| format!("{mistakes:?}"))?;
        let config = Arc::new(config.get("processors").cloned().ok_or("it has no processors")?);
        let build = move |id: &ComponentId, site: &Site| {
            let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind())).ok_or("no such processor")?;
            let settings = config.get(id.as_str()).ok_or("it is not configured")?;
            (factory.build)(settings, &Site { id: id.clone(), ..site.clone() })
        };
        let build = Arc::new(build);
        let of_stage = Arc::clone(&build);
        let siblings: phoenix_pipeline::Siblings =
            Arc::new(move |id, site| of_stage(id, &Site { siblings: None, ..site.clone() }));
        let site = Site { siblings: Some(siblings), ..Site::for_test("adaptive") };
        let stage = build(&site.id, &site)?;
        Ok(Adaptive { host: Host::seeded(processes, seed), site, stage, now: Instant::now(), pressure: f64::NAN })
    }

    /// Puts a profile to work, as a controller does: another thread builds it, and this one, the lane, takes it up.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn put(&mut self, profile: &str) -> Result<(), ProfileError> {
        let (profiles, id, profile) = (self.site.profiles.clone(), self.site.id.clone(), Arc::from(profile));
        let steering = std::thread::spawn(move || profiles.steer(&"metrics".into(), &id, &profile));
        while !steering.is_finished() {
            let (mut batch, mut marks, mut delivery) = (Batch::default(), Marks::default(), Delivery::none());
            let mut context = Context { now: self.now, delivery: &mut delivery, marks: &mut marks };
            self.stage.flush(&mut batch, &mut context, false);
        }
        steering.join().unwrap_or(Err(ProfileError::None))
    }

    /// One scrape later, with so many processes of which so many replaced others: what the stage measured.
    pub fn next(&mut self, processes: usize, replaced: usize, pressure: f64) -> Option<Arc<Thinning>> {
        self.host.pass_with(processes, replaced);
        self.now += Duration::from_secs(INTERVAL);
        let mut batch = Batch::decode(Bytes::from(self.host.scrape()), &Limits::default()).ok()?;
        let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
        self.stage.process(&mut batch, &mut Context { now: self.now, delivery: &mut delivery, marks: &mut marks });
        if self.pressure != pressure {
            self.pressure = pressure;
            self.site.profiles.press("metrics", &self.site.id, Some(pressure));
        }
        self.site.estimates.thinning.list().pop().map(|published| published.snapshot)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use phoenix_control::simulate::response;

    /// `cargo run --release -p phoenix-benches --bin response` writes what is to stand there.
    #[test]
    fn the_simulator_s_table_is_what_the_chain_does() {
        assert_eq!(response::NAMES, PROFILES);
        let points: Vec<_> = response::points().collect();
        for point in [(120.0, 0.0, 0.0), (160.0, 6.0, 1.0), (200.0, 1.0, 0.75)] {
            assert!(points.contains(&point), "{point:?} is a point of the table");
            let (processes, churn, pressure) = point;
            let table = response::at(processes, churn, pressure);
            for (table, now) in table.into_iter().zip(super::response(processes, churn, pressure).unwrap()) {
                let near = |one: f64, two: f64, least: f64| (one - two).abs() <= 0.02 * one.max(two) + least;
                let same = near(table.individual, now.individual, 9.0)
                    && near(table.grouped, now.grouped, 5.0)
                    && near(table.window, now.window, 9.0)
                    && near(table.attribution, now.attribution, 0.01);
                assert!(same, "{point:?}: the table says {table:?}, the chain does {now:?}");
            }
        }
    }
}
