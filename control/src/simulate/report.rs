//! How well a budget was held.

use super::CYCLE;

/// What a run came to. But for `billed`, the output is that of the profile at work, as if it had been so all the time: what
/// the answer can change. A breach is a time above the budget without a break.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Switches of the profile.
    pub switches: u32,
    /// Switches that undo the one before within half an hour.
    pub reversals: u32,
    /// Times the budget was breached.
    pub breaches: u32,
    /// Seconds above the budget.
    pub above: u64,
    /// Seconds for which all that left within the window was above the budget: what a backend counts, and bills. It falls
    /// only when the window has passed, however fast the answer was.
    pub billed: u64,
    /// Longest breach, in seconds.
    pub settling: u64,
    /// How far above the budget at most, in parts of it.
    pub overshoot: f64,
    /// Mean share of use that stayed individually attributed.
    pub attribution: f64,
}

/// The head of a table of [`Report::row`]s.
pub const TABLE: &str =
    "SCENARIO     DECIDER     SWITCHES  REVERSALS  BREACHES  ABOVE(s)  BILLED(s)  SETTLING(s)  OVERSHOOT  ATTRIBUTION";

impl Report {
    /// A line of a table for a person.
    pub fn row(&self, scenario: &str, decider: &str) -> String {
        let Report { switches, reversals, breaches, above, billed, settling, overshoot, attribution } = self;
        format!(
            "{scenario:<12} {decider:<11} {switches:>8}  {reversals:>9}  {breaches:>8}  {above:>8}  {billed:>9}  {settling:>11}  {:>8.1}%  {:>10.1}%",
            overshoot * 100.0,
            attribution * 100.0
        )
    }
}

/// Half an hour: a switch undone later follows the load, one undone sooner was for nothing.
const REVERSAL: u64 = 1800;

#[derive(Clone, Debug)]
pub(crate) struct Tally {
    budget: f64,
    report: Report,
    at: u64,
    breach: u64,
    last: Option<(u64, bool)>,
}

impl Tally {
    pub(crate) fn new(budget: f64) -> Self {
        Tally { budget, report: Report::default(), at: 0, breach: 0, last: None }
    }

    pub(crate) fn add(&mut self, output: f64, left: f64, attribution: f64, before: usize, after: usize) {
        let report = &mut self.report;
        if output > self.budget {
            report.breaches += u32::from(self.breach == 0);
            self.breach += CYCLE;
            report.above += CYCLE;
            report.settling = report.settling.max(self.breach);
            report.overshoot = report.overshoot.max(output / self.budget - 1.0);
        } else {
            self.breach = 0;
        }
        report.billed += if left > self.budget { CYCLE } else { 0 };
        report.attribution += attribution;
        if before != after {
            let tighter = after > before;
            let undone = self.last.is_some_and(|(at, was)| was != tighter && self.at - at < REVERSAL);
            report.switches += 1;
            report.reversals += u32::from(undone);
            self.last = Some((self.at, tighter));
        }
        self.at += CYCLE;
    }

    pub(crate) fn report(mut self) -> Report {
        self.report.attribution /= (self.at / CYCLE).max(1) as f64;
        self.report
    }
}
