//! The state of a connection, step by step.

use svcproxy_common::{
    abi::{FlowState, FlowState::*, Protocol},
    flow::TcpFlags,
};

const SYN: TcpFlags = TcpFlags(0x02);
const SYN_ACK: TcpFlags = TcpFlags(0x12);
const ACK: TcpFlags = TcpFlags(0x10);
const FIN: TcpFlags = TcpFlags(0x11);
const RST: TcpFlags = TcpFlags(0x04);
const RST_ACK: TcpFlags = TcpFlags(0x14);

#[test]
fn tcp() {
    let client = [SYN, ACK, FIN, RST, RST_ACK];
    let endpoint = [SYN_ACK, ACK, FIN, RST, RST_ACK];
    #[rustfmt::skip]
    let table = [
        // state, after the client's: SYN, ACK, FIN, RST, RST ACK; after the endpoint's: SYN ACK, ACK, FIN, RST, RST ACK
        (SYN_SENT,
            [SYN_SENT, SYN_SENT, SYN_SENT, CLOSING, CLOSING],
            [SYN_RECV, SYN_RECV, FIN_ENDPOINT, CLOSING, CLOSING]),
        (SYN_RECV,
            [SYN_RECV, ESTABLISHED, FIN_CLIENT, CLOSING, CLOSING],
            [SYN_RECV, SYN_RECV, FIN_ENDPOINT, CLOSING, CLOSING]),
        (ESTABLISHED,
            [ESTABLISHED, ESTABLISHED, FIN_CLIENT, CLOSING, CLOSING],
            [ESTABLISHED, ESTABLISHED, FIN_ENDPOINT, CLOSING, CLOSING]),
        (FIN_CLIENT,
            [FIN_CLIENT, FIN_CLIENT, FIN_CLIENT, CLOSING, CLOSING],
            [FIN_CLIENT, FIN_CLIENT, CLOSING, CLOSING, CLOSING]),
        (FIN_ENDPOINT,
            [FIN_ENDPOINT, FIN_ENDPOINT, CLOSING, CLOSING, CLOSING],
            [FIN_ENDPOINT, FIN_ENDPOINT, FIN_ENDPOINT, CLOSING, CLOSING]),
        (CLOSING, [CLOSING; 5], [CLOSING; 5]),
        // The mark of a reply's entry is no state and never changes by a step.
        (REPLY, [REPLY; 5], [REPLY; 5]),
        (AWAIT_REPLY, [AWAIT_REPLY; 5], [AWAIT_REPLY; 5]),
    ];
    for (state, after_client, after_endpoint) in table {
        for (flags, after) in client.into_iter().zip(after_client) {
            assert_eq!(state.step(flags, false), after, "{state:?} client {flags:?}");
        }
        for (flags, after) in endpoint.into_iter().zip(after_endpoint) {
            assert_eq!(state.step(flags, true), after, "{state:?} endpoint {flags:?}");
        }
    }
}

#[test]
fn udp() {
    for (state, reply, after) in [
        (UDP_UNREPLIED, false, UDP_UNREPLIED),
        (UDP_UNREPLIED, true, UDP_REPLIED),
        (UDP_REPLIED, false, UDP_REPLIED),
        (UDP_REPLIED, true, UDP_REPLIED),
    ] {
        assert_eq!(state.step(TcpFlags::NONE, reply), after, "{state:?} {reply}");
    }
}

#[test]
fn properties_of_states() {
    let states = [
        AWAIT_REPLY,
        REPLY,
        SYN_SENT,
        SYN_RECV,
        ESTABLISHED,
        FIN_CLIENT,
        FIN_ENDPOINT,
        CLOSING,
        UDP_UNREPLIED,
        UDP_REPLIED,
    ];
    let those = |property: fn(FlowState) -> bool| -> Vec<_> { states.into_iter().filter(|s| property(*s)).collect() };
    assert_eq!(those(FlowState::is_reply), [AWAIT_REPLY, REPLY]);
    assert_eq!(
        those(FlowState::confirmed),
        [ESTABLISHED, FIN_CLIENT, FIN_ENDPOINT, UDP_REPLIED]
    );
    assert_eq!(
        [Protocol::TCP, Protocol::UDP].map(FlowState::initial),
        [SYN_SENT, UDP_UNREPLIED]
    );
}

#[test]
fn flags_that_matter() {
    for (flags, control, opens) in [
        (SYN, true, true),
        (TcpFlags(0xc2), true, true), // with ECN's two
        (SYN_ACK, true, false),
        (TcpFlags(0x06), true, false), // SYN and RST
        (ACK, false, false),
        (TcpFlags(0x18), false, false),
        (FIN, true, false),
        (RST, true, false),
        (TcpFlags::NONE, false, false),
    ] {
        assert_eq!((flags.control(), flags.opens()), (control, opens), "{flags:?}");
    }
}
