//! How long Services take to work: from the start of the daemon, and from a change of their manifests, until a
//! connection through the datapath is answered.

mod stages;

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use svcproxy_tests::{
    lab::Lab,
    namespace::Namespace,
    topology::{CLIENT, Topology},
};

use crate::{
    Effort, manifests,
    report::{Row, Summary},
};

/// Slots for 20 000 Services.
const BACKEND_SLOTS: u32 = 1 << 22;
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_millis(20);

/// Takes the measurements.
pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let (counts, rounds): (&[u32], usize) = match effort {
        Effort::Quick => (&[5_000], 1),
        Effort::Full => (&[1, 100, 5_000, 20_000], 5),
    };
    let lab = Lab::new(&Topology::default())?;
    let IpAddr::V4(client) = CLIENT[0] else {
        bail!("the client's first address is IPv4");
    };
    // Endpoints that nobody is at are behind the client.
    lab.node
        .ip(&format!("route add {} via {client}", manifests::ELSEWHERE))?;
    let mut rows = Vec::new();
    for &count in counts {
        rows.extend(daemon(&lab, count, rounds)?);
        rows.extend(stages::run(&lab, count, rounds)?);
    }
    Ok(rows)
}

/// The addresses of the first two pods.
fn pods(lab: &Lab) -> Result<[(String, Ipv4Addr); 2]> {
    let pod = |index: usize| match (&lab.pods[index].name, lab.pods[index].addresses[0]) {
        (name, IpAddr::V4(address)) => Ok((name.clone(), address)),
        (name, _) => bail!("{name} has no IPv4 address"),
    };
    Ok([pod(0)?, pod(1)?])
}

/// Writes the manifests, the last Service served by one pod.
fn write(lab: &Lab, count: u32, pod: Ipv4Addr) -> Result<()> {
    let files = manifests::files(count, &[pod]);
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    lab.set_manifests(&files).map(drop)
}

/// The daemon as users run it.
fn daemon(lab: &Lab, count: u32, rounds: usize) -> Result<Vec<Row>> {
    let [(first_name, first), (second_name, second)] = pods(lab)?;
    let target = SocketAddr::from((manifests::cluster_ip(count - 1), 80));
    let slots = format!("--backend-slots={BACKEND_SLOTS}");
    let (mut start, mut change, mut resident, mut peak) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        write(lab, count, first)?;
        let begun = Instant::now();
        let (daemon, began) = thread::scope(|scope| {
            let probe = scope.spawn(|| answered(&lab.client, target, &first_name));
            let daemon = lab.start_daemon_with(&["--iface", "eth0", "--mode", "tc", &slots]);
            (
                daemon,
                probe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        let daemon = daemon?;
        start.push(milliseconds(began? - begun));
        let (now, most) = memory(daemon.id())?;
        resident.push(now);
        peak.push(most);

        let said = daemon.log().len();
        let file = lab.directory().join("manifests").join(manifests::LAST);
        let begun = Instant::now();
        fs::write(&file, manifests::service(count - 1, &[second])).context("cannot change a manifest")?;
        change.push(milliseconds(answered(&lab.client, target, &second_name)? - begun));
        daemon.wait_for(" reloaded", said)?;
        let status = daemon.stop()?;
        ensure!(status.success(), "svcproxy ended with {status}");
        lab.cleanup()?;
    }
    let row = |what: &str, unit, samples: &[f64]| {
        Row::new(format!("control/{count}-services/{what}"), unit, Summary::of(samples))
    };
    Ok(vec![
        row("start", "ms", &start),
        row("change", "ms", &change),
        row("resident", "MB", &resident),
        row("resident-peak", "MB", &peak),
    ])
}

/// When a connection to a Service is first answered by the pod `name`.
fn answered(client: &Namespace, target: SocketAddr, name: &str) -> Result<Instant> {
    client.enter(|| {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match ask(target) {
                Ok(answer) if answer == name => return Ok(Instant::now()),
                _ => thread::sleep(Duration::from_micros(500)),
            }
        }
        bail!("{name} does not answer at {target}")
    })
}

/// One request over a connection of its own: who answers.
fn ask(target: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT * 10))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// Memory of a process now, and at most so far, in megabytes.
fn memory(process: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kilobytes.with_context(|| format!("no {name} in the status of process {process}"))
    };
    Ok((field("VmRSS:")? / 1e3, field("VmHWM:")? / 1e3))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
