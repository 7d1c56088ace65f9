//! Credentials of an authenticator: with every request, and changed without building the exporter anew.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, header};
use phoenix_exporters::otlp;
use phoenix_pipeline::auth::{Authenticator, ClientAuth};
use phoenix_pipeline::{ComponentId, Site};

use super::grpc::Metrics;
use super::support::*;

struct Token(&'static str);

impl ClientAuth for Token {
    fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(self.0));
    }
}

/// A site at which the authenticator `bearertokenauth` sends this.
fn site(token: &'static str) -> Site {
    let site = Site::for_test("otlp/test");
    publish(&site, token);
    site
}

fn publish(site: &Site, token: &'static str) {
    let authenticator = Authenticator { client: Some(Arc::new(Token(token))), server: None };
    site.authenticators.publish([(ComponentId::new("bearertokenauth"), authenticator)].into());
}

const AUTH: &str = "auth: { authenticator: bearertokenauth }\nheaders: { authorization: static, other: kept }
sending_queue: { wait_for_result: true }";

#[tokio::test]
async fn every_request_carries_the_credentials_of_its_time() {
    let backend = Backend::start([Answer::status(200)]).await;
    let yaml = format!("endpoint: {}\n{AUTH}", backend.url());
    let subject = Subject::at(site("first"), &otlp::http::FACTORY, &yaml).unwrap();
    subject.send(batch(1)).await.unwrap();
    publish(&subject.site, "second");
    subject.send(batch(1)).await.unwrap();
    let received = backend.received();
    let sent: Vec<_> =
        received.iter().map(|request| request.headers[header::AUTHORIZATION].to_str().unwrap()).collect();
    assert_eq!(sent, ["first", "second"]);
    assert!(received.iter().all(|request| request.headers["other"] == "kept"));
}

#[tokio::test]
async fn a_retry_carries_the_credentials_of_its_own_time() {
    let backend = Backend::start([Answer::status(503).delay(Duration::from_millis(300)), Answer::status(200)]).await;
    let yaml = format!("endpoint: {}\nauth: {{ authenticator: bearertokenauth }}\n{EAGER}", backend.url());
    let subject = Subject::at(site("first"), &otlp::http::FACTORY, &yaml).unwrap();
    let outcome = subject.export(batch(1));
    until("the first attempt", || backend.count() == 1).await;
    publish(&subject.site, "second");
    outcome.await.unwrap().unwrap();
    assert_eq!(backend.received()[1].headers[header::AUTHORIZATION], "second");
}

#[tokio::test]
async fn grpc_carries_them_as_metadata() {
    let metrics = Metrics::default();
    let address = serve(None, true, metrics.handler()).await;
    let subject = Subject::at(site("token"), &otlp::grpc::FACTORY, &format!("endpoint: http://{address}\n{AUTH}"));
    subject.unwrap().send(batch(1)).await.unwrap();
    assert_eq!(metrics.calls.lock().unwrap()[0].metadata.get("authorization").unwrap(), "token");
}

#[tokio::test]
async fn an_authenticator_that_is_not_there_is_an_error() {
    let error = Subject::build(&otlp::http::FACTORY, &format!("endpoint: http://a\n{AUTH}")).err().unwrap();
    assert!(error.contains("no authenticator bearertokenauth is running"), "{error}");
}
