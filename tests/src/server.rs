//! What runs in a pod: a real HTTP server that answers with the pod's name, and a UDP echo on the same ports.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the pod's name and a newline |
//! | `GET /peer` | the client's address, as the pod sees it |
//! | `GET /bytes/N` | the payload of N bytes |
//! | `POST /hash` | the SHA-256 of the body |
//! | the UDP datagram `peer` | the pod's name, a space, the client's address as the pod sees it |
//! | any other | the pod's name, a space, the datagram |

use std::{
    convert::Infallible,
    future,
    io::{self, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    runtime,
};

use crate::payload::{Hasher, Payload};

/// What the server prints once every port listens.
pub const READY: &str = "listening";

/// Serves on `ports` as the pod `name`, on both families, until the process is killed.
pub fn serve(name: &str, ports: &[u16]) -> Result<Infallible> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let name: Arc<str> = name.into();
        for &port in ports {
            let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let context = || format!("cannot listen on port {port}");
            let tcp = TcpListener::bind(address).await.with_context(context)?;
            let udp = UdpSocket::bind(address).await.with_context(context)?;
            tokio::spawn(accept(tcp, name.clone()));
            tokio::spawn(echo(udp, name.clone()));
        }
        println!("{READY}");
        io::stdout().flush()?;
        future::pending().await
    })
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        // A failed accept is of one connection (reset before it was taken); the client counts it.
        if let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(connection(stream, peer.ip().to_canonical(), name.clone()));
        }
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, name: Arc<str>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| {
        let name = name.clone();
        async move { Ok::<_, Infallible>(answer(request, peer, &name).await) }
    });
    // Its error is the client's to notice: it went away or spoke no HTTP.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

type Body = Either<Full<Bytes>, Payload>;

async fn answer(request: Request<Incoming>, peer: IpAddr, name: &str) -> Response<Body> {
    let text = |text: String| Response::new(Either::Left(Full::from(text)));
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/") => text(format!("{name}\n")),
        (&Method::GET, "/peer") => text(format!("{peer}\n")),
        (&Method::POST, "/hash") => text(format!("{}\n", hash_of(request.into_body()).await)),
        (&Method::GET, path) if let Some(length) = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) => {
            Response::new(Either::Right(Payload::new(length)))
        }
        _ => {
            let mut response = text("no such thing\n".to_owned());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn hash_of(mut body: Incoming) -> String {
    let mut hasher = Hasher::default();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            hasher.update(data);
        }
    }
    hasher.finish()
}

async fn echo(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; 65536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let text = match &buffer[..length] {
            b"peer" => from.ip().to_canonical().to_string().into_bytes(),
            datagram => datagram.to_owned(),
        };
        let reply = [name.as_bytes(), b" ", &text].concat();
        // A datagram may be lost; that is for the client to count.
        socket.send_to(&reply, from).await.ok();
    }
}
