//! The requests, made and compressed before the race, so that to make them costs nobody anything in it.
//!
//! Scrapes of synthetic hosts, one after the other, with processes that come and go. A host's scrapes go through one
//! sender and in order, as they do in life.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use phoenix_benches::{Host, POINTS_PER_PROCESS};

use crate::{Fault, Protocol};

const PROCESSES: usize = 1_000;

/// How much of a scrape is one request.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shape {
    /// All of it: 1.3 MB.
    Large,
    /// A tenth: 130 KB.
    Middle,
    /// A hundredth: 13 KB.
    Small,
}

impl Shape {
    fn pieces(self) -> usize {
        match self {
            Shape::Large => 1,
            Shape::Middle => 10,
            Shape::Small => 100,
        }
    }
}

/// How a request is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Coding {
    None,
    /// Level 6, as senders do by default.
    Gzip,
    /// Level 1.
    Zstd,
}

impl Coding {
    /// Its name in a header.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Coding::None => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zstd => Some("zstd"),
        }
    }

    fn pack(self, plain: Vec<u8>) -> Result<Vec<u8>, Fault> {
        Ok(match self {
            Coding::None => plain,
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(&plain)?;
                encoder.finish()?
            }
            Coding::Zstd => zstd::encode_all(&plain[..], 1)?,
        })
    }
}

/// One request as it goes over the wire, and how many data points it has.
#[derive(Clone, Debug)]
pub struct Message {
    pub body: Bytes,
    pub points: u64,
}

/// All requests of a round, by sender.
pub struct Payload {
    pub senders: Vec<Vec<Message>>,
    /// Series that live at any time.
    pub series: usize,
    /// Mean bytes of a request on the wire.
    pub bytes: usize,
    /// Mean data points of a request.
    pub points: usize,
}

impl Payload {
    pub fn make(
        shape: Shape,
        hosts: usize,
        senders: usize,
        coding: Coding,
        protocol: Protocol,
        million: f64,
    ) -> Result<Self, Fault> {
        let senders = senders.clamp(1, hosts.max(1));
        let per_scrape = PROCESSES * POINTS_PER_PROCESS;
        let scrapes = ((million * 1.1e6 / per_scrape as f64 / hosts as f64).ceil() as usize).max(2);
        let mut all: Vec<Host> = (0..hosts)
            .map(|host| Host::seeded(PROCESSES, host as u64 + 7).named(format!("node-{host:04}.example.com")))
            .collect();
        let mut by_sender: Vec<Vec<Message>> = vec![Vec::new(); senders];
        for _ in 0..scrapes {
            for (number, host) in all.iter_mut().enumerate() {
                host.pass();
                for (request, processes) in host.scrape_in(shape.pieces()) {
                    let body = frame(coding.pack(request)?, coding, protocol);
                    let points = (processes * POINTS_PER_PROCESS) as u64;
                    by_sender[number % senders].push(Message { body, points });
                }
            }
        }
        let messages = || by_sender.iter().flatten();
        let count = messages().count().max(1);
        let bytes = messages().map(|message| message.body.len()).sum::<usize>() / count;
        let points = messages().map(|message| message.points as usize).sum::<usize>() / count;
        Ok(Payload { senders: by_sender, series: hosts * per_scrape, bytes, points })
    }
}

/// How many of a sender's requests come first, to warm a contestant up: a tenth of those that are measured.
pub fn warm_up(requests: usize) -> usize {
    requests.div_ceil(11)
}

/// gRPC puts a flag and the length before a message.
fn frame(body: Vec<u8>, coding: Coding, protocol: Protocol) -> Bytes {
    if protocol == Protocol::Http {
        return body.into();
    }
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(u8::from(coding != Coding::None));
    framed.put_u32(body.len() as u32);
    framed.extend_from_slice(&body);
    framed.freeze()
}
