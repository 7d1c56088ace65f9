//! The books as one state: what names it, the ends of the stage, and the hosts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::super::host::Ends;
use super::super::identity::Desc;
use super::super::number::Sum;
use super::super::{Interner, WAIT};
use super::code::{Read, Reader, Writer};
use super::{Books, Counts, Host, Process};

/// What an earlier run wrote and this one knows nothing of.
#[derive(Debug, Default)]
pub(crate) enum Lost {
    /// Nothing.
    #[default]
    Nothing,
    /// It may be of any host, up to the first scrape of this run.
    All,
    /// Up to these times, by host.
    Until(HashMap<Arc<str>, u64>),
}

impl Lost {
    /// What hosts of a state that is of no use were seen to do.
    pub(crate) fn of(hosts: &HashMap<Arc<str>, Host>) -> Lost {
        Lost::Until(hosts.iter().filter_map(|(name, host)| Some((name.clone(), host.latest()?))).collect())
    }

    /// What of a host first seen at `time` opens anew: what began no later than this.
    pub(crate) fn since(&self, host: &str, time: u64) -> Option<u64> {
        match self {
            Lost::Nothing => None,
            Lost::All => Some(time),
            Lost::Until(hosts) => hosts.get(host).copied(),
        }
    }
}

/// What names a file: a number of its own, and who wrote it.
pub(crate) struct Name {
    pub(crate) number: u64,
    pub(crate) boot: String,
    pub(crate) process: Process,
}

/// Writes books under a name.
pub(crate) fn save(books: &Books, name: &Name, out: &mut Writer<'_>) {
    out.long(name.number);
    out.bytes(name.boot.as_bytes());
    out.long(name.process.0);
    out.long(name.process.1);
    books.ends.taken.save(out);
    books.ends.exported.save(out);
    let descs: HashMap<u64, Arc<Desc>> = books.interner.descs().map(|desc| (desc.id, Arc::clone(desc))).collect();
    out.long(books.hosts.len() as u64);
    for (name, host) in &books.hosts {
        out.bytes(name.as_bytes());
        host.save(&descs, out);
    }
}

/// The name and the books. Nothing is counted if they cannot be read.
pub(crate) fn load(body: &[u8], now: Instant, counts: &mut Counts) -> Read<(Name, Books)> {
    let mut books = Books::default();
    let result = read(body, now, &mut books, counts);
    if result.is_err() {
        books.hosts.values().for_each(|host| host.leave(counts));
    }
    Ok((result?, books))
}

fn read(body: &[u8], now: Instant, books: &mut Books, counts: &mut Counts) -> Read<Name> {
    let mut interner = Interner::default();
    let mut from = Reader::new(body, &mut interner);
    let name = Name { number: from.long()?, boot: from.text()?, process: (from.long()?, from.long()?) };
    books.ends = Ends { taken: Sum::load(&mut from)?, exported: Sum::load(&mut from)? };
    for _ in 0..from.long()? {
        let host_name = from.text()?;
        let mut host = Host::load(&host_name, now, &mut from)?;
        // What waited for the rest of its scrape waits once more.
        host.speak_by(now + WAIT);
        host.enter(counts);
        books.hosts.insert(host_name.into(), host);
    }
    from.end()?;
    books.interner = interner;
    Ok(name)
}
