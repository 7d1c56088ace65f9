//! What an answer waits for, and how it all ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use phoenix_pipeline::auth::{Authenticator, ServerAuth, Unauthenticated};
use phoenix_pipeline::{Ack, ComponentId, Site};
use prost::Message;

use super::grpc::client;
use super::support::*;

#[tokio::test]
async fn ok_is_said_when_the_promise_is_kept_and_room_is_held_until_then() {
    let rig = Rig::new("ack: on_export", "", "");
    rig.mood(Mood::Hold);
    let mut client = client(&rig).await;
    let answer = tokio::spawn(async move { client.export(request(100, 10)).await });
    rig.until("the batch arrives", |rig| rig.sink.held.lock().unwrap().len() == 1).await;
    let mut delivery = rig.sink.held.lock().unwrap().pop().unwrap();
    assert_eq!(delivery.ack(), Some(Ack::OnExport));
    delivery.reached(Ack::OnDisk);
    assert!(rig.held() > 1000.0, "{}", rig.held());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!answer.is_finished(), "on disk is not exported");
    delivery.delivered();
    answer.await.unwrap().unwrap();
    assert_eq!(rig.held(), 0.0);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let rig = Rig::new("ack: on_export", "", "");
    rig.mood(Mood::Hold);
    let mut client = client(&rig).await;
    let answer = tokio::spawn(async move { client.export(request(100, 10)).await });
    rig.until("the batch arrives", |rig| rig.sink.held.lock().unwrap().len() == 1).await;
    answer.abort();
    assert!(answer.await.is_err());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rig.held() > 1000.0, "the data is still there, so its room is still taken");
    rig.sink.held.lock().unwrap().pop().unwrap().delivered();
    assert_eq!((rig.held(), rig.arrived().len()), (0.0, 1));
}

#[tokio::test]
async fn the_end_answers_what_is_under_way_and_takes_nothing_new() {
    let mut rig = Rig::new("ack: on_export", "", "");
    rig.mood(Mood::Hold);
    let mut grpc = client(&rig).await;
    let (http, second) = (rig.http, grpc.clone());
    let first = tokio::spawn(async move { grpc.export(request(1, 1)).await });
    let over_http = tokio::spawn(export(http, &[], request(1, 1).encode_to_vec()));
    rig.until("both batches arrive", |rig| rig.sink.held.lock().unwrap().len() == 2).await;
    let (sink, address) = (Arc::clone(&rig.sink), rig.grpc);
    let stopping = tokio::spawn(async move {
        rig.receiver.shutdown().await;
        rig
    });
    let end = Instant::now() + PATIENCE;
    while MetricsServiceClient::connect(format!("http://{address}")).await.is_ok() {
        assert!(Instant::now() < end, "the port closes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!stopping.is_finished());
    for delivery in sink.held.lock().unwrap().drain(..) {
        delivery.delivered();
    }
    first.await.unwrap().unwrap();
    assert_eq!(over_http.await.unwrap().status, 200);
    drop(second);
    let rig = tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
    assert_eq!(rig.counted("phoenix_receiver_connections", "grpc"), 0.0);
}

/// A request over HTTP/1 that leaves the connection open.
fn kept_open() -> Vec<u8> {
    let body = request(1, 1).encode_to_vec();
    let length = body.len();
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

// On one thread, so that what is sent just before the end is not read before it.
#[tokio::test]
async fn the_end_answers_what_is_on_its_way() {
    let mut rig = Rig::new("", "", "");
    let (bytes, http) = (kept_open(), rig.http);
    let (used, silent, half) = (bytes.clone(), TcpStream::connect(http).unwrap(), TcpStream::connect(http).unwrap());
    let used = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(http).unwrap();
        assert_eq!(ask(&mut stream, &used).unwrap(), (true, false));
        stream
    });
    let (used, mut idle) = (used.await.unwrap(), TcpStream::connect(http).unwrap());
    (&half).write_all(&bytes[..20]).unwrap();
    rig.until("four connections", |rig| rig.counted("phoenix_receiver_connections", "http") == 4.0).await;
    // Several, as each has one chance of its own to be answered before it is told.
    let backlog: Vec<_> = (0..8).map(|_| TcpStream::connect(http).unwrap()).collect();
    for mut stream in [&used, &silent].into_iter().chain(&backlog) {
        stream.write_all(&bytes).unwrap();
    }
    (&half).write_all(&bytes[20..30]).unwrap();
    let stopping = tokio::spawn(async move {
        rig.receiver.shutdown().await;
        rig
    });
    let all = tokio::task::spawn_blocking(move || {
        for mut stream in [used, silent].into_iter().chain(backlog) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(answered(&mut stream).unwrap(), (true, true), "answered, and told that this was the last");
        }
        assert_eq!(ask(&mut { half }, &bytes[30..]).unwrap(), (true, true), "a head that was begun is waited for");
        idle.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "who asks nothing is not waited for");
    });
    all.await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap().arrived().len(), 12);
}

#[tokio::test]
async fn a_receiver_that_is_replaced_leaves_no_sender_without_an_answer() {
    let mut rig = Rig::new("", "", "");
    let over = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for _ in 0..4 {
        let (over, bytes, http) = (Arc::clone(&over), kept_open(), rig.http);
        senders.push(tokio::task::spawn_blocking(move || {
            let (mut stream, mut asked) = (None, 0);
            while !over.load(Ordering::Relaxed) {
                let mut open = stream.take().unwrap_or_else(|| TcpStream::connect(http).unwrap());
                let (taken, last) = ask(&mut open, &bytes).unwrap();
                assert!(taken);
                asked += 1;
                stream = (!last).then_some(open);
            }
            asked
        }));
    }
    let (grpc, until) = (rig.grpc, Arc::clone(&over));
    let over_grpc = tokio::spawn(async move {
        let (mut client, mut asked) = (None, 0);
        while !until.load(Ordering::Relaxed) {
            let mut open = match client.take() {
                Some(client) => client,
                None => MetricsServiceClient::connect(format!("http://{grpc}")).await.unwrap(),
            };
            // What was begun after GOAWAY is not taken, and gRPC sends it again; what was taken is answered, see below.
            if open.export(request(1, 1)).await.is_ok() {
                (client, asked) = (Some(open), asked + 1);
            }
        }
        asked
    });
    for _ in 0..10 {
        rig.replace().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut asked = over_grpc.await.unwrap();
    for sender in senders {
        asked += sender.await.unwrap();
    }
    assert_eq!(rig.arrived().len(), asked, "what arrived was answered");
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_what_is_under_way_is_answered() {
    let rig = Rig::new(
        "ack: on_export",
        "keepalive: {server_parameters: {max_connection_age: 200ms}}",
        "response_headers: {x-served-by: phoenix}",
    );
    rig.mood(Mood::Hold);
    let mut old = client(&rig).await;
    let answer = tokio::spawn(async move { old.export(request(1, 1)).await });
    rig.until("the batch arrives", |rig| rig.sink.held.lock().unwrap().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(rig.counted("phoenix_receiver_connections", "grpc"), 1.0, "without a grace it is waited for");
    rig.sink.held.lock().unwrap().pop().unwrap().delivered();
    answer.await.unwrap().unwrap();
    rig.until("the connection ends", |rig| rig.counted("phoenix_receiver_connections", "grpc") == 0.0).await;
    rig.mood(Mood::Take);
    let heard = export(rig.http, &[], request(1, 1).encode_to_vec()).await;
    assert!(heard.status == 200 && heard.head.contains("x-served-by: phoenix"), "{heard:?}");
    let heard = export(rig.http, &[], b"no metrics".to_vec()).await;
    assert!(heard.status == 400 && heard.head.contains("x-served-by: phoenix"), "{heard:?}");
}

/// Lets in who brings the header.
struct Knock;

impl ServerAuth for Knock {
    fn check(&self, headers: &http::HeaderMap) -> Result<(), Unauthenticated> {
        headers.contains_key("x-knock").then_some(()).ok_or(Unauthenticated("knock first"))
    }
}

#[tokio::test]
async fn who_does_not_satisfy_the_authenticator_is_not_let_in() {
    let site = Site::for_test("otlp");
    let knock = Authenticator { server: Some(Arc::new(Knock)), ..Authenticator::default() };
    site.authenticators.publish([(ComponentId::new("knock"), knock)].into());
    let auth = "auth: {authenticator: knock}";
    let rig = Rig::on(site, "", auth, auth);
    let refused = client(&rig).await.export(request(1, 1)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unauthenticated, "knock first"));
    let mut knocking = tonic::Request::new(request(1, 1));
    knocking.metadata_mut().insert("x-knock", "1".parse().unwrap());
    client(&rig).await.export(knocking).await.unwrap();
    assert_eq!(export(rig.http, &[], request(1, 1).encode_to_vec()).await.status, 401);
    assert_eq!(export(rig.http, &[("x-knock", "1")], request(1, 1).encode_to_vec()).await.status, 200);
    assert_eq!(rig.counted("phoenix_receiver_refused_requests_total", "unauthenticated"), 2.0);
    assert_eq!(rig.arrived().len(), 2);
}

#[tokio::test]
async fn a_unix_socket_works_like_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("otlp.sock");
    let rig = Rig::new("", "", &format!("transport: unix, endpoint: '{}'", path.display()));
    let at = path.clone();
    let status = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(at).unwrap();
        let headers = [("content-type", "application/x-protobuf")];
        stream.write_all(&post("/v1/metrics", &headers, &request(1, 1).encode_to_vec())).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(status.await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(rig.arrived().len(), 1);
}
