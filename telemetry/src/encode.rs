//! Encoding: the largest untouched ranges are copied as they are; what lies around a change gets a fresh prefix.

use crate::batch::Batch;
use crate::index::{MetricEntry, ResourceEntry, ScopeEntry, Span, Verdict, slice};
use crate::wire::{put_bytes, put_tag, put_varint, varint_len};
use bytes::Bytes;

impl Batch {
    /// Length of [`Batch::encode`]'s result, in bytes.
    pub fn encoded_len(&self) -> usize {
        if self.dirty { self.measure(&mut Vec::new()) } else { self.bytes.len() }
    }

    /// The batch as an `ExportMetricsServiceRequest`. An untouched batch shares its input.
    pub fn encode(&self) -> Bytes {
        if !self.dirty {
            return self.bytes.clone();
        }
        let mut lengths = Vec::with_capacity(self.index.resources.len() + self.index.scopes.len());
        let len = self.measure(&mut lengths);
        let mut out =
            Output { batch: self, bytes: Vec::with_capacity(len), from: 0, to: 0, lengths: lengths.into_iter() };
        for span in &self.index.extras {
            out.copy(*span);
        }
        for entry in &self.index.resources {
            out.resource(entry);
        }
        out.flush();
        Bytes::from(out.bytes)
    }

    /// The output's length; adds to `lengths` those of the messages that are written anew, each before its children's.
    fn measure(&self, lengths: &mut Vec<usize>) -> usize {
        let extras: usize = self.index.extras.iter().map(|span| span.len as usize).sum();
        extras + self.index.resources.iter().map(|entry| self.measure_resource(entry, lengths)).sum::<usize>()
    }

    fn measure_resource(&self, entry: &ResourceEntry, lengths: &mut Vec<usize>) -> usize {
        if !entry.dirty {
            return entry.whole.len as usize;
        }
        if entry.thinned && entry.live == 0 {
            return 0;
        }
        let place = lengths.len();
        lengths.push(0);
        let mut len = (entry.head.len + entry.tail.len) as usize;
        if entry.edited {
            len = len - entry.own.len as usize + field_len(1, entry.body.len as usize);
        }
        let scopes = self.index.scopes.get(slice(&entry.scopes)).unwrap_or_default();
        len += scopes.iter().map(|scope| self.measure_scope(scope, lengths)).sum::<usize>();
        lengths[place] = len;
        field_len(1, len)
    }

    fn measure_scope(&self, entry: &ScopeEntry, lengths: &mut Vec<usize>) -> usize {
        if !entry.dirty {
            return entry.whole.len as usize;
        }
        if entry.is_gone() {
            return 0;
        }
        let metrics = self.index.metrics.get(slice(&entry.metrics)).unwrap_or_default();
        let around = self.index.texts.get(entry.text as usize).map_or(0, |text| text.head.len + text.tail.len);
        let len = around as usize + metrics.iter().map(metric_field_len).sum::<usize>();
        lengths.push(len);
        field_len(2, len)
    }
}

fn metric_field_len(entry: &MetricEntry) -> usize {
    if !entry.dirty {
        return entry.whole.len as usize;
    }
    if entry.thinned && entry.live == 0 {
        return 0;
    }
    field_len(2, metric_len(entry))
}

fn metric_len(entry: &MetricEntry) -> usize {
    (entry.head.len + entry.tail.len) as usize + field_len(entry.kind.field(), data_len(entry))
}

fn data_len(entry: &MetricEntry) -> usize {
    (entry.data_head.len + entry.live_bytes + entry.data_tail.len) as usize
}

/// Length of a length-delimited field with its tag; all numbers here take one byte.
fn field_len(number: u32, body: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(body as u64) + body
}

/// The output, with one range of the input that is still to be copied, so that neighbours go in one piece.
struct Output<'a> {
    batch: &'a Batch,
    bytes: Vec<u8>,
    from: u32,
    to: u32,
    /// What [`Batch::measure`] found, in the order of writing.
    lengths: std::vec::IntoIter<usize>,
}

impl Output<'_> {
    #[inline]
    fn copy(&mut self, span: Span) {
        // A range never reaches across the seam between input and arena.
        if span.start == self.to && span.start as usize != self.batch.bytes.len() {
            self.to = span.end();
        } else {
            self.flush();
            self.from = span.start;
            self.to = span.end();
        }
    }

    fn flush(&mut self) {
        if self.from < self.to {
            self.bytes.extend_from_slice(self.batch.slice(Span { start: self.from, len: self.to - self.from }));
        }
        self.from = 0;
        self.to = 0;
    }

    fn prefix(&mut self, number: u32, len: usize) {
        self.flush();
        put_tag(&mut self.bytes, number, crate::wire::LEN);
        put_varint(&mut self.bytes, len as u64);
    }

    fn resource(&mut self, entry: &ResourceEntry) {
        if !entry.dirty {
            return self.copy(entry.whole);
        }
        if entry.thinned && entry.live == 0 {
            return;
        }
        let batch = self.batch;
        let len = self.lengths.next().unwrap_or_default();
        self.prefix(1, len);
        let in_head = entry.own.end() <= entry.head.end();
        self.around(entry.head, entry, entry.edited && in_head);
        for scope in batch.index.scopes.get(slice(&entry.scopes)).unwrap_or_default() {
            self.scope(scope);
        }
        self.around(entry.tail, entry, entry.edited && !in_head);
    }

    /// Head or tail of a resource; `here` says that the `Resource` field lay in this part and was edited.
    fn around(&mut self, part: Span, entry: &ResourceEntry, here: bool) {
        if !here {
            return self.copy(part);
        }
        self.copy(Span { start: part.start, len: entry.own.start - part.start });
        self.flush();
        put_bytes(&mut self.bytes, 1, self.batch.slice(entry.body));
        self.copy(Span { start: entry.own.end(), len: part.end() - entry.own.end() });
    }

    fn scope(&mut self, entry: &ScopeEntry) {
        if !entry.dirty {
            return self.copy(entry.whole);
        }
        if entry.is_gone() {
            return;
        }
        let index = &self.batch.index;
        let text = index.texts.get(entry.text as usize).copied().unwrap_or_default();
        let len = self.lengths.next().unwrap_or_default();
        self.prefix(2, len);
        self.copy(text.head.moved(entry.by));
        for metric in index.metrics.get(slice(&entry.metrics)).unwrap_or_default() {
            self.metric(entry, metric);
        }
        self.copy(text.tail.moved(entry.by));
    }

    fn metric(&mut self, scope: &ScopeEntry, entry: &MetricEntry) {
        let by = scope.by;
        if !entry.dirty {
            return self.copy(entry.whole.moved(by));
        }
        if entry.thinned && entry.live == 0 {
            return;
        }
        self.prefix(2, metric_len(entry));
        self.copy(entry.head.moved(by));
        self.prefix(entry.kind.field(), data_len(entry));
        self.copy(entry.data_head.moved(by));
        let index = &self.batch.index;
        let range = slice(&entry.points);
        let points = index.points.get(scope.table()).and_then(|all| all.get(range.clone())).unwrap_or_default();
        let verdicts = index.verdicts.get(slice(&scope.points)).and_then(|all| all.get(range)).unwrap_or_default();
        for (point, _) in points.iter().zip(verdicts).filter(|(_, verdict)| **verdict != Verdict::Drop) {
            let body = point.body.moved(by);
            if point.edited {
                self.prefix(1, body.len as usize);
                self.copy(body);
            } else {
                let start = point.at.wrapping_add(by);
                self.copy(Span { start, len: body.end() - start });
            }
        }
        self.copy(entry.data_tail.moved(by));
        self.copy(entry.tail.moved(by));
    }
}
