//! A small HTTP server: one listener, one function from path to answer.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// For how long a client may take to send a request, or keep a connection without one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections at a time; what comes in beyond them waits to be accepted.
const CONNECTIONS: usize = 256;

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// A running server. Dropping it ends it and its connections.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// Listens, and answers each request by its path, whatever the method. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address and port cannot be listened to.
    pub(super) fn start(
        address: SocketAddr,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            address: listener.local_addr()?,
            task: tokio::spawn(accept(listener, Arc::new(answer))).abort_handle(),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<F>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(&str) -> Answer + Send + Sync + 'static,
{
    // Ends its connections when it is dropped.
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, answer.clone()));
            }
            // Out of descriptors, say: the connection stays in the backlog, and trying again at once would spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve<F>(stream: TcpStream, answer: Arc<F>)
where
    F: Fn(&str) -> Answer,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    // Its error is the client's to notice: it went away or spoke no HTTP.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An answer in JSON: 200 when all is well, else 503.
pub(super) fn json(well: bool, body: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(body).expect("the bodies are plain structs");
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = match well {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// For paths that mean nothing.
pub(super) fn not_found() -> Answer {
    let mut answer = Response::new(Full::from("there are /healthz and /livez\n"));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
