//! What a connection does when nobody is looking: whether it speaks at all, how long a request's head takes, how long it
//! idles, and that an answer reaches a peer that is still sending.
//!
//! [`Watched`] stands between the socket (or TLS) and HTTP and only notes what passes; [`Activity`] is where it notes it,
//! and says when a connection is overdue. Closing is the server's.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long, and for how many bytes, a closed connection is still read, so that the peer gets to read the answer: bytes
/// that arrive at a socket nobody reads make the kernel take back what was sent.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;

/// Limits in time on a connection without a request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until the first byte, and for the head of an HTTP/1 request.
    pub(super) first: Duration,
    /// Between two requests; zero = for ever.
    pub(super) idle: Duration,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Silent,
    SlowHead,
    Idle,
}

impl Overdue {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Overdue::Silent => "silent",
            Overdue::SlowHead => "slow_head",
            Overdue::Idle => "idle",
        }
    }
}

/// What one connection did last.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When it was opened or the last request ended.
    idle_since: Instant,
    /// When the first byte after that came.
    heard: Option<Instant>,
    /// What it speaks, by its first byte; HTTP/2's own frames come without a request.
    http2: Option<bool>,
    requests: usize,
    /// Bytes that came, of whatever request.
    bytes: u64,
    /// Whether the next answer is to be the last.
    leaving: bool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let idle_since = Instant::now();
        let state = State { idle_since, heard: None, http2: None, requests: 0, bytes: 0, leaving: false };
        Arc::new(Activity(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.bytes += bytes.len() as u64;
        // HTTP/2 begins with "PRI * HTTP/2.0"; HTTP/1 has PUT, POST and PATCH with a P in front, none with PR.
        if state.http2.is_none() {
            state.http2 = Some(bytes.starts_with(b"PRI"));
        }
        if state.requests == 0 && state.heard.is_none() {
            state.heard = Some(Instant::now());
        }
    }

    /// Bytes that came so far.
    pub(super) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// A request is under way as long as what this returns lives.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.state().requests += 1;
        UnderWay(Arc::clone(self))
    }

    /// The connection is to go after its next answer. Whether it can be told at once, as HTTP/2 can.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        state.leaving = true;
        state.http2 == Some(true)
    }

    /// Whether the next answer is to be the last.
    pub(super) fn leaving(&self) -> bool {
        self.state().leaving
    }

    /// Whether a connection that is to go may be closed, or told so, without the loss of a request.
    pub(super) fn may_close(&self) -> bool {
        let state = self.state();
        state.http2 == Some(true) || (state.requests == 0 && state.heard.is_none())
    }

    /// Whether the connection has waited, or been waited for, too long.
    pub(super) fn overdue(&self, patience: Patience, now: Instant) -> Option<Overdue> {
        let state = self.state();
        if state.requests > 0 {
            return None;
        }
        let late = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        match (state.http2, state.heard) {
            (None, _) => late(state.idle_since, patience.first).then_some(Overdue::Silent),
            (Some(false), Some(heard)) => late(heard, patience.first).then_some(Overdue::SlowHead),
            _ => (!patience.idle.is_zero() && late(state.idle_since, patience.idle)).then_some(Overdue::Idle),
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.idle_since = Instant::now();
        state.heard = None;
    }
}

/// A stream that notes what passes.
pub(super) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Watched { inner, activity, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if let Some(new) = buf.filled().get(before..).filter(|new| !new.is_empty()) {
            self.activity.heard(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            this.lingering = Some((Box::pin(sleep(LINGER)), 0));
        }
        let Some((time, read)) = &mut this.lingering else { return Poll::Ready(Ok(())) };
        let mut space = [0u8; 8 << 10];
        while *read < LINGER_BYTES && time.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *read += buf.filled().len(),
                // The peer has closed, or is gone.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { first: Duration::from_secs(10), idle: Duration::from_secs(300) };

    fn after(activity: &Activity, seconds: u64) -> Option<Overdue> {
        activity.overdue(PATIENCE, Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn each_kind_of_waiting_has_its_limit() {
        let activity = Activity::new();
        assert_eq!((after(&activity, 9), after(&activity, 10)), (None, Some(Overdue::Silent)));
        activity.heard(b"POST /v1");
        assert_eq!((after(&activity, 9), after(&activity, 10)), (None, Some(Overdue::SlowHead)));
        let request = activity.request();
        activity.heard(b"body");
        assert_eq!(after(&activity, 10_000), None, "bodies have a limit of their own");
        drop(request);
        assert_eq!((after(&activity, 299), after(&activity, 300)), (None, Some(Overdue::Idle)));
    }

    #[test]
    fn a_connection_that_is_to_go_stays_while_a_request_is_begun() {
        let activity = Activity::new();
        assert!(!activity.leave() && activity.leaving() && activity.may_close());
        activity.heard(b"POST /v1");
        assert!(!activity.may_close(), "the head has begun");
        let request = activity.request();
        assert!(!activity.may_close());
        drop(request);
        assert!(activity.may_close());
        let http2 = Activity::new();
        http2.heard(b"PRI * HTTP/2.0");
        let _request = http2.request();
        assert!(http2.leave() && http2.may_close(), "GOAWAY lets requests under way be finished");
    }

    #[test]
    fn the_frames_of_http2_are_no_head() {
        let activity = Activity::new();
        activity.heard(b"PRI * HTTP/2.0");
        assert_eq!(after(&activity, 299), None);
        assert_eq!(after(&activity, 300), Some(Overdue::Idle));
        assert_eq!(
            activity.overdue(Patience { idle: Duration::ZERO, ..PATIENCE }, Instant::now() + LINGER * 9999),
            None
        );
    }
}
