//! One request to a page of a running agent: a plain connection, bounded in time and size, closed behind the answer.
//!
//! Nothing is judged here: a status is a number, a body is text. TLS is not spoken.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest answer that is read; the longest that is given is far below.
const MAX_ANSWER: u64 = 16 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'c> {
    /// `host:port`.
    pub address: &'c str,
    /// `GET`, `POST`, `DELETE`.
    pub method: &'c str,
    /// Path and query.
    pub target: &'c str,
    /// Sent as a bearer token.
    pub token: Option<&'c str>,
    /// JSON, or nothing.
    pub body: &'c str,
    /// How long the answer may take.
    pub patience: Duration,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Such as 200.
    pub status: u16,
    /// As it came; what is no UTF-8 is replaced.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The address cannot be one.
    #[error("{0:?} is no host:port: {1}")]
    Address(String, io::Error),
    /// Nobody is there, or it takes too long.
    #[error("nobody answers: {0}")]
    Nobody(#[from] io::Error),
    /// What answers is no HTTP server.
    #[error("what answers there does not speak HTTP")]
    Strange,
}

impl<'c> Call<'c> {
    /// A page, asked for without a token.
    pub fn get(address: &'c str, target: &'c str, patience: Duration) -> Self {
        Call { address, method: "GET", target, token: None, body: "", patience }
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn ask(self) -> Result<Answer, Failure> {
        let Call { address, method, target, token, body, patience } = self;
        let resolved = address.to_socket_addrs().map_err(|error| Failure::Address(address.to_owned(), error))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let connected = resolved
            .into_iter()
            .find_map(|resolved| TcpStream::connect_timeout(&resolved, CONNECT).map_err(|error| last = error).ok());
        let Some(mut stream) = connected else { return Err(last.into()) };
        let authorization = match token {
            Some(token) if !token.contains(['\r', '\n']) => format!("Authorization: Bearer {token}\r\n"),
            _ => String::new(),
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(request.as_bytes())?;
        (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer)?;
        understood(&String::from_utf8_lossy(&answer)).ok_or(Failure::Strange)
    }
}

fn understood(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = understood("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nx\r\n\r\ny");
        assert_eq!(answer, Some(Answer { status: 503, body: "x\r\n\r\ny".to_owned() }));
        assert_eq!(understood("SSH-2.0\r\n\r\n"), None);
        assert_eq!(understood("HTTP/1.1\r\n\r\n"), None);
    }
}
