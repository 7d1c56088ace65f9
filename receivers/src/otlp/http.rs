//! OTLP over HTTP/1.1 and HTTP/2, binary and JSON.
//!
//! Answers speak the request's encoding; where it had none that OTLP knows they are plain text.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use phoenix_pipeline::admission::Budget;
use phoenix_transport::answer::{Encoding, ExportMetricsServiceResponse, Partial, code};
use phoenix_transport::coding::{ACCEPTED, Coding};

use super::body::{self, Framing, Pace};
use super::counts::{Reason, Refused};
use super::intake::{Body, Intake};
use super::server::Answer;
use super::watch::Activity;

/// The service.
pub(super) struct Service {
    pub(super) intake: Intake,
    /// Where metrics are posted to.
    pub(super) path: String,
    /// The largest body.
    pub(super) limit: usize,
    pub(super) pace: Pace,
    /// Codings that are undone.
    pub(super) codings: Vec<Coding>,
    /// Sent with every answer.
    pub(super) headers: HeaderMap,
}

impl Service {
    pub(super) async fn take(
        &self,
        request: Request<Incoming>,
        room: &Budget,
        activity: &Activity,
    ) -> Result<Option<Partial>, Refused> {
        let (head, incoming) = request.into_parts();
        if head.uri.path() != self.path {
            let message = format!("{} is not served here; metrics are posted to {}", head.uri.path(), self.path);
            return Err(Refused::new(Reason::NotServed, code::UNIMPLEMENTED, StatusCode::NOT_FOUND, message));
        }
        if head.method != Method::POST {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Err(Refused::new(Reason::NotServed, code::UNIMPLEMENTED, status, "only POST is served here"));
        }
        let unsupported = |message: String| {
            Refused::new(Reason::Unsupported, code::INVALID_ARGUMENT, StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
        };
        let encoding = encoding(&head.headers).ok_or_else(|| {
            unsupported("the content type must be application/x-protobuf or application/json".to_owned())
        })?;
        let coding = head.headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
        let coding = Coding::named(coding)
            .filter(|coding| self.codings.contains(coding))
            .ok_or_else(|| unsupported(format!("the content encoding {coding:?} is not served")))?;
        let mut held = room.take(0)?;
        let bytes = body::read(incoming, Framing::Bare, self.limit, self.pace, activity, &mut held).await?;
        self.intake.take(Body { bytes, coding, encoding, limit: self.limit, held }).await
    }

    pub(super) fn answer(
        &self,
        encoding: Option<Encoding>,
        outcome: &Result<Option<Partial>, Refused>,
    ) -> Response<Answer> {
        let mut response = match outcome {
            Ok(partial) => {
                let encoding = encoding.unwrap_or(Encoding::Proto);
                let mut response = Response::new(ExportMetricsServiceResponse::taken(partial.clone()).write(encoding));
                let kind = HeaderValue::from_static(encoding.content_type());
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(refused) => refused.rejection.http(encoding),
        };
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
            }
            _ => {}
        }
        response.headers_mut().extend(self.headers.clone());
        response.map(|body: Bytes| Full::new(body).boxed_unsync())
    }
}

/// The encoding a request is written in.
pub(super) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    headers.get(header::CONTENT_TYPE).and_then(Encoding::of)
}
