//! Why a packet got its verdict: one enum from the kernel's counter to `svcproxy get reasons`.

/// What becomes of a packet that is not translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on untouched.
    Pass,
    /// It goes on to the program for packets that are not plain.
    Defer,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender gets an ICMP port unreachable.
    Reject,
}

/// Declares the reasons: name, fate, description.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal, $fate:ident, $description:literal;)+) => {
        /// What happened to a packet. The number is its index in the `reasons` map.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason { $($(#[$doc])+ $variant = $number,)+ }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$variant => Fate::$fate,)+ }
            }

            /// Name in listings and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for people: what happened, and what became of the packet.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }
    };
}

reasons! {
    /// Rewritten and sent on its way.
    Translated = 0, "translated", Pass, "rewritten and forwarded";
    /// Neither IPv4 nor IPv6.
    NotIp = 1, "not_ip", Pass, "passed: neither IPv4 nor IPv6 (ARP and the like)";
    /// Too short for the headers it claims.
    Truncated = 2, "truncated", Pass, "passed: too short for its headers";
    /// An IP header that contradicts itself.
    Malformed = 3, "malformed", Pass, "passed: its IP header contradicts itself";
    /// A protocol that no Service can have.
    OtherProtocol = 4, "other_protocol", Pass, "passed: neither TCP, UDP nor SCTP";
    /// A later fragment whose first has not been seen.
    Fragment = 5, "fragment", Pass, "passed: a fragment whose first has not been seen";
    /// No connection and no Service has this address and port.
    NotAService = 6, "not_a_service", Pass, "passed: belongs to no connection and no Service";
    /// Its TTL or hop limit ends here; the kernel tells the sender.
    TtlExpired = 7, "ttl_expired", Pass, "passed: TTL ends here, the kernel answers";
    /// The Service has no endpoint.
    NoEndpoint = 8, "no_endpoint", Reject, "rejected: the Service has no endpoint";
    /// It has, but its traffic policy leaves out all of them.
    NoLocalEndpoint = 9, "no_local_endpoint", Drop, "dropped: no endpoint on this node, and the policy is Local";
    /// A cluster IP, at a port that no ServicePort has.
    OtherPort = 10, "other_port", Reject, "rejected: the Service has no such port";
    /// An address of the service range that no Service has.
    Unallocated = 11, "unallocated", Drop, "dropped: no Service has this address of the service range";
    /// The client is not in `loadBalancerSourceRanges`.
    SourceRange = 12, "source_range", Drop, "dropped: the client is not in loadBalancerSourceRanges";
    /// A table entry that should be there is not: the plan is being changed.
    EndpointMissing = 13, "endpoint_missing", Drop, "dropped: endpoint not in the maps";
    /// The flow table took no new entry.
    FlowTableFull = 14, "flow_table_full", Drop, "dropped: no room for a new connection";
    /// The kernel refused to change the packet.
    RewriteFailed = 15, "rewrite_failed", Drop, "dropped: the kernel refused to change the packet";
    /// No source port is left that tells this connection from another.
    NoSourcePort = 16, "no_source_port", Drop, "dropped: no source port left to tell connections apart";
    /// Nothing says which address to masquerade behind.
    NoSourceAddress = 17, "no_source_address", Drop, "dropped: no address to masquerade behind";
    /// What is neither TCP nor UDP, and what has a VLAN tag, is a fragment, has IP options, extension headers, or headers in several
    /// pieces of memory is another program's, which counts it again.
    NotPlain = 18, "not_plain", Defer, "deferred to another program: neither TCP nor UDP, or a tag, fragment, IP option, extension header, or headers in pieces";
    /// It may not be fragmented, and the way to its next hop takes less.
    TooBig = 19, "too_big", Reject, "rejected: too big for its way, its sender is told the MTU";
    /// A TCP connection's endpoint is out of reach for good.
    EndpointUnreachable = 20, "endpoint_unreachable", Reject, "rejected: the endpoint cannot be reached any more, TCP is reset";
    /// The first fragment of a datagram of which others have come before: all come in again, in order.
    Reordered = 21, "reordered", Defer, "deferred: a first fragment that comes after others, which now follow it";
    /// The frame is for the hardware address of another host.
    OtherHost = 22, "other_host", Pass, "passed: the frame is for another host's hardware address";
    /// Its source is no host's address.
    Martian = 23, "martian", Pass, "passed: its source can be no host's address (loopback, multicast, unspecified)";
    /// `rp_filter` of the interface: the route to its source leads elsewhere.
    ReversePath = 24, "reverse_path", Pass, "passed: its source is not behind the interface it came by (rp_filter)";
    /// It opens nothing, and passed on a router that sends the service range here would send it back.
    Stray = 25, "stray", Drop, "dropped: a fragment without its first, or too short for its headers, for the service range";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_names_are_unique_and_descriptions_say_the_fate() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let same_name = Reason::ALL.into_iter().filter(|other| other.name() == reason.name());
            assert_eq!(same_name.count(), 1, "{}", reason.name());
            let fate = match reason.fate() {
                _ if reason == Reason::Translated => "rewritten",
                Fate::Pass => "passed",
                Fate::Defer => "deferred",
                Fate::Drop => "dropped",
                Fate::Reject => "rejected",
            };
            assert!(reason.description().starts_with(fate), "{}", reason.name());
        }
    }
}
