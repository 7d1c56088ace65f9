//! Descriptors: a process begins with a soft limit that is often a thousandth of what it may ask for (1,024 of 1,048,576
//! under systemd and in most containers). The agent asks for all of it at its start, and says how much of it connections may
//! take. It never asks for more than the host allows.

use phoenix_pipeline::admission::Budget;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The part of the descriptors that connections of senders may take: half is for the files of processes that hostmetrics
/// keeps open, and the rest for pages, queues on disk, state and connections to backends.
const SHARE: u64 = 4;

/// Raises the soft limit of open files to the hard one.
///
/// Returns the room for connections of senders, in all receivers together.
pub fn raise() -> Budget {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before })
    {
        tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) cannot be raised to the hard one");
    }
    let limit = getrlimit(Resource::Nofile).current;
    tracing::debug!(before = ?before.current, now = ?limit, "limit of open files");
    places(limit)
}

/// Places for connections where this many files may be open, none for any number.
fn places(limit: Option<u64>) -> Budget {
    let places = limit.map_or(u64::MAX, |limit| (limit / SHARE).max(1));
    Budget::new(usize::try_from(places).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let room = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(room.limit(), places(limit.maximum).limit());
    }

    #[test]
    fn a_quarter_of_the_descriptors_is_for_senders() {
        assert_eq!(places(Some(64)).limit(), 16);
        assert_eq!(places(Some(1)).limit(), 1);
        assert_eq!(places(None).limit(), usize::MAX);
    }
}
