//! TCP from the client. Every function runs on the calling thread, in whose namespace it finds its target.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use crate::report::Summary;

/// Connections that are open at a time.
const AT_ONCE: usize = 32;
/// The size of a write.
const PIECE: usize = 1 << 17;
/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections a second, each opened, used for one byte each way, and closed.
pub(super) fn connections(target: SocketAddr, seconds: f64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(seconds);
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            clients.spawn(async move {
                let mut count = 0_u32;
                while Instant::now() < end {
                    connect_once(target).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            });
        }
        let mut total = 0;
        while let Some(count) = clients.join_next().await {
            total += count??;
        }
        Ok(f64::from(total) / begun.elapsed().as_secs_f64())
    })
}

async fn connect_once(target: SocketAddr) -> Result<()> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(target).await?;
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await?;
        // Closed by a reset: sixty thousand ports would be in TIME_WAIT after three seconds.
        stream.set_zero_linger()
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .context("no answer in time")??;
    Ok(())
}

/// Microseconds from a request to its answer over one connection: the median, and what one in a hundred exceeds.
pub(super) fn latency(target: SocketAddr, seconds: f64) -> Result<[f64; 2]> {
    let mut stream = connect(target)?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    // One in a hundred of fewer is none.
    while Instant::now() < end || times.len() < 100 {
        let begun = Instant::now();
        ensure!(begun < end + PATIENCE, "only {} answers", times.len());
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok([Summary::of(&times).median, times[times.len() * 99 / 100]])
}

/// Gigabits a second over one connection.
pub(super) fn bulk(target: SocketAddr, seconds: f64) -> Result<f64> {
    let mut stream = connect(target)?;
    let piece = vec![0; PIECE];
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let mut sent = 0;
    while Instant::now() < end {
        stream.write_all(&piece)?;
        sent += piece.len();
    }
    Ok(sent as f64 * 8e-9 / begun.elapsed().as_secs_f64())
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
