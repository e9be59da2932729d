//! Cluster IPs: kept where given, remembered where assigned before, else assigned from the service ranges.
//!
//! A Service without an address starts looking at a place that its namespace and name decide, so that it finds the
//! same address again even when nothing is remembered. As in kube-apiserver, the lower part of a range is left to
//! addresses people choose until the upper part is full; network and broadcast addresses are never assigned.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{Family, ServiceName};

/// The assignable addresses of one range, and which are taken.
pub(super) struct Pool<'a> {
    first: u128,
    size: u128,
    /// Addresses at the lower end left to people as long as there are others.
    reserved: u128,
    family: Family,
    taken: &'a mut BTreeSet<IpAddr>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(range: IpNet, taken: &'a mut BTreeSet<IpAddr>) -> Self {
        let (network, last) = (number(range.network()), number(range.broadcast()));
        let (family, ends) = match range {
            IpNet::V4(_) => (Family::V4, 2),
            IpNet::V6(_) => (Family::V6, 1),
        };
        let size = (last - network).saturating_add(1).saturating_sub(ends);
        // kube-apiserver's calculateRangeOffset: a sixteenth, at least 16, at most 256, nothing of a tiny range.
        let reserved = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        Self {
            first: network.saturating_add(1),
            size,
            reserved: reserved.min(size),
            family,
            taken,
        }
    }

    /// Takes the first free address from the place where `service` starts to look; `None` when all are taken.
    pub(super) fn assign(&mut self, service: &ServiceName) -> Option<IpAddr> {
        let upper = self.size - self.reserved;
        let start = u128::from(fnv1a(&[service.namespace.as_bytes(), b"/", service.name.as_bytes()]));
        // Among one more address than are taken, one is free.
        let tries = self.taken.len() as u128 + 1;
        let in_upper = (0..tries.min(upper)).map(|step| self.reserved + (start % upper + step) % upper);
        let in_lower = (0..tries.min(self.reserved)).map(|step| (start % self.reserved + step) % self.reserved);
        let offset = in_upper
            .chain(in_lower)
            .find(|&offset| !self.taken.contains(&self.address(offset)))?;
        let address = self.address(offset);
        self.taken.insert(address);
        Some(address)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// Whether `address` is one that a range may assign.
pub(super) fn is_assignable(range: &IpNet, address: IpAddr) -> bool {
    let broadcast = range.addr().is_ipv4() && address == range.broadcast();
    range.contains(&address) && address != range.network() && !broadcast
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every release, which std's hashers do not promise.
pub(super) fn fnv1a(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
