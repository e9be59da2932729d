//! IP addresses in manifests: how they are written and which of them can carry a Service.

use std::net::{IpAddr, Ipv4Addr};

use super::Report;

/// An address as manifests hold it; none for anything else, IPv4 in IPv6's clothes included.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    })
}

/// The same, reported when it is none.
pub(super) fn ip(field: &str, text: &str, report: &mut Report<'_>) -> Option<IpAddr> {
    let address = parse_ip(text);
    if address.is_none() {
        let advice = match text.split_once('/').and_then(|(ip, _)| parse_ip(ip.trim())) {
            Some(ip) => format!("write the address alone: {ip}"),
            None => "write an address such as 10.96.0.10 or fd00:10:96::10".to_owned(),
        };
        report.invalid(field, text, "is not an IP address", advice);
    }
    address
}

/// What keeps an address from being a Service's or an endpoint's.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("in the reserved network 0.0.0.0/8"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("in the reserved network 240.0.0.0/4"),
        _ => None,
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_carry_no_service() {
        for (text, usable) in [
            ("10.96.0.10", true),
            ("8.8.8.8", true),
            ("fd00:10:96::10", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("169.254.1.1", false),
            ("255.255.255.255", false),
            ("240.0.0.1", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(unusable(text.parse().unwrap()).is_none(), usable, "{text}");
        }
    }

    #[test]
    fn only_plain_addresses_parse() {
        for text in [
            "010.0.0.1",
            "10.0.0",
            "10.0.0.1/32",
            "::ffff:10.0.0.1",
            " 10.0.0.1",
            "localhost",
            "",
        ] {
            assert_eq!(parse_ip(text), None, "{text:?}");
        }
        assert_eq!(parse_ip("fd00::1"), Some("fd00::1".parse().unwrap()));
    }
}
