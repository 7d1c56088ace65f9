//! gRPC by tonic's client.

use std::io::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use phoenix_pipeline::Refusal;
use phoenix_transport::answer::RpcStatus;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::support::*;

pub async fn client(rig: &Rig) -> MetricsServiceClient<Channel> {
    MetricsServiceClient::connect(format!("http://{}", rig.grpc)).await.unwrap()
}

#[tokio::test]
async fn plain_and_packed_messages_arrive() {
    let rig = Rig::new("", "", "");
    let mut plain = client(&rig).await;
    let mut gzip = client(&rig).await.send_compressed(CompressionEncoding::Gzip);
    let mut zstd = client(&rig).await.send_compressed(CompressionEncoding::Zstd);
    for (i, client) in [&mut plain, &mut gzip, &mut zstd].into_iter().enumerate() {
        let response = client.export(request(2000 * (i + 1), 40)).await.unwrap().into_inner();
        assert!(response.partial_success.is_none());
    }
    let arrived = rig.arrived();
    assert_eq!(arrived, [request(2000, 40), request(4000, 40), request(6000, 40)]);
    assert_eq!(rig.counted("otelcol_receiver_accepted_metric_points", "grpc"), 12_000.0);
    assert_eq!(rig.held(), 0.0);
}

#[tokio::test]
async fn refusals_carry_their_code_and_hint() {
    let rig = Rig::new("", "max_recv_msg_size_mib: 1", "");
    let mut client = client(&rig).await;
    rig.mood(Mood::Refuse(Refusal::Later { reason: "50 % full".into(), after: Some(Duration::from_secs(3)) }));
    let status = client.export(request(1, 1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "50 % full"));
    assert_eq!(RpcStatus::decode(status.details()).unwrap().retry_delay(), Some(Duration::from_secs(3)));
    rig.mood(Mood::Refuse(Refusal::last("never")));
    assert_eq!(client.export(request(1, 1)).await.unwrap_err().code(), Code::Internal);
    rig.mood(Mood::Take);
    let status = client.export(request(1, 2 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.details().is_empty(), "final: no hint");
    client.export(request(1, 1)).await.unwrap();
    assert_eq!(rig.held(), 0.0);
}

#[tokio::test]
async fn unusable_points_are_counted_in_the_answer() {
    let rig = Rig::new("", "", "");
    let mut nameless = request(4, 1);
    nameless.resource_metrics[0].scope_metrics[0].metrics[0].name.clear();
    let partial = client(&rig).await.export(nameless).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!((partial.rejected_data_points, partial.error_message.contains("no name")), (4, true));
    assert!(rig.arrived().is_empty());
}

#[tokio::test]
async fn other_signals_and_unknown_codings_are_unimplemented() {
    let rig = Rig::new("", "", "");
    let answer = raw(&rig, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &[], &[0, 0, 0, 0, 0]).await;
    assert_eq!(answer["grpc-status"], "12");
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let answer = raw(&rig, path, &[("grpc-encoding", "br")], &[1, 0, 0, 0, 0]).await;
    assert_eq!(
        (&answer["grpc-status"], answer["grpc-accept-encoding"].to_str().unwrap().contains("gzip")),
        (&"12".parse().unwrap(), true)
    );
    let answer = raw(&rig, path, &[], &[0, 0, 0, 0, 2, 0x0a, 0x7f]).await;
    assert_eq!(answer["grpc-status"], "3");
    assert!(answer["grpc-message"].to_str().unwrap().contains("at byte"), "{answer:?}");
    let answer = raw(&rig, path, &[], &[0, 0, 0, 0, 9, 1]).await;
    assert_eq!(answer["grpc-status"], "3");
}

/// The headers of the answer to a call with this body.
pub async fn raw(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &[u8]) -> http::HeaderMap {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let stream = tokio::net::TcpStream::connect(rig.grpc).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        http::Request::post(format!("http://{}{path}", rig.grpc)).header("content-type", "application/grpc+proto");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = http_body_util::Full::new(bytes::Bytes::copy_from_slice(body));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.headers().clone()
}

#[tokio::test]
async fn a_large_frame_that_comes_slowly_is_taken() {
    let rig = Rig::new("admission: {stall_timeout: 2s}", "", "");
    // Within the window that every stream has before settings are exchanged.
    let (at, sent) = (rig.grpc, request(30, 2000));
    let message = sent.encode_to_vec();
    let sender = tokio::task::spawn_blocking(move || {
        let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
            let length = (body.len() as u32).to_be_bytes();
            [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
        };
        let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        let kind = "application/grpc";
        // POST, http, a path and a content type that the table does not hold.
        let head = [b"\x83\x86\x04".as_slice(), &[path.len() as u8], path.as_bytes()].concat();
        let head = [head.as_slice(), b"\x0f\x10", &[kind.len() as u8], kind.as_bytes()].concat();
        let body = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let start = [preface, frame(4, 0, 0, &[]), frame(1, 4, 1, &head)].concat();
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.write_all(&start).unwrap();
        // Longer than the stall timeout in all, with progress all the time.
        let data = frame(0, 1, 1, &body);
        for piece in data.chunks(data.len() / 12 + 1) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(250));
        }
        stream
    });
    let _open = sender.await.unwrap();
    rig.until("it arrives", |rig| !rig.arrived().is_empty()).await;
    assert_eq!(rig.arrived(), [sent]);
}
