//! OTLP over gRPC: one unary method, framed by hand.
//!
//! A unary call is one HTTP/2 request with a five-byte prefix, so the message's bytes are taken as they are and every limit
//! stands before the memory it protects. Answers are gRPC's own: status 200, the verdict in the trailers.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use phoenix_pipeline::admission::Budget;
use phoenix_transport::answer::{Encoding, ExportMetricsServiceResponse, Partial, code};
use phoenix_transport::coding::{ACCEPTED, Coding};

use super::body::{self, Framing, PREFIX, Pace};
use super::counts::{Reason, Refused};
use super::intake::{Body, Intake};
use super::server::Answer;
use super::watch::Activity;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The service.
pub(super) struct Service {
    pub(super) intake: Intake,
    /// The largest message.
    pub(super) limit: usize,
    pub(super) pace: Pace,
}

impl Service {
    pub(super) async fn take(
        &self,
        request: Request<Incoming>,
        room: &Budget,
        activity: &Activity,
    ) -> Result<Option<Partial>, Refused> {
        let (head, incoming) = request.into_parts();
        if head.uri.path() != EXPORT {
            return Err(unimplemented(Reason::NotServed, format!("{} is not served here", head.uri.path())));
        }
        let coding = head.headers.get("grpc-encoding").map_or("", |value| value.to_str().unwrap_or("?"));
        let coding = Coding::named(coding)
            .ok_or_else(|| unimplemented(Reason::Unsupported, format!("the coding {coding:?} is not served")))?;
        let mut held = room.take(0)?;
        let mut bytes = body::read(incoming, Framing::Grpc, self.limit, self.pace, activity, &mut held).await?;
        let message = bytes.split_off(PREFIX.min(bytes.len()));
        let coding = match framed(&bytes, message.len()).map_err(Refused::malformed)? {
            false => Coding::Identity,
            true if coding == Coding::Identity => {
                return Err(Refused::malformed("the message is flagged as packed, and no grpc-encoding says how"));
            }
            true => coding,
        };
        self.intake.take(Body { bytes: message, coding, encoding: Encoding::Proto, limit: self.limit, held }).await
    }
}

/// Whether the message behind this prefix is packed.
fn framed(prefix: &[u8], length: usize) -> Result<bool, &'static str> {
    let [packed, claimed @ ..] = prefix else { return Err("the request holds no message") };
    let claimed: [u8; 4] = claimed.try_into().map_err(|_| "the message's prefix is cut short")?;
    match (packed, (u32::from_be_bytes(claimed) as usize).cmp(&length)) {
        (0 | 1, std::cmp::Ordering::Equal) => Ok(*packed == 1),
        (0 | 1, std::cmp::Ordering::Greater) => Err("the message ends before its length"),
        (0 | 1, std::cmp::Ordering::Less) => Err("more than one message in a unary call"),
        _ => Err("the message's prefix is not gRPC's"),
    }
}

fn unimplemented(reason: Reason, message: String) -> Refused {
    Refused::new(reason, code::UNIMPLEMENTED, StatusCode::NOT_FOUND, message)
}

/// Whether this is a call at all; anything else is answered as HTTP.
pub(super) fn is_call(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
    request.method() == Method::POST && kind.starts_with(b"application/grpc")
}

pub(super) fn answer(outcome: &Result<Option<Partial>, Refused>) -> Response<Answer> {
    let (trailers, body) = match outcome {
        Ok(partial) => {
            let message = ExportMetricsServiceResponse::taken(partial.clone()).write(Encoding::Proto);
            let mut framed = BytesMut::with_capacity(PREFIX + message.len());
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            framed.put(message);
            let trailers = HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), code::OK.into())]);
            let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
            (HeaderMap::new(), body.boxed_unsync())
        }
        // "Trailers-Only": the verdict stands in the one block of headers.
        Err(refused) => (refused.rejection.grpc(), Empty::<Bytes>::new().boxed_unsync()),
    };
    let mut response = Response::new(body);
    *response.headers_mut() = trailers;
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_and_the_message_must_agree() {
        assert_eq!(framed(&[0, 0, 0, 1, 2], 258), Ok(false));
        assert_eq!(framed(&[1, 0, 0, 0, 0], 0), Ok(true));
        for (prefix, length, wrong) in [
            ([].as_slice(), 0, "no message"),
            (&[0, 0, 0], 0, "cut short"),
            (&[0, 0, 0, 0, 9], 8, "before its length"),
            (&[0, 0, 0, 0, 9], 10, "more than one"),
            (&[2, 0, 0, 0, 0], 0, "not gRPC's"),
        ] {
            assert!(framed(prefix, length).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
