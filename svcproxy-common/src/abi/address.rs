//! Addresses as they stand in packets and maps.

use core::{fmt::Debug, hash::Hash};

/// An IP address as it stands in a packet: network byte order.
pub trait Address: Copy + Eq + Ord + Hash + Debug + 'static {
    /// Its octets, without an alignment.
    type Octets: Copy + Eq + Ord + Hash + Debug + 'static;

    /// All zeros: no address.
    const UNSPECIFIED: Self;

    /// The octets, most significant first.
    fn octets(&self) -> Self::Octets;

    /// The sum of its 16-bit words as stored, not folded: its part of an Internet checksum.
    fn sum(&self) -> u32;

    /// `AF_INET` or `AF_INET6`.
    const AF: u8;

    /// All its bits in 64, for hashing: IPv4 unchanged, IPv6 with both halves combined.
    fn bits(&self) -> u64;

    /// The last octet in the upper eight bits, where nothing else has a part, and below them all the others, combined.
    fn bits_last_octet_first(&self) -> u64;

    /// Whether it is in `network`: the bits that are set in `mask` are the same.
    fn is_in(&self, network: &Self, mask: &Self) -> bool;

    /// Whether no router forwards packets from it: the kernel's `rt6_need_strict` (net/ipv6/route.c).
    fn is_confined(&self) -> bool;

    /// Whether no host can send from it: the kernel's "martian source" (`ip_route_input_slow`, net/ipv4/route.c;
    /// `ip6_forward`, net/ipv6/ip6_output.c).
    fn is_martian(&self) -> bool;

    /// As the kernel's `bpf_fib_lookup` takes it: four words as stored, of which IPv4 uses the first.
    fn fib(&self) -> [u32; 4];

    /// The address out of such words.
    fn from_fib(words: [u32; 4]) -> Self;
}

/// Fibonacci hashing: 2⁶⁴ divided by the golden ratio. The upper bits of a product with it are the best.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// An IPv4 address, network byte order.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V4Addr {
    /// The four octets, most significant first.
    pub octets: [u8; 4],
}

/// An IPv6 address, network byte order. Aligned to 8 so that the kernel side compares and copies two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V6Addr {
    /// The sixteen octets, most significant first.
    pub octets: [u8; 16],
}

impl Address for V4Addr {
    const UNSPECIFIED: Self = Self { octets: [0; 4] };

    type Octets = [u8; 4];

    #[inline(always)]
    fn octets(&self) -> [u8; 4] {
        self.octets
    }

    const AF: u8 = 2;

    #[inline(always)]
    fn sum(&self) -> u32 {
        let word = u32::from_ne_bytes(self.octets);
        (word & 0xffff) + (word >> 16)
    }

    #[inline(always)]
    fn bits(&self) -> u64 {
        u32::from_ne_bytes(self.octets) as u64
    }

    #[inline(always)]
    fn bits_last_octet_first(&self) -> u64 {
        self.bits() << 32
    }

    #[inline(always)]
    fn is_in(&self, network: &Self, mask: &Self) -> bool {
        let word = |address: &Self| u32::from_ne_bytes(address.octets);
        (word(self) ^ word(network)) & word(mask) == 0
    }

    #[inline(always)]
    fn is_confined(&self) -> bool {
        false // the kernel asks in IPv6 alone
    }

    #[inline(always)]
    fn is_martian(&self) -> bool {
        let [first, ..] = self.octets;
        // "This network", loopback, multicast, and the limited broadcast with what is reserved before it.
        first == 0 || first == 127 || first >= 224
    }

    #[inline(always)]
    fn fib(&self) -> [u32; 4] {
        [u32::from_ne_bytes(self.octets), 0, 0, 0]
    }

    #[inline(always)]
    fn from_fib([word, ..]: [u32; 4]) -> Self {
        Self {
            octets: word.to_ne_bytes(),
        }
    }
}

impl V6Addr {
    /// The two halves as stored: on BPF, two registers.
    #[inline(always)]
    fn halves(&self) -> [u64; 2] {
        // SAFETY: both are 16 bytes of which any value is valid. `from_ne_bytes` of parts, and u128, compile to
        // single-byte copies through the stack or crash LLVM 22's BPF backend.
        unsafe { core::mem::transmute::<Self, [u64; 2]>(*self) }
    }
}

impl Address for V6Addr {
    const UNSPECIFIED: Self = Self { octets: [0; 16] };

    type Octets = [u8; 16];

    #[inline(always)]
    fn octets(&self) -> [u8; 16] {
        self.octets
    }

    const AF: u8 = 10;

    #[inline(always)]
    fn sum(&self) -> u32 {
        let sum16 = |half: u64| (half & 0xffff) + (half >> 16 & 0xffff) + (half >> 32 & 0xffff) + (half >> 48);
        let [high, low] = self.halves();
        (sum16(high) + sum16(low)) as u32
    }

    #[inline(always)]
    fn bits(&self) -> u64 {
        let [high, low] = self.halves();
        high.wrapping_mul(GOLDEN) ^ low
    }

    #[inline(always)]
    fn bits_last_octet_first(&self) -> u64 {
        // A network's last octets are the upper bits of its half; of a product they leave their mark in the upper ones.
        let [high, low] = self.halves();
        high.wrapping_mul(GOLDEN) >> 32 ^ low
    }

    #[inline(always)]
    fn is_in(&self, network: &Self, mask: &Self) -> bool {
        let ([high, low], [net_high, net_low], [mask_high, mask_low]) =
            (self.halves(), network.halves(), mask.halves());
        (high ^ net_high) & mask_high | (low ^ net_low) & mask_low == 0
    }

    #[inline(always)]
    fn is_confined(&self) -> bool {
        let [high, low] = self.halves();
        let [high, low] = [u64::from_be(high), u64::from_be(low)];
        let multicast = high >> 56 == 0xff;
        let link_local = high >> 54 == 0xfe80 >> 6;
        let loopback = high == 0 && low == 1;
        multicast | link_local | loopback
    }

    #[inline(always)]
    fn is_martian(&self) -> bool {
        let [high, low] = self.halves();
        let [high, low] = [u64::from_be(high), u64::from_be(low)];
        let multicast = high >> 56 == 0xff;
        let unspecified_or_loopback = high == 0 && low <= 1;
        multicast | unspecified_or_loopback
    }

    #[inline(always)]
    fn fib(&self) -> [u32; 4] {
        let [high, low] = self.halves();
        [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
    }

    #[inline(always)]
    fn from_fib([a, b, c, d]: [u32; 4]) -> Self {
        let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        // SAFETY: as in `halves`.
        unsafe { core::mem::transmute::<[u64; 2], Self>([half(a, b), half(c, d)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> V6Addr {
        let address: std::net::Ipv6Addr = text.parse().unwrap();
        V6Addr {
            octets: address.octets(),
        }
    }

    #[test]
    fn multicast_link_local_and_loopback_are_confined() {
        for (address, confined) in [
            ("ff02::1", true),
            ("fe80::1", true),
            ("febf:ffff::1", true),
            ("::1", true),
            ("fec0::1", false),
            ("fd00::1", false),
            ("::2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(v6(address).is_confined(), confined, "{address}");
        }
    }

    #[test]
    fn a_network_is_what_its_mask_says() {
        let v4 = |octets| V4Addr { octets };
        let (network, mask) = (v4([10, 96, 0, 0]), v4([255, 240, 0, 0]));
        assert!(v4([10, 111, 255, 255]).is_in(&network, &mask));
        assert!(!v4([10, 112, 0, 0]).is_in(&network, &mask));
        let (network, mask) = (v6("fd00:10:96::"), v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff::"));
        assert!(v6("fd00:10:96::ffff").is_in(&network, &mask));
        assert!(!v6("fd00:10:96::1:0").is_in(&network, &mask));
        assert!(!v6("fd00:10:97::").is_in(&network, &mask));
    }
}
