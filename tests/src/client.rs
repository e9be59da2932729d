//! Real clients: HTTP over connections of their own, kept or many at once, and UDP that looks who answers.
//!
//! Every function runs on the calling thread; call them inside [`Namespace::enter`](crate::namespace::Namespace::enter).

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Either, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime, task::JoinSet, time::timeout};

use crate::payload::{Hasher, Payload};

/// No single small request may take longer: a lost SYN is repeated after 1 s, a second one after 3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// No transfer may stand still for longer.
const STALL: Duration = Duration::from_secs(20);

/// Who answered how often, and what went wrong.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers by what they said, without the final newline.
    pub answers: BTreeMap<String, u32>,
    /// What went wrong, an entry for each failed request.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many answers came.
    pub fn total(&self) -> u32 {
        self.answers.values().sum()
    }

    /// The largest deviation from an even share, as a part of that share: 0.15 is 15 %.
    pub fn unevenness(&self) -> f64 {
        let even = f64::from(self.total()) / self.answers.len() as f64;
        let deviations = self
            .answers
            .values()
            .map(|&count| (f64::from(count) - even).abs() / even);
        deviations.fold(0.0, f64::max)
    }

    fn add(&mut self, answer: Result<String>) {
        match answer {
            Ok(text) => *self.answers.entry(text).or_default() += 1,
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// Adds what another has counted.
    pub fn join(&mut self, other: Self) {
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.answers.iter().map(|(answer, count)| format!("{answer} {count}"));
        write!(f, "{}", counts.collect::<Vec<_>>().join(", "))?;
        match self.failures.first() {
            None => write!(f, "; 0 failures"),
            Some(first) => write!(f, "; {} failures, the first: {first}", self.failures.len()),
        }
    }
}

/// An HTTP connection that is kept between requests.
pub struct Connection {
    requests: SendRequest<Either<Empty<Bytes>, Payload>>,
    host: String,
}

impl Connection {
    /// Connects.
    pub async fn open(target: SocketAddr) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(target))
            .await
            .context("connect timed out")??;
        Self::over(stream, target).await
    }

    /// Over a connection that is made already.
    pub async fn over(stream: TcpStream, target: SocketAddr) -> Result<Self> {
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the last sender; what it has to report reaches the request that waits for an answer.
        tokio::spawn(connection);
        let host = target.to_string();
        Ok(Self { requests, host })
    }

    /// One small `GET`; its answer without the final newline.
    pub async fn get(&mut self, path: &str) -> Result<String> {
        timeout(PATIENCE, async {
            text(self.send("GET", path, Either::Left(Empty::new())).await?).await
        })
        .await
        .context("no answer in time")?
    }

    /// Downloads the payload of `length` bytes and returns the hash of what came.
    pub async fn download(&mut self, length: u64) -> Result<String> {
        self.download_at(u64::MAX, length).await
    }

    /// [`download`](Self::download), at `rate` bytes a second at most.
    pub async fn download_at(&mut self, rate: u64, length: u64) -> Result<String> {
        let start = Instant::now();
        let response = self
            .send("GET", &format!("/bytes/{length}"), Either::Left(Empty::new()))
            .await?;
        let mut body = response.into_body();
        let mut hasher = Hasher::default();
        let mut received = 0;
        while let Some(frame) = timeout(STALL, body.frame()).await.context("the download stalled")? {
            if let Some(data) = frame?.data_ref() {
                hasher.update(data);
                received += data.len() as u64;
            }
            let due = Duration::from_secs_f64(received as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        }
        Ok(hasher.finish())
    }

    /// Uploads the payload of `length` bytes and returns the hash that the server found.
    pub async fn upload(&mut self, length: u64) -> Result<String> {
        let sent = self.send("POST", "/hash", Either::Right(Payload::new(length)));
        text(timeout(STALL * 4, sent).await.context("the upload stalled")??).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Either<Empty<Bytes>, Payload>,
    ) -> Result<Response<Incoming>> {
        self.requests.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .body(body)?;
        let response = self.requests.send_request(request).await?;
        ensure!(response.status().is_success(), "{method} {path}: {}", response.status());
        Ok(response)
    }
}

async fn text(response: Response<Incoming>) -> Result<String> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// `GET path` over a new connection.
pub async fn get(target: SocketAddr, path: &str) -> Result<String> {
    Connection::open(target).await?.get(path).await
}

/// `count` requests over as many connections, one after the other.
pub async fn sequential(target: SocketAddr, count: u32) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.add(get(target, "/").await);
    }
    tally
}

/// `workers` times [`sequential`], at the same time.
pub async fn concurrent(target: SocketAddr, workers: u32, each: u32) -> Tally {
    let mut set = JoinSet::new();
    for _ in 0..workers {
        set.spawn(sequential(target, each));
    }
    let mut tally = Tally::default();
    while let Some(done) = set.join_next().await {
        match done {
            Ok(part) => tally.join(part),
            Err(error) => tally.failures.push(error.to_string()),
        }
    }
    tally
}

/// One datagram from a new socket and the name of the pod that answered. The answer must come from `target` itself and
/// carry what was sent; a datagram that stays without one is sent twice more, for a first packet may be lost to
/// neighbour discovery.
pub fn udp(target: SocketAddr, payload: &[u8]) -> Result<String> {
    let any: IpAddr = if target.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // Not connected: the kernel would hide an answer from a wrong address.
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = vec![0; 65536];
    for _ in 0..3 {
        socket.send_to(payload, target)?;
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        ensure!(from == target, "asked {target}, but {from} answered");
        let answer = &buffer[..length];
        let name = answer.strip_suffix(payload).and_then(|name| name.strip_suffix(b" "));
        return Ok(String::from_utf8_lossy(name.context("the answer is not what was sent")?).into_owned());
    }
    bail!("no answer from {target}")
}

/// `count` datagrams, each from a new socket.
pub fn udp_sequential(target: SocketAddr, count: u32) -> Tally {
    let mut tally = Tally::default();
    for number in 0..count {
        tally.add(udp(target, format!("datagram {number}").as_bytes()));
    }
    tally
}

/// Runs async client code on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .unwrap_or_else(|error| panic!("no tokio runtime: {error}"))
        .block_on(future)
}
