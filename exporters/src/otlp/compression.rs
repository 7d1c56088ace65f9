//! Compression of requests: which algorithms, which level, and the bytes.

use std::io::{self, Write};

use bytes::Bytes;
use bytes::buf::Chain;
use flate2::write::{GzEncoder, ZlibEncoder};
use phoenix_pipeline::config::Report;
use serde::{Deserialize, Serialize};

/// An algorithm that is served. The Collector's names; the empty string is `none` there and here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Compression {
    /// Every OTLP server must take it, so it is the default.
    #[default]
    Gzip,
    /// Cheaper and smaller than gzip where the peer takes it.
    Zstd,
    /// The zlib format, `Content-Encoding: zlib`. HTTP only.
    Zlib,
    /// The zlib format, `Content-Encoding: deflate`. HTTP only.
    Deflate,
    /// As it is.
    None,
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Ok(match name.as_str() {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            "zlib" => Compression::Zlib,
            "deflate" => Compression::Deflate,
            "none" | "" => Compression::None,
            _ => {
                return Err(format!(
                    "{name:?} is not served; allowed: gzip, zstd, none (over HTTP also zlib, deflate)"
                ));
            }
        })
    }
}

/// `compression_params`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionParams {
    /// gzip, zlib, deflate: -1 (the library's default, 6) or 1 to 9. zstd: 1 to 11. 0 = Phoenix's default of 1 for each:
    /// gzip at 6 costs four times the CPU for a few percent less.
    pub level: i32,
}

/// The default level of every algorithm.
const FAST: i32 = 1;
/// Level -1: what zlib calls its default.
const ZLIB_DEFAULT: u32 = 6;

impl Compression {
    /// The token of `Content-Encoding` and `grpc-encoding`; `None` when nothing is compressed.
    pub fn token(self) -> Option<&'static str> {
        match self {
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Zlib => Some("zlib"),
            Compression::Deflate => Some("deflate"),
            Compression::None => None,
        }
    }

    /// Checks the level. Paths are relative to the exporter.
    pub fn check(self, params: CompressionParams, report: &mut Report<'_>) {
        let level = params.level;
        let (allowed, words) = match self {
            Compression::None => return,
            Compression::Zstd => ((0..=11).contains(&level), "1 to 11"),
            Compression::Gzip | Compression::Zlib | Compression::Deflate => {
                ((-1..=9).contains(&level), "-1 and 1 to 9")
            }
        };
        if !allowed {
            report.error(
                "compression_params.level",
                format!("{level} is no level of this compression; allowed: {words}"),
            );
        }
    }

    /// The compressed form of `plain` behind `room` zero bytes, which the caller fills.
    ///
    /// # Errors
    /// Only what the compressor itself cannot do.
    pub fn compress(self, params: CompressionParams, plain: &[u8], room: usize) -> io::Result<Vec<u8>> {
        // Metrics shrink to a tenth and less; a quarter is rarely outgrown.
        let mut out = Vec::with_capacity(room + plain.len() / 4 + 64);
        out.resize(room, 0);
        let level = if params.level == 0 { FAST } else { params.level };
        let zlib = flate2::Compression::new(u32::try_from(level).unwrap_or(ZLIB_DEFAULT));
        match self {
            Compression::None => out.extend_from_slice(plain),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(out, zlib);
                encoder.write_all(plain)?;
                out = encoder.finish()?;
            }
            Compression::Zlib | Compression::Deflate => {
                let mut encoder = ZlibEncoder::new(out, zlib);
                encoder.write_all(plain)?;
                out = encoder.finish()?;
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                encoder.set_pledged_src_size(Some(plain.len() as u64))?;
                encoder.write_all(plain)?;
                out = encoder.finish()?;
            }
        }
        Ok(out)
    }
}

/// A request body: a prefix and the rest, which lie apart in memory, so that a prefix costs no copy. They go out as one
/// piece, because HTTP/2 makes a frame of every piece and writes it by itself.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    prefix: Bytes,
    rest: Bytes,
}

impl Payload {
    /// A body without a prefix.
    pub fn whole(rest: Bytes) -> Self {
        Payload { prefix: Bytes::new(), rest }
    }

    /// A body of a prefix and the rest.
    pub fn prefixed(prefix: Bytes, rest: Bytes) -> Self {
        Payload { prefix, rest }
    }

    /// Bytes of both.
    pub fn len(&self) -> usize {
        self.prefix.len() + self.rest.len()
    }

    /// True without any byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl http_body::Body for Payload {
    type Data = Chain<Bytes, Bytes>;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let whole = std::mem::take(self.get_mut());
        let piece = (!whole.is_empty()).then(|| bytes::Buf::chain(whole.prefix, whole.rest));
        std::task::Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::{MultiGzDecoder, ZlibDecoder};
    use std::io::Read;

    #[test]
    fn every_algorithm_and_level_can_be_read_back() {
        let plain: Vec<u8> = (0..20_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let levels = [-1, 0, 1, 6, 9];
        for level in levels {
            for algorithm in
                [Compression::Gzip, Compression::Zstd, Compression::Zlib, Compression::Deflate, Compression::None]
            {
                let out = algorithm.compress(CompressionParams { level }, &plain, 5).unwrap();
                let (room, body) = out.split_at(5);
                assert_eq!(room, [0; 5]);
                let mut back = Vec::new();
                match algorithm {
                    Compression::Gzip => MultiGzDecoder::new(body).read_to_end(&mut back).unwrap(),
                    Compression::Zlib | Compression::Deflate => ZlibDecoder::new(body).read_to_end(&mut back).unwrap(),
                    Compression::Zstd => zstd::Decoder::new(body).unwrap().read_to_end(&mut back).unwrap(),
                    Compression::None => (&body[..]).read_to_end(&mut back).unwrap(),
                };
                assert_eq!(back, plain, "{algorithm:?} {level}");
            }
        }
    }
}
