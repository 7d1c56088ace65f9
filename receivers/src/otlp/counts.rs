//! What the receiver counts of its peers, and why a request was refused.

use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Gauge};
use phoenix_pipeline::admission::Full;
use phoenix_pipeline::auth::Unauthenticated;
use phoenix_pipeline::{Instrument, Level, Metrics, Refusal};
use phoenix_transport::answer::{Rejection, code};

static REQUESTS: Instrument = Instrument {
    name: "phoenix_receiver_refused_requests_total",
    unit: "{request}",
    description: "Requests of peers that were refused, by reason.",
    level: Level::Basic,
};
static CONNECTIONS: Instrument = Instrument {
    name: "phoenix_receiver_connections",
    unit: "{connection}",
    description: "Connections of peers that are open.",
    level: Level::Normal,
};
static CLOSED: Instrument = Instrument {
    name: "phoenix_receiver_closed_connections_total",
    unit: "{connection}",
    description: "Connections that the receiver closed by itself, by reason.",
    level: Level::Normal,
};

/// When a sender that was told "later" may come again, where nobody knows better: it backs off further by itself.
const LATER: Duration = Duration::from_secs(1);

/// Why a request was refused, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No such path or method, or another signal.
    NotServed,
    /// Without the credentials that are asked for.
    Unauthenticated,
    /// A content type or a coding that is not served.
    Unsupported,
    /// Larger than a message may be.
    TooLarge,
    /// No room: too much is on its way in.
    NoRoom,
    /// The body stalled.
    Stalled,
    /// The peer went away within the body.
    Gone,
    /// Not OTLP.
    Malformed,
    /// The pipeline or its exporters said "later".
    Later,
    /// They said "never".
    Never,
}

const REASONS: [(Reason, &str); 10] = [
    (Reason::NotServed, "not_served"),
    (Reason::Unauthenticated, "unauthenticated"),
    (Reason::Unsupported, "unsupported"),
    (Reason::TooLarge, "too_large"),
    (Reason::NoRoom, "no_room"),
    (Reason::Stalled, "stalled"),
    (Reason::Gone, "gone"),
    (Reason::Malformed, "malformed"),
    (Reason::Later, "pipeline_later"),
    (Reason::Never, "pipeline_never"),
];

/// A request that was refused: why, and what its sender hears.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) rejection: Rejection,
}

impl Refused {
    pub(super) fn new(reason: Reason, code: i32, status: StatusCode, message: impl Into<String>) -> Self {
        Refused { reason, rejection: Rejection::last(code, status, message) }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the request is larger than the limit of {limit} bytes");
        Refused::new(Reason::TooLarge, code::RESOURCE_EXHAUSTED, StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn malformed(why: impl std::fmt::Display) -> Self {
        Refused::new(Reason::Malformed, code::INVALID_ARGUMENT, StatusCode::BAD_REQUEST, why.to_string())
    }
}

impl From<Unauthenticated> for Refused {
    fn from(why: Unauthenticated) -> Self {
        Refused::new(Reason::Unauthenticated, code::UNAUTHENTICATED, StatusCode::UNAUTHORIZED, why.to_string())
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            // Even alone it would not fit, so it must not come again.
            Full::Ever(limit) => {
                let message = format!("the request takes more than the {limit} bytes one connection may take");
                Refused::new(Reason::TooLarge, code::RESOURCE_EXHAUSTED, StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            Full::Now => {
                let message = "too much data is on its way in; come again later";
                let rejection =
                    Rejection::later(code::RESOURCE_EXHAUSTED, StatusCode::TOO_MANY_REQUESTS, message, LATER);
                Refused { reason: Reason::NoRoom, rejection }
            }
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Later { reason, after } => {
                let after = after.unwrap_or(LATER);
                let rejection = Rejection::later(code::UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE, reason, after);
                Refused { reason: Reason::Later, rejection }
            }
            Refusal::Final { reason } => {
                Refused::new(Reason::Never, code::INTERNAL, StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
        }
    }
}

/// The counters of one transport of one receiver.
#[derive(Clone)]
pub(super) struct Counts {
    refused: [(Reason, Counter); 10],
    pub(super) connections: Gauge,
    closed: [(&'static str, Counter); 4],
}

impl Counts {
    pub(super) fn new(metrics: &Metrics, receiver: &str, transport: &str) -> Self {
        let labels = |reason: &'static str| [("receiver", receiver), ("transport", transport), ("reason", reason)];
        let closed = |reason: &'static str| (reason, metrics.counter(&CLOSED, &labels(reason)));
        Counts {
            refused: REASONS.map(|(reason, name)| (reason, metrics.counter(&REQUESTS, &labels(name)))),
            connections: metrics.gauge(&CONNECTIONS, &[("receiver", receiver), ("transport", transport)]),
            closed: ["too_many", "silent", "slow_head", "idle"].map(closed),
        }
    }

    pub(super) fn refused(&self, reason: Reason) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    pub(super) fn closed(&self, reason: &str) {
        if let Some((_, counter)) = self.closed.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }
}
