//! Reading a request's body: room is taken before bytes are kept, and a body that does not get on is cut.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use phoenix_pipeline::admission::Held;
use phoenix_transport::answer::code;
use tokio::time::{Instant, timeout_at};

use super::counts::{Reason, Refused};
use super::watch::Activity;

/// Bytes of gRPC's prefix: whether the message is packed, and its length.
pub(super) const PREFIX: usize = 5;
/// Fewer bytes than this in one [`Pace::stall`] is no progress: 400 B/s at the default, a tenth of the slowest radio.
const PROGRESS: u64 = 4 << 10;
/// A body in one piece from this size on is kept as it is; a smaller one is copied, for the piece may lie in a buffer many
/// times its size.
const KEEP: usize = 16 << 10;
/// The first step where nobody said how long the body is.
const FIRST: usize = 8 << 10;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The whole body is the message.
    Bare,
    /// One message behind a prefix, which stays in front of it.
    Grpc,
}

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Without progress.
    pub(super) stall: Duration,
    /// In all; zero = no limit.
    pub(super) whole: Duration,
}

/// Reads a body of at most `limit` bytes (its prefix aside) into memory that `held` has room for. A frame of HTTP/2 is
/// handed over when it is whole, and a large one may take long: what came on the connection meanwhile is progress, too.
///
/// # Errors
/// Too large by what it says or what it is, no room, no progress, or the peer went away.
pub(super) async fn read(
    mut body: Incoming,
    framing: Framing,
    limit: usize,
    pace: Pace,
    activity: &Activity,
    held: &mut Held,
) -> Result<Bytes, Refused> {
    let most = match framing {
        Framing::Bare => limit,
        Framing::Grpc => limit.saturating_add(PREFIX),
    };
    let mut room = Room { held, granted: 0, most, limit };
    // Known from Content-Length: then what is too large or has no room is refused before a byte of it was read.
    let mut expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if let Some(length) = expected {
        room.upto(length)?;
    }
    let started = Instant::now();
    let end = (!pace.whole.is_zero()).then(|| started + pace.whole);
    let (mut window, mut heard) = (started, activity.bytes());
    let mut unframed = framing == Framing::Grpc;
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let deadline = end.map_or(window + pace.stall, |end| end.min(window + pace.stall));
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                let now = Instant::now();
                if activity.bytes().saturating_sub(heard) < PROGRESS || end.is_some_and(|end| end <= now) {
                    return Err(stalled());
                }
                (window, heard) = (now, activity.bytes());
                continue;
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(gone()),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers of a request say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(rest.len(), Bytes::len) + data.len();
        room.upto(so_far)?;
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => append(&mut rest, &data, expected, &mut room)?,
            Some(one) => {
                append(&mut rest, &one, expected, &mut room)?;
                append(&mut rest, &data, expected, &mut room)?;
            }
        }
        if unframed {
            let head = first.as_deref().unwrap_or(&rest);
            if let Some(length) = head.get(1..PREFIX).map(|mut length| length.get_u32() as usize) {
                room.upto(length.saturating_add(PREFIX))?;
                (unframed, expected) = (false, expected.or(Some(length + PREFIX)));
            }
        }
    }
    Ok(match first {
        Some(one) if one.len() >= KEEP => one,
        Some(one) => Bytes::copy_from_slice(&one),
        None => rest.freeze(),
    })
}

/// Appends within the capacity that was granted, or asks for twice as much.
fn append(to: &mut BytesMut, data: &[u8], expected: Option<usize>, room: &mut Room<'_>) -> Result<(), Refused> {
    let needed = to.len() + data.len();
    if needed > to.capacity() {
        let next = expected.unwrap_or_else(|| (to.capacity() * 2).clamp(FIRST, room.most)).max(needed);
        room.upto(next)?;
        to.reserve(next - to.len());
    }
    to.extend_from_slice(data);
    Ok(())
}

/// The room a body has been granted.
struct Room<'h> {
    held: &'h mut Held,
    granted: usize,
    most: usize,
    limit: usize,
}

impl Room<'_> {
    /// Room for `bytes` in all.
    fn upto(&mut self, bytes: usize) -> Result<(), Refused> {
        if bytes > self.most {
            return Err(Refused::too_large(self.limit));
        }
        if let Some(more) = bytes.checked_sub(self.granted) {
            self.held.grow(more)?;
            self.granted = bytes;
        }
        Ok(())
    }
}

fn stalled() -> Refused {
    let message = "the body did not get on and was given up";
    Refused::new(Reason::Stalled, code::DEADLINE_EXCEEDED, StatusCode::REQUEST_TIMEOUT, message)
}

fn gone() -> Refused {
    let message = "the body ended before its time";
    Refused::new(Reason::Gone, code::INTERNAL, StatusCode::BAD_REQUEST, message)
}
