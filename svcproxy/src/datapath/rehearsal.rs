//! What the real program makes of a connection, without a trace: the program in maps of its own, in a network namespace
//! of its own, asked by test runs.
//!
//! In come the contents of the maps and the first packet of a connection, out goes what the program did with it. What
//! it remembered is removed again, so that every question finds the same tables. No route leads anywhere in that
//! namespace, so that a masqueraded connection always gets the address of `config_`, here one that no client has:
//! that is how it is recognised.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use nix::sched::{CloneFlags, unshare};
use svcproxy_common::{
    Fate, Reason,
    abi::{AffinityEntry, AffinityKey, Config, FlowEntry, FlowKey, Protocol, V4Addr, V6Addr},
    flow::reverse_key,
};

mod memory;

pub use self::memory::{ExistingFlow, Memory};
use super::{
    Datapath, DatapathError, Family, MapKeys, Maps, Sizes,
    links::Hook,
    maps::delete,
    trial::{Action, Trial},
};
use crate::{
    model::PortRange,
    plan::{Diff, MapAddress, MapContents, sets_of},
};

/// "IPv4 dummy address" (RFC 7600): never anybody's.
const MASQUERADE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// In the discard-only block (RFC 6666).
const MASQUERADE_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// Entries of the tables of connections: one question needs two.
const FLOWS: u32 = 1024;

/// The two ends of a connection and its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client.
    pub src: SocketAddr,
    /// Where it connects to.
    pub dst: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// What the program did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The reason it counted.
    pub reason: Reason,
    /// What it told the kernel to do.
    pub action: Action,
    /// What it wrote over the packet's addresses and ports, if it did.
    pub rewriting: Option<Rewriting>,
}

/// How a connection's packets are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewriting {
    /// The source that the endpoint sees.
    pub src: SocketAddr,
    /// The endpoint.
    pub dst: SocketAddr,
    /// Whether the source is the masquerade address.
    pub masquerade: bool,
}

/// The program, ready to be asked.
pub struct Rehearsal {
    datapath: Datapath,
    counted: Vec<(Reason, u64)>,
    /// Whether what is not plain has its program: the verifier takes a second over it, and most questions need it not.
    takes_any: bool,
}

impl Rehearsal {
    /// Loads the program over private maps with these contents. The calling thread moves into an empty network
    /// namespace and stays there.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or when the maps do not hold afterwards what they should.
    pub fn of(contents: &MapContents) -> Result<Self, DatapathError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| DatapathError::Namespace(error.into()))?;
        let mut contents = contents.clone();
        contents.v4.config = Some(config(contents.v4.config, MASQUERADE_V4.into()));
        contents.v6.config = Some(config(contents.v6.config, MASQUERADE_V6.into()));

        let mut datapath = Datapath::load_tc_in(&sizes(&contents))?;
        let maps = &mut datapath.maps;
        maps.apply(&Diff::between(&MapContents::default(), &contents))?;
        let counted = maps.reasons()?;
        Ok(Self {
            datapath,
            counted,
            takes_any: false,
        })
    }

    /// What the maps hold, read back from the kernel.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn contents(&self) -> Result<MapContents, DatapathError> {
        self.datapath.maps.contents()
    }

    /// Runs the program on the first packet of a connection. `service` is the number of the Service that it is for.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to run it, or a table cannot be read or changed.
    pub fn ask(
        &mut self,
        connection: &Connection,
        frame: &[u8],
        service: Option<u32>,
        memory: &Memory,
    ) -> Result<Finding, DatapathError> {
        if connection.protocol == Protocol::SCTP && !self.takes_any {
            self.datapath.load_successor(Maps::SUCCESSORS[0])?;
            self.takes_any = true;
        }
        match connection.dst {
            SocketAddr::V4(_) => self.ask_family::<V4Addr>(connection, frame, service, memory),
            SocketAddr::V6(_) => self.ask_family::<V6Addr>(connection, frame, service, memory),
        }
    }

    fn ask_family<A: Tables>(
        &mut self,
        connection: &Connection,
        frame: &[u8],
        service: Option<u32>,
        memory: &Memory,
    ) -> Result<Finding, DatapathError>
    where
        FlowKey<A>: Pod,
        FlowEntry<A>: Pod,
        AffinityKey<A>: Pod,
        AffinityEntry: Pod,
    {
        let key = flow_key::<A>(connection);
        let client = |service| AffinityKey {
            client: key.src,
            service,
            reserved: 0,
        };
        if let Some((service, entry)) = &memory.affinity {
            let affinity = &mut A::family(&mut self.datapath.maps).affinity;
            let inserted = affinity.insert(client(*service), entry, 0);
            inserted.map_err(DatapathError::map("affinity"))?;
        }
        let outcome = self.datapath.try_out(&Trial {
            hook: Hook::TcIn,
            frame,
            ifindex: 0,
            gso_size: 0,
            repeat: 1,
        })?;
        let reason = self.counted()?;
        let tables = A::family(&mut self.datapath.maps);
        let entry = lookup(&tables.pending, &key, "pending")?;
        if let Some(entry) = &entry {
            delete(&mut tables.pending, &[key, reverse_key(&key, entry)], "pending")?;
        }
        if let Some(service) = service {
            delete(&mut tables.affinity, &[client(service)], "affinity")?;
        }
        Ok(Finding {
            reason,
            action: outcome.action,
            rewriting: entry.map(|entry| rewriting(&entry)),
        })
    }

    /// The reason that was counted since the last question; that of the last program, when one has gone on to another.
    fn counted(&mut self) -> Result<Reason, DatapathError> {
        let counted = self.datapath.maps.reasons()?;
        let before = std::mem::replace(&mut self.counted, counted);
        let counts = self.counted.iter().zip(&before);
        let grown = counts.filter(|(now, before)| now.1 != before.1).map(|(now, _)| now.0);
        let grown = grown.min_by_key(|reason| reason.fate() == Fate::Defer);
        grown.ok_or(DatapathError::NotCounted)
    }
}

/// An address whose maps are found by its type.
trait Tables: MapKeys + MapAddress {
    /// The maps of its family.
    fn family(maps: &mut Maps) -> &mut Family<Self>
    where
        Self: Sized;
}

impl Tables for V4Addr {
    fn family(maps: &mut Maps) -> &mut Family<Self> {
        &mut maps.v4
    }
}

impl Tables for V6Addr {
    fn family(maps: &mut Maps) -> &mut Family<Self> {
        &mut maps.v6
    }
}

fn flow_key<A: MapAddress>(connection: &Connection) -> FlowKey<A> {
    let address = |ip| A::from_ip(ip).expect("both ends are of the family that was asked for");
    FlowKey {
        src: address(connection.src.ip()),
        dst: address(connection.dst.ip()),
        src_port: connection.src.port(),
        dst_port: connection.dst.port(),
        protocol: connection.protocol,
    }
}

fn rewriting<A: MapAddress>(entry: &FlowEntry<A>) -> Rewriting {
    let src = entry.src.socket(entry.src_port.into());
    Rewriting {
        src,
        dst: entry.dst.socket(entry.dst_port.into()),
        masquerade: [IpAddr::V4(MASQUERADE_V4), IpAddr::V6(MASQUERADE_V6)].contains(&src.ip()),
    }
}

fn lookup<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, key: &K, name: &str) -> Result<Option<V>, DatapathError> {
    match map.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(error) if super::maps::is_gone(&error) => Ok(None),
        Err(error) => Err(DatapathError::map(name)(error)),
    }
}

/// The configuration with another address to masquerade behind.
fn config<A: MapAddress>(config: Option<Config<A>>, address: IpAddr) -> Config<A> {
    let ports = PortRange::MASQUERADE;
    let config = config.unwrap_or(Config {
        node_address: A::UNSPECIFIED,
        masquerade_port_first: ports.first.into(),
        masquerade_port_count: ports.count(),
        // Every address may be in the service ranges.
        service_network: A::UNSPECIFIED,
        service_mask: A::UNSPECIFIED,
        routes_by_destination: false,
        reserved: [0; 7],
    });
    Config {
        node_address: A::from_ip(address).unwrap_or(A::UNSPECIFIED),
        ..config
    }
}

/// Just enough room for these contents.
fn sizes(contents: &MapContents) -> Sizes {
    let larger = |v4: usize, v6: usize| u32::try_from(v4.max(v6)).unwrap_or(u32::MAX).max(1);
    let slots = contents.entries().flat_map(sets_of);
    let slots = slots.map(|set| set.slot_offset + set.slot_count).max();
    Sizes {
        flows: FLOWS,
        pending: FLOWS,
        affinity: FLOWS,
        sockets: 1,
        services: larger(contents.v4.services.len(), contents.v6.services.len()),
        backends: larger(contents.v4.backends.len(), contents.v6.backends.len()),
        slots: slots.unwrap_or(0).max(1),
    }
}
