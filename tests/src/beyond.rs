//! What lies beyond the lab's own links: hosts behind two more routers with a narrow link between them, and servers that
//! share the node's addresses, as pods with `hostNetwork` do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::{
    lab::Lab,
    topology::{CLIENT, NODE, PodSpec, REMOTE, REMOTE_ADDRESSES},
};

/// The router that a host is added behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// The client's namespace.
    Client,
    /// That of the pod [`REMOTE`].
    Remote,
}

/// The least MTU that IPv6 takes.
const IPV6: u32 = 1280;

impl Lab {
    /// Adds the host `name`, a pod as for its server, behind a router: 10.`number`.0.2 and fd00:`number`::2. Between that
    /// router and the host's own the link takes packets of `mtu` bytes. Neither end of a connection has that link, so
    /// that only path MTU discovery tells them. IPv6 is left out where it cannot be.
    pub fn add_beyond(&mut self, name: &str, number: u8, behind: Behind, mtu: u32) -> Result<[IpAddr; 2]> {
        let host = self.namespace(name)?;
        let own_router = self.namespace(&format!("{name}r"))?;
        let (router, [via4, via6]) = match behind {
            Behind::Client => (self.client.clone(), CLIENT),
            Behind::Remote => (self.pod(REMOTE)?.namespace.clone(), REMOTE_ADDRESSES),
        };
        let six = |commands: String| if mtu < IPV6 { String::new() } else { commands };
        for namespace in [&router, &own_router] {
            namespace.sysctl(&["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"])?;
        }
        router.ip(&format!(
            "link add net{number} mtu {mtu} type veth peer name up0 mtu {mtu} netns {}
             link set net{number} up
             addr add 10.{number}.1.1/24 dev net{number}
             route add 10.{number}.0.0/24 via 10.{number}.1.2\n",
            own_router.name()
        ))?;
        own_router.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}
             link set eth0 up
             link set up0 up
             addr add 10.{number}.1.2/24 dev up0
             addr add 10.{number}.0.1/24 dev eth0
             route add default via 10.{number}.1.1\n",
            host.name()
        ))?;
        host.ip(&format!(
            "link set eth0 up
             addr add 10.{number}.0.2/24 dev eth0
             route add default via 10.{number}.0.1\n"
        ))?;
        self.node.ip(&format!("route add 10.{number}.0.0/16 via {via4}"))?;
        router.ip(&six(format!(
            "addr add fd00:{number}:0:1::1/64 dev net{number} nodad
             route add fd00:{number}::/64 via fd00:{number}:0:1::2\n"
        )))?;
        own_router.ip(&six(format!(
            "addr add fd00:{number}:0:1::2/64 dev up0 nodad
             addr add fd00:{number}::1/64 dev eth0 nodad
             route add default via fd00:{number}:0:1::1\n"
        )))?;
        host.ip(&six(format!(
            "addr add fd00:{number}::2/64 dev eth0 nodad
             route add default via fd00:{number}::1\n"
        )))?;
        self.node
            .ip(&six(format!("route add fd00:{number}::/32 via {via6}\n")))?;
        self.offloads(&own_router)?;
        let addresses: [IpAddr; 2] = [
            Ipv4Addr::new(10, number, 0, 2).into(),
            Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, 2).into(),
        ];
        self.start_server(&PodSpec::new(name, 0), "", addresses, host)?;
        Ok(addresses)
    }

    /// Starts a server in the node's namespace.
    pub fn serve_on_node(&mut self, name: &str) -> Result<[IpAddr; 2]> {
        let node = self.node.clone();
        self.start_server(&PodSpec::new(name, 0), "eth0", NODE, node)?;
        Ok(NODE)
    }
}
