//! Arbitrary text as OTLP/JSON: never a panic, and what is read is a well-formed request that survives the round trip.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use phoenix_telemetry::{Batch, Limits, json};
use prost::Message as _;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    match json::read(data, &limits) {
        Err(error) => assert!(error.offset <= data.len(), "{error}"),
        Ok(bytes) => {
            Request::decode(bytes.as_slice()).expect("prost reads what was read");
            let batch = Batch::decode(Bytes::from(bytes), &limits).expect("what was read is well-formed");
            let mut text = Vec::new();
            json::write(&batch, &mut text);
            let again = json::read(&text, &limits).expect("what was written is read");
            let mut twice = Vec::new();
            json::write(&Batch::decode(Bytes::from(again), &limits).expect("well-formed"), &mut twice);
            assert_eq!(text, twice);
        }
    }
});
