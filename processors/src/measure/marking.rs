//! The last step of a marking stage: marks what belongs to the entities of a batch, and reports it.

use phoenix_pipeline::{Decision, Mark, Marks};
use phoenix_telemetry::Batch;

use super::{Report, Slot, Target, Tracker, slot_of};

impl<S: Default> Tracker<S> {
    /// Marks all that belongs to the entities of the newest batch as `decide` says, unless what an earlier stage said
    /// outdoes it. Entities that stay for the reason `unranked` are counted as such.
    pub(crate) fn mark(
        &mut self,
        batch: &Batch,
        marks: &mut Marks,
        report: &mut Report,
        unranked: &'static str,
        decide: impl Fn(&Target, Option<&Slot<S>>) -> (Decision, &'static str),
    ) {
        let mut without = Vec::new();
        let Tracker { targets, slots, .. } = self;
        for target in targets.iter() {
            let before = marks.of(target.entity);
            let slot = slot_of(slots, target);
            let (decision, reason) = decide(target, slot.as_deref());
            let outdone = match before.decision {
                Decision::Open => false,
                Decision::Fold => decision != Decision::Keep,
                Decision::Keep => true,
            };
            if outdone {
                continue;
            }
            if reason == unranked {
                without.push(target.key);
            }
            marks.mark(target.entity, decision, reason);
            report.count(decision, reason);
            let mark = Mark { decision, class: before.class, reason };
            if let Some(slot) = slot
                && !slot.told.is_some_and(|told| is_same(told, mark))
            {
                slot.told = Some(mark);
                report.changed(*target, slot.time, mark);
            }
        }
        report.unranked(without, self.take_ignored());
        report.finish(batch);
    }
}

/// Whether two marks say the same. Reasons are constants: mostly it is enough to see that they are the same one.
fn is_same(a: Mark, b: Mark) -> bool {
    (a.decision, a.class) == (b.decision, b.class) && (std::ptr::eq(a.reason, b.reason) || a.reason == b.reason)
}
