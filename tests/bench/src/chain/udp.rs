//! Small datagrams, faster than sockets could send them: frames that XDP puts on the client's wire (live frames of
//! `BPF_PROG_TEST_RUN`). The node takes each batch of them on the processor of the sender, so that none is lost.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use svcproxy_common::abi::{FlowKey, Protocol, V4Addr};
use svcproxy_tests::{lab::Lab, namespace::Namespace, topology::CLIENT};

use super::server::QUESTION;
use crate::{
    cpu,
    packets::{Bench, Hook, Target, Tuples},
};

/// Flows, each from a port of its own.
const FLOWS: u16 = 1024;
/// The first of these ports.
const FIRST_PORT: u16 = 20_000;
/// Datagrams sent at a time; so many take a few milliseconds.
const BURST: u32 = 16_384;
/// How often a measurement is tried.
const ATTEMPTS: u32 = 5;

/// A sender for one chain.
pub(super) struct Sender {
    bench: Bench,
    send: Target,
    tuples: Tuples,
    frame: Vec<u8>,
    /// The client's interface.
    ifindex: u32,
}

impl Sender {
    /// Opens the flows with real datagrams, that are answered.
    pub(super) fn new(lab: &Lab, target: Ipv4Addr, port: u16) -> Result<Self> {
        let IpAddr::V4(client) = CLIENT[0] else {
            bail!("the client's first address is IPv4");
        };
        let (ifindex, source) = interface(&lab.client)?;
        let (_, destination) = interface(&lab.node)?;
        lab.client.ip("link add held0 type veth peer name held1")?;
        lab.client.enter(|| {
            for port_of_client in FIRST_PORT..FIRST_PORT + FLOWS {
                open(port_of_client, SocketAddr::from((target, port)))?;
            }
            let mut bench = Bench::load(0, FLOWS.into(), 64, 64)?;
            bench.attach("generate_xdp_v4", "held0")?;
            let send = bench.own(Hook::Xdp, "send_xdp")?;
            let keys: Vec<_> = (FIRST_PORT..FIRST_PORT + FLOWS)
                .map(|src_port| FlowKey {
                    src: V4Addr {
                        octets: client.octets(),
                    },
                    dst: V4Addr {
                        octets: target.octets(),
                    },
                    src_port,
                    dst_port: port,
                    protocol: Protocol::UDP,
                })
                .collect();
            let tuples = bench.place(&keys)?;
            Ok(Self {
                bench,
                send,
                tuples,
                frame: frame(destination, source, client, target),
                ifindex,
            })
        })
    }

    /// Thousands of datagrams a second that reach the pod's socket. What loses some, because the machine was busy with
    /// something else, is repeated.
    pub(super) fn rate(&mut self, lab: &Lab, seconds: f64) -> Result<f64> {
        for _ in 1..ATTEMPTS {
            if let Ok(rate) = self.rate_once(lab, seconds) {
                return Ok(rate);
            }
        }
        self.rate_once(lab, seconds)
    }

    fn rate_once(&mut self, lab: &Lab, seconds: f64) -> Result<f64> {
        let pod = &lab.pods[0].namespace;
        let before = received(pod)?;
        let (sent, elapsed) = lab.client.enter(|| {
            cpu::pin(0)?;
            let begun = Instant::now();
            let mut sent = 0_u64;
            while begun.elapsed() < Duration::from_secs_f64(seconds) {
                self.bench
                    .send(self.send, self.tuples, &self.frame, self.ifindex, BURST)?;
                sent += u64::from(BURST);
            }
            anyhow::Ok((sent, begun.elapsed()))
        })?;
        let arrived = received(pod)? - before;
        ensure!(
            arrived * 100 >= sent * 99,
            "of {sent} datagrams only {arrived} reached the pod"
        );
        Ok(arrived as f64 / elapsed.as_secs_f64() / 1e3)
    }
}

fn open(port: u16, target: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    for _ in 0..3 {
        socket.send(&[QUESTION])?;
        if socket.recv(&mut [0; 64]).is_ok() {
            return Ok(());
        }
    }
    bail!("no answer from {target} over UDP")
}

/// Datagrams that have come to sockets, whether there was room for them or not.
fn received(pod: &Namespace) -> Result<u64> {
    let text = pod.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = lines
        .next()
        .zip(lines.next())
        .context("the kernel does not count datagrams")?;
    let counts = names.split(' ').zip(values.split(' '));
    let counted = counts.filter(|(name, _)| ["InDatagrams", "RcvbufErrors"].contains(name));
    Ok(counted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}

/// Number and hardware address of `eth0`.
fn interface(namespace: &Namespace) -> Result<(u32, [u8; 6])> {
    let text = namespace.run("ip", &["-json", "link", "show", "eth0"])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let index = links[0]["ifindex"].as_u64().context("eth0 has no number")?;
    let address = links[0]["address"].as_str().context("eth0 has no address")?;
    let mut octets = [0; 6];
    for (octet, text) in octets.iter_mut().zip(address.split(':')) {
        *octet = u8::from_str_radix(text, 16)?;
    }
    Ok((index as u32, octets))
}

/// A datagram of 60 bytes without a checksum of its own. That of its IP header holds whatever the ports.
fn frame(destination: [u8; 6], source: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut ip = [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[12..16].copy_from_slice(&src.octets());
    ip[16..20].copy_from_slice(&dst.octets());
    let words = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let checksum = !svcproxy_common::checksum::fold(words.sum());
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = [0, 0, 0, 0, 0, 26, 0, 0];
    [&destination[..], &source, &[8, 0], &ip, &udp, &[0; 18]].concat()
}
