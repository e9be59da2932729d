//! The servers in the pod, as cheap as servers can be: what is measured is the way to them.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Read as _},
    net::{TcpListener, UdpSocket},
    process::Child,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::POD;

/// What the servers print once all listen.
const READY: &str = "ready";

/// First byte of a datagram that wants an answer.
pub(super) const QUESTION: u8 = b'?';

/// How long the server of datagrams looks away after one that wants no answer: what comes meanwhile is counted by the
/// kernel, and nobody is woken for it.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the servers that a process runs all listen.
pub(super) fn wait_until_ready(process: &mut Child) -> Result<()> {
    let mut line = String::new();
    let output = process.stdout.take().context("the output of the servers is piped")?;
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == READY, "the servers did not start");
    Ok(())
}

/// Runs the servers until the process is killed.
pub(crate) fn serve() -> Result<Infallible> {
    let sink = TcpListener::bind(("0.0.0.0", POD.sink))?;
    let datagrams = UdpSocket::bind(("0.0.0.0", POD.datagrams))?;
    thread::spawn(move || {
        for stream in sink.incoming().flatten() {
            thread::spawn(move || swallow(stream));
        }
    });
    thread::spawn(move || answer(&datagrams));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let echo = tokio::net::TcpListener::bind(("0.0.0.0", POD.echo)).await?;
        println!("{READY}");
        loop {
            let Ok((mut stream, _)) = echo.accept().await else {
                continue; // it was reset before it was accepted
            };
            stream.set_nodelay(true).ok();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

fn swallow(mut stream: std::net::TcpStream) {
    let mut buffer = vec![0; 1 << 18];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length @ 1.., from)) if buffer[0] == QUESTION => drop(socket.send_to(&buffer[..length], from)),
            _ => thread::sleep(PAUSE),
        }
    }
}
