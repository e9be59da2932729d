//! Why a packet got its verdict: one enum from the kernel's counter to `svcproxy get reasons`.

/// What happened to a packet. The number is its index in the `reasons` map.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// Rewritten and sent on its way.
    Translated = 0,
    /// Neither IPv4 nor IPv6: ARP, VLAN-tagged and the like.
    NotIp = 1,
    /// Too short for the headers it claims.
    Truncated = 2,
    /// An IP header that contradicts itself.
    Malformed = 3,
    /// Neither TCP nor UDP, or behind an IPv6 extension header.
    OtherProtocol = 4,
    /// A fragment: only the first carries ports, so none is translated.
    Fragment = 5,
    /// No connection and no Service has this address and port.
    NotAService = 6,
    /// Its TTL or hop limit ends here; the kernel tells the sender.
    TtlExpired = 7,
    /// The Service has no endpoint to choose.
    NoEndpoint = 8,
    /// A table entry that should be there is not: the plan is being changed.
    EndpointMissing = 9,
    /// The flow table took no new entry.
    FlowTableFull = 10,
    /// The kernel refused to change the packet.
    RewriteFailed = 11,
    /// The client has too many connections to one endpoint under the same port.
    NoSourcePort = 12,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Translated,
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::OtherProtocol,
        Self::Fragment,
        Self::NotAService,
        Self::TtlExpired,
        Self::NoEndpoint,
        Self::EndpointMissing,
        Self::FlowTableFull,
        Self::RewriteFailed,
        Self::NoSourcePort,
    ];

    /// Whether a packet that ends for this reason is dropped; the others pass untouched.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        matches!(
            self,
            Self::NoSourcePort | Self::NoEndpoint | Self::EndpointMissing | Self::FlowTableFull | Self::RewriteFailed
        )
    }

    /// Name in listings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::OtherProtocol => "other_protocol",
            Self::Fragment => "fragment",
            Self::NotAService => "not_a_service",
            Self::TtlExpired => "ttl_expired",
            Self::NoEndpoint => "no_endpoint",
            Self::EndpointMissing => "endpoint_missing",
            Self::FlowTableFull => "flow_table_full",
            Self::RewriteFailed => "rewrite_failed",
            Self::NoSourcePort => "no_source_port",
        }
    }

    /// One line for people: what happened, and what became of the packet.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Translated => "rewritten and forwarded",
            Self::NotIp => "passed: neither IPv4 nor IPv6 (ARP, VLAN tags, …)",
            Self::Truncated => "passed: too short for its headers",
            Self::Malformed => "passed: its IP header contradicts itself",
            Self::OtherProtocol => "passed: neither TCP nor UDP, or an IPv6 extension header",
            Self::Fragment => "passed: IP fragment",
            Self::NotAService => "passed: belongs to no connection and no Service",
            Self::TtlExpired => "passed: TTL ends here, the kernel answers",
            Self::NoEndpoint => "dropped: the Service has no endpoint",
            Self::EndpointMissing => "dropped: endpoint not in the maps",
            Self::FlowTableFull => "dropped: no room for a new connection",
            Self::RewriteFailed => "dropped: the kernel refused to change the packet",
            Self::NoSourcePort => "dropped: no source port left to tell the client's connections apart",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_names_are_unique() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let same_name = Reason::ALL.into_iter().filter(|other| other.name() == reason.name());
            assert_eq!(same_name.count(), 1, "{}", reason.name());
            assert_eq!(
                reason.drops(),
                reason.description().starts_with("dropped"),
                "{}",
                reason.name()
            );
        }
    }
}
