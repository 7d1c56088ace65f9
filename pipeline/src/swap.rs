//! What is counted when stages are replaced while they run: by a lane that takes up new chains, or by a stage that holds
//! profiles.

use crate::{ComponentId, Handover, Instrument, Level, Metrics};

static SWAPS: Instrument = Instrument {
    name: "phoenix_swaps_total",
    unit: "{swap}",
    description: "Times new stages were taken up between two batches, by a reload or by a change of profile.",
    level: Level::Basic,
};
static FAILURES: Instrument = Instrument {
    name: "phoenix_swap_failures_total",
    unit: "{swap}",
    description: "Times a profile could not be built, so that the stages at work went on.",
    level: Level::Basic,
};
static PIECES: Instrument = Instrument {
    name: "phoenix_swap_pieces_total",
    unit: "{piece}",
    description: "Pieces of processor state at a swap, by what became of them.",
    level: Level::Normal,
};

/// Counts one swap.
pub fn taken_up(metrics: &Metrics) {
    metrics.counter(&SWAPS, &[]).increment(1);
}

/// Counts a swap that did not come about.
pub fn failed(metrics: &Metrics) {
    metrics.counter(&FAILURES, &[]).increment(1);
}

/// Counts what became of one stage's state.
pub fn pieces(metrics: &Metrics, processor: &ComponentId, handover: Handover) {
    let Handover { carried, flushed, discarded } = handover;
    for (fate, pieces) in [("carried", carried), ("flushed", flushed), ("discarded", discarded)] {
        if pieces > 0 {
            let labels = [("processor", processor.as_str()), ("fate", fate)];
            metrics.counter(&PIECES, &labels).increment(pieces as u64);
        }
    }
}
