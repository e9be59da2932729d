//! What a real client learns of an address: who answers and whom that one saw, that it is refused, or nothing at all.
//!
//! Every function runs on the calling thread; call them inside [`Namespace::enter`](crate::namespace::Namespace::enter).

use std::{
    fmt,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

use crate::client::Connection;

/// How long nothing must come before it counts as silence, and how soon a refusal must come. A client's first SYN is
/// repeated after a second: what comes later was not the answer to the first.
const AT_ONCE: Duration = Duration::from_millis(900);

/// The same for TCP over IPv6. Between namespaces an ICMP error is there before `connect` has let go of its socket, and
/// Linux then waits for the second SYN (`tcp_v6_err`, net/ipv6/tcp_ipv6.c), whoever has sent the error. IPv4 does not.
const AFTER_SECOND_SYN: Duration = Duration::from_millis(1900);

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP over it.
    Tcp,
    /// One datagram.
    Udp,
}

/// What became of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A pod answered.
    Answer {
        /// Its name.
        pod: String,
        /// The client's address, as the pod saw it.
        source: IpAddr,
    },
    /// The client's socket says ECONNREFUSED, at once.
    Refused,
    /// Nothing came back.
    Silence,
    /// What should not happen.
    Other(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { pod, source } => write!(f, "{pod} answers, and saw {source}"),
            Self::Refused => f.write_str("refused"),
            Self::Silence => f.write_str("silence"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Asks `target` once, from a new socket.
pub async fn probe(protocol: Protocol, target: SocketAddr) -> Outcome {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    probe_from(protocol, any.parse().unwrap_or(target), target).await
}

/// [`probe`], from a socket of this address and port.
pub async fn probe_from(protocol: Protocol, source: SocketAddr, target: SocketAddr) -> Outcome {
    let result = match protocol {
        Protocol::Tcp => tcp(source, target).await,
        Protocol::Udp => udp(source, target).await,
    };
    result.unwrap_or_else(|error| Outcome::Other(format!("{error:#}")))
}

async fn tcp(source: SocketAddr, target: SocketAddr) -> Result<Outcome> {
    let (socket, patience) = match target {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, AT_ONCE),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, AFTER_SECOND_SYN),
    };
    socket.set_reuseaddr(true)?;
    socket.bind(source)?;
    let stream = match timeout(patience, socket.connect(target)).await {
        Err(_) => return Ok(Outcome::Silence),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Outcome::Refused),
        Ok(stream) => stream?,
    };
    let mut connection = Connection::over(stream, target).await?;
    let pod = connection.get("/").await?;
    let source = connection.get("/peer").await?.parse()?;
    Ok(Outcome::Answer { pod, source })
}

async fn udp(source: SocketAddr, target: SocketAddr) -> Result<Outcome> {
    let socket = UdpSocket::bind(source).await?;
    socket.connect(target).await?;
    socket.send(b"peer").await?;
    let mut buffer = [0; 200];
    let length = match timeout(AT_ONCE, socket.recv(&mut buffer)).await {
        Err(_) => return Ok(Outcome::Silence),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Outcome::Refused),
        Ok(length) => length?,
    };
    let text = String::from_utf8_lossy(&buffer[..length]);
    let (pod, source) = text.split_once(' ').context("no answer of a pod")?;
    Ok(Outcome::Answer {
        pod: pod.to_owned(),
        source: source.parse()?,
    })
}
