//! The Collector's feature gates that mean something here: the two that choose the newer names of host metrics.
//!
//! Phoenix has a setting for that (`naming: v1`); the gates are taken so that an existing command line works.

use phoenix_pipeline::config::nearest;
use std::fmt::Write;

/// A gate.
struct Gate {
    id: &'static str,
    about: &'static str,
}

const EMIT: &str = "receiver.hostmetrics.EmitV1SystemConventions";
const ONLY: &str = "receiver.hostmetrics.DontEmitV0SystemConventions";
const PROCESS_EMIT: &str = "scraper.process.EmitV1SystemConventions";
const PROCESS_ONLY: &str = "scraper.process.DontEmitV0SystemConventions";

const GATES: [Gate; 4] = [
    Gate { id: EMIT, about: "with the next: hostmetrics uses the newer names, as its setting naming: v1" },
    Gate { id: ONLY, about: "with the last: the older names are not sent" },
    Gate { id: PROCESS_EMIT, about: "part of the first; the names of one scraper cannot be chosen alone" },
    Gate { id: PROCESS_ONLY, about: "part of the second; the names of one scraper cannot be chosen alone" },
];

/// Whether the gates choose the newer names. Later words win over earlier ones.
///
/// # Errors
/// An unknown gate, or a choice that is not served.
pub(super) fn newer_names(words: &[String]) -> Result<bool, String> {
    let mut enabled = [false; GATES.len()];
    for word in words.iter().filter(|word| !word.is_empty()) {
        let (on, id) = match word.strip_prefix('-') {
            Some(id) => (false, id),
            None => (true, word.strip_prefix('+').unwrap_or(word)),
        };
        match GATES.iter().position(|gate| gate.id == id).and_then(|at| enabled.get_mut(at)) {
            Some(gate) => *gate = on,
            None => return Err(unknown(id)),
        }
    }
    match enabled {
        [false, false, false, false] => Ok(false),
        // The receiver's gates include those of its scrapers.
        [true, true, _, _] => Ok(true),
        [true, false, _, _] => Err(format!(
            "--feature-gates: both sets of names at once are not served; add {ONLY} for the newer ones only"
        )),
        [false, true, _, _] => Err(format!("--feature-gates: {ONLY} alone would leave no metrics; add {EMIT}")),
        [false, false, _, _] => {
            Err(format!("--feature-gates: the names of the process scraper cannot be chosen alone; use {EMIT},{ONLY}"))
        }
    }
}

/// The table of gates, or one of them.
///
/// # Errors
/// An unknown gate.
pub(super) fn text(id: Option<&str>) -> Result<String, String> {
    let mut out = String::new();
    let mut row = |gate: &Gate| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<56} {:<8} {:<6} {}", gate.id, "false", "Alpha", gate.about);
    };
    match id {
        None => GATES.iter().for_each(&mut row),
        Some(id) => match GATES.iter().find(|gate| gate.id == id) {
            Some(gate) => row(gate),
            None => return Err(unknown(id)),
        },
    }
    Ok(format!("{:<56} {:<8} {:<6} DESCRIPTION\n{out}", "ID", "ENABLED", "STAGE"))
}

fn unknown(id: &str) -> String {
    let near = nearest(id, GATES.iter().map(|gate| gate.id))
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default();
    format!("no such feature gate: {id:?}{near} phoenix featuregate lists them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(words: &[&str]) -> Result<bool, String> {
        newer_names(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_pair_chooses_the_newer_names() {
        assert_eq!(chosen(&[]), Ok(false));
        assert_eq!(chosen(&[EMIT, ONLY]), Ok(true));
        assert_eq!(chosen(&[EMIT, ONLY, PROCESS_EMIT]), Ok(true));
        assert_eq!(chosen(&[EMIT, &format!("-{EMIT}")]), Ok(false));
        for wrong in [&[EMIT][..], &[ONLY], &[PROCESS_EMIT, PROCESS_ONLY], &["service.partialReload"]] {
            assert!(chosen(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_table_lists_all_or_one() {
        assert_eq!(text(None).unwrap().lines().count(), 1 + GATES.len());
        assert_eq!(text(Some(EMIT)).unwrap().lines().count(), 2);
        assert!(text(Some("x")).is_err());
    }
}
