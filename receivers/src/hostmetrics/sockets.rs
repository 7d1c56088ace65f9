//! Counts TCP sockets by state, from `net/tcp` and `net/tcp6`, line by line: a host may have a million of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use super::catalog::Member;
use super::reading::ReadError;

/// The states in the order of their numbers in the kernel (1 to 11), by the words the Collector counts them under.
pub(super) const STATES: &[Member] = &[
    Member::renamed("ESTABLISHED", "established"),
    Member::renamed("SYN_SENT", "syn_sent"),
    Member::renamed("SYN_RECV", "syn_received"),
    Member::renamed("FIN_WAIT1", "fin_wait_1"),
    Member::renamed("FIN_WAIT2", "fin_wait_2"),
    Member::renamed("TIME_WAIT", "time_wait"),
    Member::renamed("CLOSE", "closed"),
    Member::renamed("CLOSE_WAIT", "close_wait"),
    Member::renamed("LAST_ACK", "last_ack"),
    Member::renamed("LISTEN", "listen"),
    Member::renamed("CLOSING", "closing"),
];

/// Sockets per state, in the order of [`STATES`].
pub(super) type Counts = [u64; 11];

/// No line of these files is longer (150 bytes is usual).
const MAX_LINE: u64 = 1024;

/// Counts over all files; the first must exist, the others may not (a host without IPv6 has no `tcp6`).
pub(super) fn count(files: &[PathBuf]) -> Result<Counts, ReadError> {
    let mut counts = Counts::default();
    for (i, path) in files.iter().enumerate() {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if i > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ReadError::Io { path: path.clone(), source }),
        };
        let mut lines = BufReader::with_capacity(64 << 10, file);
        let mut line = Vec::with_capacity(256);
        for number in 1.. {
            line.clear();
            let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line);
            match read {
                Ok(0) => break,
                Ok(_) if number == 1 => continue,
                Ok(_) => {}
                Err(source) => return Err(ReadError::Io { path: path.clone(), source }),
            }
            let slot = state(&line).and_then(|state| counts.get_mut(state.checked_sub(1)?));
            let what = "expected a socket's state (01 to 0B) in the fourth column";
            *slot.ok_or_else(|| ReadError::Malformed { path: path.clone(), line: number, what })? += 1;
        }
    }
    Ok(counts)
}

fn state(line: &[u8]) -> Option<usize> {
    let word = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(3)?;
    match usize::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()? {
        // A request that waits for the last packet of its handshake; older kernels show it as SYN_RECV.
        12 => Some(3),
        state => Some(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_by_state_over_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let (tcp, tcp6) = (dir.path().join("tcp"), dir.path().join("tcp6"));
        let heading = "  sl  local_address rem_address   st tx_queue\n";
        std::fs::write(
            &tcp,
            format!("{heading}   0: 0100007F:1F90 00000000:0000 0A 0:0\n   1: 0100007F:1F90 0100007F:A1B2 01 0:0\n"),
        )
        .unwrap();
        let counts = count(&[tcp.clone(), tcp6.clone()]).unwrap();
        assert_eq!((counts[9], counts[0], counts.iter().sum::<u64>()), (1, 1, 2));
        std::fs::write(&tcp6, format!("{heading}   0: 0:0 0:0 0C 0:0\n")).unwrap();
        assert_eq!(count(&[tcp.clone(), tcp6.clone()]).unwrap()[2], 1);
        std::fs::write(&tcp6, format!("{heading}   0: 0:0 0:0 FF 0:0\n")).unwrap();
        assert!(count(&[tcp, tcp6.clone()]).unwrap_err().to_string().contains("tcp6:2: expected a socket's state"));
        assert!(count(&[dir.path().join("none"), tcp6]).is_err());
    }
}
