//! Which endpoint a new connection gets: the client's own where affinity is asked for, else the one its addresses
//! hash to.

use crate::{
    Reason, Tables,
    abi::{Address, AffinityEntry, AffinityKey, Backend, BackendKey, Empty, EndpointSet, FlowKey, ServiceEntry},
    flow,
};

/// An endpoint that was chosen.
pub struct Choice<'a, A> {
    /// Its number.
    pub endpoint: u32,
    /// Where it listens.
    pub backend: &'a Backend<A>,
}

/// Chooses an endpoint of `service`, out of `set`, for the connection that `key` opens.
#[inline(always)]
pub fn choose<'a, A, T>(
    tables: &'a T,
    key: &FlowKey<A>,
    service: &ServiceEntry,
    set: &EndpointSet,
    now: u32,
) -> Result<Choice<'a, A>, Reason>
where
    A: Address,
    T: Tables<A>,
{
    let choice = |endpoint| {
        let key = BackendKey {
            endpoint_set: set.number,
            endpoint,
        };
        match tables.backend(&key) {
            Some(backend) => Ok(Choice { endpoint, backend }),
            None => Err(Reason::EndpointMissing),
        }
    };
    if service.affinity_seconds == 0 {
        return choice(slot(tables, set, hash(key))?);
    }

    let client = AffinityKey {
        client: key.src,
        service: service.service,
        reserved: 0,
    };
    match tables.affinity(&client) {
        Some(given) => {
            let fresh = flow::age(given.last_seen(), now) <= service.affinity_seconds;
            if fresh && let Ok(choice) = choice(given.endpoint()) {
                given.set_last_seen(now);
                return Ok(choice);
            }
            let endpoint = slot(tables, set, client_hash(key.src))?;
            // In this order: another processor must not see the old endpoint refreshed.
            given.set_endpoint(endpoint);
            given.set_last_seen(now);
            choice(endpoint)
        }
        None => {
            let endpoint = slot(tables, set, client_hash(key.src))?;
            tables.set_affinity(
                &client,
                &AffinityEntry {
                    endpoint,
                    last_seen: now,
                },
            );
            choice(endpoint)
        }
    }
}

/// The endpoint in the slot that a hash falls on.
#[inline(always)]
fn slot<A: Address>(tables: &impl Tables<A>, set: &EndpointSet, hash: u64) -> Result<u32, Reason> {
    if set.slot_count == 0 {
        return Err(match set.empty {
            Empty::REJECT => Reason::NoEndpoint,
            Empty::DROP => Reason::NoLocalEndpoint,
        });
    }
    // The upper half of the product of a 32-bit hash and n is uniform over 0..n, and needs no division.
    let index = ((hash >> 32) * u64::from(set.slot_count)) >> 32;
    tables
        .slot(set.slot_offset.wrapping_add(index as u32))
        .ok_or(Reason::EndpointMissing)
}

/// Hash of a connection, the same on every node: a lost entry finds its endpoint again.
#[inline(always)]
fn hash<A: Address>(key: &FlowKey<A>) -> u64 {
    mix(mix(mix(0, key.src.bits()), key.dst.bits()), key.ports_and_protocol())
}

/// One of `count` ports from `first` on for a connection that cannot keep its client's: another for each turn.
#[inline(always)]
pub fn port<A: Address>(key: &FlowKey<A>, turn: u32, first: u32, count: u32) -> u16 {
    (u64::from(first) + (((mix(hash(key), turn.into()) >> 32) * u64::from(count)) >> 32)) as u16
}

/// Hash of a client alone: every port of a Service, and every node, agrees on it before anything is stored.
#[inline(always)]
fn client_hash<A: Address>(client: A) -> u64 {
    mix(0, client.bits())
}

/// One round of a multiply–xor-shift hash (the finaliser of MurmurHash3).
#[inline(always)]
fn mix(state: u64, word: u64) -> u64 {
    let mut hash = state ^ word;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
