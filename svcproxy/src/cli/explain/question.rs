//! What is asked: `SRC[:PORT]` and `DST:PORT[/PROTOCOL]`, on the command line or as a line of `--batch`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use crate::{datapath::rehearsal::Connection, model::Protocol};

/// The source port of a client that gives none.
const SOME_PORT: u16 = 40_000;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if that matters.
    pub port: Option<u16>,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Self { address, port: None });
        }
        let socket: SocketAddr = text.parse().map_err(|_| {
            format!("{text:?} is no client: write an address such as 10.244.0.9 or fd00::9, or with a port 10.244.0.9:40000 or [fd00::9]:40000")
        })?;
        Ok(Self {
            address: socket.ip(),
            port: Some(socket.port()),
        })
    }
}

/// Where it connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub socket: SocketAddr,
    /// TCP where none is given.
    pub protocol: Protocol,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (socket, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::TCP,
            "udp" => Protocol::UDP,
            "sctp" => Protocol::SCTP,
            _ => {
                return Err(format!(
                    "{protocol:?} is no protocol of a Service: write tcp, udp or sctp"
                ));
            }
        };
        let socket = socket.parse().map_err(|_| {
            format!("{socket:?} is no destination: write address and port, such as 10.96.0.10:80 or [fd00:10:96::a]:80")
        })?;
        Ok(Self { socket, protocol })
    }
}

/// A connection to explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) src: Source,
    pub(super) dst: Destination,
}

impl Question {
    /// Both ends, of one family.
    pub(super) fn new(src: Source, dst: Destination) -> Result<Self, String> {
        if src.address.is_ipv4() != dst.socket.is_ipv4() {
            return Err(format!(
                "{} and {} are of different IP versions",
                src.address, dst.socket
            ));
        }
        Ok(Self { src, dst })
    }

    /// The connection, with a source port where none was given.
    pub(super) fn connection(&self) -> Connection {
        Connection {
            src: SocketAddr::new(self.src.address, self.src.port.unwrap_or(SOME_PORT)),
            dst: self.dst.socket,
            protocol: self.dst.protocol,
        }
    }
}

impl FromStr for Question {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [src, dst] => Self::new(src.parse()?, dst.parse()?),
            _ => Err(format!("{:?} is no question: write SRC DST:PORT/PROTOCOL", line.trim())),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.src.port {
            Some(port) => SocketAddr::new(self.src.address, port).fmt(f)?,
            None => self.src.address.fmt(f)?,
        }
        write!(f, " → {}/{}", self.dst.socket, self.dst.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_people_write_them() {
        for (line, printed) in [
            ("10.244.0.9 10.96.0.10:80", "10.244.0.9 → 10.96.0.10:80/TCP"),
            (
                " 10.244.0.9:1234\t10.96.0.10:53/udp ",
                "10.244.0.9:1234 → 10.96.0.10:53/UDP",
            ),
            ("fd00::9 [fd00:10:96::a]:80/SCTP", "fd00::9 → [fd00:10:96::a]:80/SCTP"),
            ("[fd00::9] [fd00:10:96::a]:80/tcp", "fd00::9 → [fd00:10:96::a]:80/TCP"),
            (
                "[fd00::9]:99 [fd00:10:96::a]:80/tcp",
                "[fd00::9]:99 → [fd00:10:96::a]:80/TCP",
            ),
        ] {
            assert_eq!(
                line.parse::<Question>().map(|question| question.to_string()),
                Ok(printed.into())
            );
        }
    }

    #[test]
    fn what_is_no_question_is_said() {
        for (line, reason) in [
            ("10.244.0.9", "write SRC DST:PORT/PROTOCOL"),
            ("10.244.0.9 10.96.0.10:80 tcp", "write SRC DST:PORT/PROTOCOL"),
            ("kubia 10.96.0.10:80", "\"kubia\" is no client"),
            ("10.244.0.9 10.96.0.10", "\"10.96.0.10\" is no destination"),
            ("10.244.0.9 10.96.0.10:http", "is no destination"),
            ("10.244.0.9 fd00::1:80", "is no destination"),
            ("10.244.0.9 10.96.0.10:80/icmp", "\"icmp\" is no protocol"),
            ("10.244.0.9 [fd00::1]:80", "different IP versions"),
        ] {
            let error = line.parse::<Question>().unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
