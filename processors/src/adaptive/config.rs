//! Settings of `adaptive`: profiles in their order, and which one starts.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings, duration};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::steering::{Law, Remediation};
use crate::cost;

/// Processors that cannot stand in a profile, and why not.
const NOT_IN_A_PROFILE: [(&str, &str); 5] = [
    ("adaptive", "profiles cannot hold profiles"),
    ("memory_limiter", "it must hold whatever the profile; it belongs first in the pipeline"),
    ("batch", "it joins batches, and what is marked would be forgotten; it belongs behind adaptive in the pipeline"),
    ("resource_detection", NEW_IDENTITY),
    ("resourcedetection", NEW_IDENTITY),
];
const NEW_IDENTITY: &str =
    "a change of profile would change the identity of every series; it belongs before adaptive in the pipeline";

/// Settings of `adaptive`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The profile that starts; "" = the first, which thins least.
    pub profile: String,
    /// Chains of processors of the same configuration by id, from the least to the most thinning. None by default: what
    /// may be thinned is for the user to say. An empty chain lets everything pass.
    pub profiles: Profiles,
    /// What the output may grow to. Without limits by default.
    pub budget: Budget,
    /// How the budget is held, where there is one.
    #[serde(with = "Law")]
    pub control: phoenix_control::Settings,
    /// What may be done by itself against an explosion of series. Nothing by default.
    pub remediation: Remediation,
    /// How what the output costs is reckoned.
    pub cost: cost::Config,
    /// How the series in and out, and those of the profiles that are not at work, are counted.
    pub estimates: Estimation,
}

/// How series are counted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Estimation {
    /// A series counts for so long after its last point, by the agent's clock. 5m: what Prometheus takes for stale, and in
    /// the range of what backends bill by.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub window: Duration,
    /// Whether profiles that are not at work are followed on the same batches, so that it is known what they would let
    /// out, and their state is warm when they are chosen. True: nothing can be relaxed safely without.
    pub shadows: bool,
}

impl Default for Estimation {
    fn default() -> Self {
        Estimation { window: Duration::from_secs(300), shadows: true }
    }
}

/// Windows outside of this are a typing error: shorter than scrapes are apart, or longer than a day.
pub(crate) const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Limits of the output.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Series that may leave the processor within the window of the estimates; 0 = no limit, and the profile is chosen by
    /// hand.
    pub series: u64,
    /// Time between two decisions. 10s: a scrape's usual interval; more often there is nothing new to decide on.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Decide and say so, and change nothing. False: a budget is there to be held.
    pub observe_only: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { series: 0, interval: Duration::from_secs(10), observe_only: false }
    }
}

/// Decisions are not made more often than this: each reads all estimates.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// Nor are they further apart.
const MOST_INTERVAL: Duration = Duration::from_secs(3600);

impl Config {
    /// The settings of the control law; `None` where there is no budget to hold.
    pub fn law(&self) -> Option<phoenix_control::Settings> {
        let budget = Some(self.budget.series as f64).filter(|series| *series > 0.0)?;
        Some(phoenix_control::Settings { budget, ..self.control.clone() })
    }
}

/// Profiles in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profiles(pub Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Profiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Profiles;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of profile names to lists of processor ids")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Profiles, M::Error> {
                let mut profiles = Vec::new();
                while let Some(profile) = map.next_entry()? {
                    profiles.push(profile);
                }
                Ok(Profiles(profiles))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Profiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, members) in &self.0 {
            map.serialize_entry(name, members)?;
        }
        map.end()
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let Profiles(profiles) = &self.profiles;
        if profiles.is_empty() {
            report.error("profiles", "at least one profile is needed, such as conservative: [aggregate]");
        }
        if !WINDOWS.contains(&self.estimates.window) {
            report.error("estimates.window", "must be from 1s to 24h");
        }
        if !(LEAST_INTERVAL..=MOST_INTERVAL).contains(&self.budget.interval) {
            report.error("budget.interval", "must be from 100ms to 1h");
        }
        report.within("control", |report| {
            for (path, why) in self.control.check() {
                report.error(path, why);
            }
            if self.control.stale_after < self.budget.interval {
                report.error("stale_after", "must not be shorter than budget.interval");
            }
        });
        report.within("remediation", |report| self.remediation.check(report));
        report.within("cost", |report| self.cost.check(report));
        for (name, members) in profiles {
            if name.is_empty() {
                report.error("profiles", "a profile needs a name");
            }
            for (i, member) in members.iter().enumerate() {
                let kind = member.split('/').next().unwrap_or_default();
                if let Some((_, why)) = NOT_IN_A_PROFILE.iter().find(|(refused, _)| *refused == kind) {
                    report.error(
                        &format!("profiles.{name}[{i}]"),
                        format!("{member:?} cannot stand in a profile: {why}"),
                    );
                }
            }
        }
        if !self.profile.is_empty() && !profiles.is_empty() && !profiles.iter().any(|(name, _)| *name == self.profile) {
            let names: Vec<&str> = profiles.iter().map(|(name, _)| name.as_str()).collect();
            report.error("profile", format!("no profile is named {:?}; there are: {}", self.profile, names.join(", ")));
        }
    }
}
