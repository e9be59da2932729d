//! A client that shows an answer as it comes over the wire.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use tokio::task::spawn_blocking;

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value; names are compared as HTTP does.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends one request; `None` when nobody listens, or who does ends before an answer.
pub(crate) async fn ask(method: &'static str, address: SocketAddr, path: &'static str) -> Option<Answer> {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        if text.is_empty() {
            return None;
        }
        let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    };
    spawn_blocking(exchange).await.unwrap()
}

/// `GET`, of a server that is there.
pub(crate) async fn get(address: SocketAddr, path: &'static str) -> Answer {
    ask("GET", address, path).await.expect("a server")
}
