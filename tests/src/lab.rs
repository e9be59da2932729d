//! A whole lab: made from a [`Topology`], gone when dropped.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::IpAddr,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
};

use crate::{
    built_executable, leftovers,
    namespace::Namespace,
    server,
    topology::{CLIENT, NODE, PodSpec, REMOTE, REMOTE_ADDRESSES, Topology},
};

/// A pod: a namespace with a server in it.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its addresses, IPv4 first.
    pub addresses: [IpAddr; 2],
    /// Where it runs.
    pub namespace: Namespace,
    /// The node's interface towards it.
    pub interface: String,
    server: Child,
}

/// A running lab. Dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    /// The client's namespace.
    pub client: Namespace,
    /// The node's namespace.
    pub node: Namespace,
    /// The pods, the remote one last.
    pub pods: Vec<Pod>,
    wire: bool,
    kept: bool,
    _locks: Vec<Flock<File>>,
}

impl Lab {
    /// Builds a lab under a name of its own.
    pub fn new(topology: &Topology) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("p{}n{count}", process::id()), topology)
    }

    /// Builds the lab `name` (letters and digits), which must not exist yet.
    pub fn named(name: &str, topology: &Topology) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a lab of network namespaces needs root"
        );
        let share = if topology.alone {
            FlockArg::LockExclusive
        } else {
            FlockArg::LockShared
        };
        let turn = leftovers::machine_lock("machine", share)?;
        // iproute2 sets up /run/netns on first use, and not well when two do it at a time.
        let _building = leftovers::machine_lock("building", FlockArg::LockExclusive)?;
        leftovers::sweep()?;
        let owner = leftovers::claim(name)?;
        let namespace = |role: &str| Namespace::create(&format!("{}{role}", leftovers::prefix(name)));
        let mut lab = Self {
            client: namespace("client")?,
            node: namespace("node")?,
            name: name.to_owned(),
            pods: Vec::new(),
            wire: topology.wire,
            kept: false,
            _locks: vec![turn, owner],
        };
        lab.mount_bpffs()?;
        lab.connect_client()?;
        for spec in &topology.pods {
            lab.add_pod(spec)?;
        }
        if topology.remote {
            lab.add_remote()?;
        }
        Ok(lab)
    }

    /// Lets the lab outlive this process; `leftovers::remove` ends it.
    pub fn keep(mut self) -> Result<()> {
        leftovers::keep(&self.name)?;
        self.kept = true;
        Ok(())
    }

    /// The directory for everything of this lab: logs, manifests, state, the bpffs.
    pub fn directory(&self) -> PathBuf {
        leftovers::directory(&self.name)
    }

    /// The pod called `name`.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .iter()
            .find(|pod| pod.name == name)
            .with_context(|| format!("no pod {name}"))
    }

    /// Replaces every manifest of the lab by these: file names and contents.
    pub fn set_manifests(&self, files: &[(&str, &str)]) -> Result<PathBuf> {
        let directory = self.directory().join("manifests");
        fs::remove_dir_all(&directory).ok();
        fs::create_dir_all(&directory)?;
        for (name, text) in files {
            fs::write(directory.join(name), text)?;
        }
        Ok(directory)
    }

    /// Starts a pod on the node.
    pub fn add_pod(&mut self, spec: &PodSpec) -> Result<()> {
        let [v4, v6] = spec.addresses();
        let namespace = self.namespace(&spec.name)?;
        let (interface, peer) = (format!("pod{}", spec.host), namespace.name());
        // The node has the same address on the link of every pod, and answers ARP and ND for it by itself.
        self.node.ip(&format!(
            "link add {interface} type veth peer name eth0 netns {peer}
             link set {interface} up
             addr add 10.244.0.1/32 dev {interface}
             addr add fd00:10:244::1/128 dev {interface} nodad
             route add {v4}/32 dev {interface}
             route add {v6}/128 dev {interface}"
        ))?;
        namespace.ip(&format!(
            "link set eth0 up
             addr add {v4}/32 dev eth0
             addr add {v6}/128 dev eth0 nodad
             route add 10.244.0.1 dev eth0
             route add default via 10.244.0.1
             route add fd00:10:244::1 dev eth0
             route add default via fd00:10:244::1"
        ))?;
        self.start_server(spec, &interface, spec.addresses(), namespace)
    }

    /// Ends a pod and everything of it.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let index = self
            .pods
            .iter()
            .position(|pod| pod.name == name)
            .with_context(|| format!("no pod {name}"))?;
        let mut pod = self.pods.remove(index);
        leftovers::remove_namespace(&pod.namespace)?;
        pod.server.wait()?;
        // With the namespace goes its end of the link, and with that the node's; but not at once.
        self.node.run("ip", &["link", "del", &pod.interface]).ok();
        Ok(())
    }

    fn mount_bpffs(&self) -> Result<()> {
        let directory = self.directory().join("bpf");
        fs::create_dir_all(&directory)?;
        mount(Some("bpf"), &directory, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount a bpffs on {}", directory.display()))
    }

    fn connect_client(&self) -> Result<()> {
        self.prepare(&self.client)?;
        self.prepare(&self.node)?;
        // Thousands of connections from one address within the minute that TIME_WAIT lasts.
        self.client.sysctl(&["ipv4/ip_local_port_range=1024 65000"])?;
        self.node.sysctl(&["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"])?;
        self.link_client()
    }

    /// Makes the link between the node and the client, `eth0` in both; once more when it has been deleted.
    pub fn link_client(&self) -> Result<()> {
        self.node.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            self.client.name()
        ))?;
        let [node_v4, node_v6] = NODE;
        let [client_v4, client_v6] = CLIENT;
        self.node.ip(&format!(
            "link set eth0 up
             addr add {node_v4}/24 dev eth0
             addr add {node_v6}/64 dev eth0 nodad"
        ))?;
        // The service ranges, and for comparison the pods themselves.
        self.client.ip(&format!(
            "link set eth0 up
             addr add {client_v4}/24 dev eth0
             addr add {client_v6}/64 dev eth0 nodad
             route add 10.96.0.0/12 via {node_v4}
             route add 10.244.0.0/16 via {node_v4}
             route add 10.1.0.0/24 via {node_v4}
             route add fd00:10:96::/112 via {node_v6}
             route add fd00:10:244::/64 via {node_v6}
             route add fd00:b::/64 via {node_v6}"
        ))?;
        self.offloads(&self.client)
    }

    fn add_remote(&mut self) -> Result<()> {
        let namespace = self.namespace(REMOTE)?;
        self.node.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {}
             link set eth1 up
             addr add 10.1.0.1/24 dev eth1
             addr add fd00:b::1/64 dev eth1 nodad",
            namespace.name()
        ))?;
        namespace.ip("link set eth0 up
             addr add 10.1.0.2/24 dev eth0
             addr add fd00:b::2/64 dev eth0 nodad
             route add default via 10.1.0.1
             route add default via fd00:b::1")?;
        self.start_server(&PodSpec::new(REMOTE, 0), "eth1", REMOTE_ADDRESSES, namespace)
    }

    pub(crate) fn namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = Namespace::create(&format!("{}{role}", leftovers::prefix(&self.name)))?;
        self.prepare(&namespace)?;
        Ok(namespace)
    }

    /// Settings that make a lab quick and its behaviour its own, before it has interfaces.
    fn prepare(&self, namespace: &Namespace) -> Result<()> {
        namespace.sysctl(&[
            // No second of silence while an address is checked for duplicates.
            "ipv6/conf/all/accept_dad=0",
            "ipv6/conf/default/accept_dad=0",
            "ipv6/conf/default/router_solicitations=0",
            "ipv4/conf/all/rp_filter=0",
            "ipv4/conf/default/rp_filter=0",
            // ICMP errors answer tests, each one of them; redirects would use up their budget.
            "ipv4/icmp_ratelimit=0",
            "ipv6/icmp/ratelimit=0",
            "ipv4/conf/all/send_redirects=0",
            "ipv4/conf/default/send_redirects=0",
        ])
    }

    /// Makes the namespace's `eth0` behave like a wire, if that is wanted. GRO makes a veth take redirected frames.
    pub(crate) fn offloads(&self, namespace: &Namespace) -> Result<()> {
        if self.wire {
            namespace.run("ethtool", &["-K", "eth0", "tx", "off", "gro", "on"])?;
        }
        Ok(())
    }

    pub(crate) fn start_server(
        &mut self,
        spec: &PodSpec,
        interface: &str,
        addresses: [IpAddr; 2],
        namespace: Namespace,
    ) -> Result<()> {
        let PodSpec { name, ports, .. } = spec;
        self.offloads(&namespace)?;
        let log = File::create(self.directory().join(format!("{name}.log")))?;
        let mut command = Command::new(built_executable("lab")?);
        command
            .args(["serve", "--name", name])
            .args(ports.iter().map(|port| format!("--port={port}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        detach(&mut command);
        let mut server = namespace.spawn(&mut command)?;
        let mut line = String::new();
        if let Some(stdout) = server.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        ensure!(line.trim() == server::READY, "the server of {name} did not start");
        self.pods.push(Pod {
            name: name.clone(),
            addresses,
            namespace,
            interface: interface.to_owned(),
            server,
        });
        Ok(())
    }
}

/// Keeps a Ctrl-C at the terminal from a child: the lab's own removal ends it, in order.
pub(crate) fn detach(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

impl Drop for Lab {
    fn drop(&mut self) {
        leftovers::unless_ending();
        if self.kept {
            return;
        }
        if let Err(error) = leftovers::remove(&self.name) {
            eprintln!("{error:#}");
        }
        for pod in &mut self.pods {
            pod.server.wait().ok();
        }
    }
}
