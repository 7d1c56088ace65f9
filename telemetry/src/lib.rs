//! OTLP metrics as bytes with an index.
//!
//! An export request is never decoded into a tree of structs. [`Batch::decode`] makes one validating pass over the
//! protobuf bytes and builds a flat index of resources, scopes, metrics and points: byte ranges, hashes, times and
//! values. Views ([`Resource`], [`Scope`], [`Metric`], [`Point`]) read through the index, edits write beside the input
//! and repoint, and [`Batch::encode`] copies byte ranges under fresh length prefixes. What nobody asks for is never
//! looked at again: unknown fields, exemplars, buckets and metadata pass through to the byte.
//!
//! The crate does no I/O, knows no clock and starts no thread.
#![forbid(unsafe_code)]

mod again;
mod batch;
mod build;
mod decode;
mod distribution;
mod edit;
mod encode;
mod error;
mod hash;
mod index;
mod join;
pub mod json;
mod kind;
mod normal;
mod outline;
mod schema;
mod validate;
mod value;
mod view;
mod wire;

/// Writers of protobuf fields, for points that no builder foresees; the caller decodes what it wrote.
pub mod write {
    pub use crate::edit::put_attribute;
    pub use crate::wire::{close, open, put_bytes, put_fixed64, put_varint};

    /// Appends a field that is a plain number.
    pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
        crate::wire::put_tag(out, number, crate::wire::VARINT);
        put_varint(out, value);
    }
}

pub use again::{Form, Head, pattern};
pub use batch::{Batch, Verdict};
pub use build::{BatchBuilder, Descriptor, MetricBuilder, ResourceBuilder, ScopeBuilder, Shape};
pub use distribution::{Buckets, Exemplar, ExponentialHistogram, Histogram, Summary};
pub use edit::AttributeEdits;
pub use error::{DecodeError, DecodeErrorKind, Limits};
pub use json::JsonError;
pub use kind::{MetricKind, Number, Temporality};
pub use outline::Outline;
pub use schema::Message;
pub use value::{AnyValue, Attributes, Values};
pub use view::{Column, Metric, Places, Point, PointId, RelativeId, Resource, ResourceId, Scope};
