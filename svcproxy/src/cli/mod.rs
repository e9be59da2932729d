//! The command line: `svcproxy [--iface … -f …]` runs the proxy, the subcommands ask and check.

mod changes;
mod check;
mod cleanup;
pub mod explain;
pub mod get;
mod heap;
mod lock;
mod network;
mod node;
mod proxy;
mod run;
mod unreachable;

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use self::explain::{Destination, Source};
pub use self::{check::check, explain::explain, get::get, node::NodeArgs, run::run};
use crate::{
    datapath::{Sizes, links},
    network::InterfacePattern,
};

/// Kubernetes Services from plain manifests, carried by XDP and tcx.
#[derive(Debug, Parser)]
#[command(name = "svcproxy", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// A question instead of a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of a run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do instead of running the proxy.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate manifests; needs no root. Exits 0, or 1 with every error listed
    Check(CheckArgs),
    /// Show what the datapath holds; needs no running daemon
    Get(GetArgs),
    /// Say what would happen to a connection, and why, by asking the real program
    #[command(after_long_help = EXPLAIN_HELP)]
    Explain(Box<ExplainArgs>),
}

/// Where manifests come from.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// File, directory (its *.yaml, *.yml and *.json) or - for standard input; repeatable
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filenames: Vec<PathBuf>,
    /// The node that Services are carried on.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Where svcproxy keeps what outlives it.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Directory on a bpffs for pinned maps and links
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/svcproxy",
        env = "SVCPROXY_PIN_DIR"
    )]
    pub pin_dir: PathBuf,
    /// Directory of the state file
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/svcproxy",
        env = "SVCPROXY_STATE_DIR"
    )]
    pub state_dir: PathBuf,
}

/// Flags of a run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Interfaces to attach to, by name for as long as svcproxy runs: eth0, eth*, eth+; repeatable
    #[arg(long = "iface", value_name = "NAME,…", value_delimiter = ',')]
    pub ifaces: Vec<InterfacePattern>,
    /// Refuse to start when an interface that --iface names is missing
    #[arg(long)]
    pub require_iface: bool,
    /// The manifests.
    #[command(flatten)]
    pub input: InputArgs,
    /// Hook that takes incoming packets
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How programs attach at tc
    #[arg(long, value_enum, default_value_t, env = "SVCPROXY_TC_ATTACH")]
    pub tc_attach: TcAttach,
    /// Write the verifier's whole log there when the kernel refuses a program
    #[arg(long, value_name = "FILE")]
    pub verifier_log: Option<PathBuf>,
    /// Attach (tc) by itself to the interfaces that endpoints, Pods and --cluster-cidr are behind
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set
    )]
    pub auto_attach: bool,
    /// Cgroup (v2) whose processes reach Services from the node itself; by default the root of the hierarchy
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Pins and state.
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Address and port that /healthz and /livez answer at
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:10256")]
    pub healthz_bind_address: SocketAddr,
    /// Remove every map, link and file of svcproxy, then exit
    #[arg(long)]
    pub cleanup: bool,
    /// Sizes of the tables.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// Sizes of the tables, in entries. Tables of an earlier run keep theirs until `--cleanup`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Table sizes (entries; pinned tables keep theirs until --cleanup)")]
pub struct SizeArgs {
    /// Flow table of each family; a connection takes two entries
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(64..))]
    pub flow_entries: u32,
    /// Table of connections not yet answered, of each family; two entries each
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..))]
    pub pending_entries: u32,
    /// Clients remembered for sessionAffinity, of each family
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..))]
    pub affinity_entries: u32,
    /// Sockets of the node's own processes that use Services, of each family; two entries each
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..))]
    pub socket_entries: u32,
    /// Addresses and ports of Services, of each family
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..))]
    pub service_entries: u32,
    /// Endpoints, of each family, counted once for every ServicePort
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    pub backend_entries: u32,
    /// Slots to choose endpoints from; a ServicePort takes some 32 for each endpoint
    #[arg(long, value_name = "N", default_value_t = 2_097_152, value_parser = clap::value_parser!(u32).range(1..))]
    pub backend_slots: u32,
}

impl SizeArgs {
    fn sizes(&self) -> Sizes {
        Sizes {
            flows: self.flow_entries,
            pending: self.pending_entries,
            affinity: self.affinity_entries,
            sockets: self.socket_entries,
            services: self.service_entries,
            backends: self.backend_entries,
            slots: self.backend_slots,
        }
    }
}

/// `--mode`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Native XDP on physical interfaces, tc elsewhere
    #[default]
    Auto,
    /// Native XDP, or fail
    Xdp,
    /// tc
    Tc,
}

/// `--tc-attach`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TcAttach {
    /// tcx where the kernel has it (Linux 6.6), clsact elsewhere
    #[default]
    Auto,
    /// tcx links
    Tcx,
    /// Filters of the clsact qdisc
    Clsact,
}

impl TcAttach {
    /// This way, or `found` where it is left to the kernel.
    fn or(self, found: links::TcAttach) -> links::TcAttach {
        match self {
            Self::Auto => found,
            Self::Tcx => links::TcAttach::Tcx,
            Self::Clsact => links::TcAttach::Clsact,
        }
    }
}

impl From<Mode> for links::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Xdp => Self::Xdp,
            Mode::Tc => Self::Tc,
        }
    }
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Ask this machine's kernel instead whether it takes all programs, in maps of their own; needs root
    #[arg(long, exclusive = true)]
    pub kernel: bool,
    /// The manifests.
    #[command(flatten)]
    pub input: InputArgs,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to show
    #[arg(value_enum)]
    pub resource: Resource,
    /// Only this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Pins and state.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// What `get` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Services with their addresses
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Endpoints of each ServicePort
    #[value(alias = "ep")]
    Endpoints,
    /// Connections under translation
    #[value(alias = "flow")]
    Flows,
    /// Client affinity
    Affinity,
    /// Packet counters by reason
    #[value(alias = "reason")]
    Reasons,
}

/// `-o`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The client: address, or address:port where that matters; a pod, somebody outside, or this node
    #[arg(value_name = "SRC[:PORT]", required_unless_present = "batch")]
    pub src: Option<Source>,
    /// Where it connects to; /tcp where no protocol is given
    #[arg(value_name = "DST:PORT[/tcp|udp|sctp]", required_unless_present = "batch")]
    pub dst: Option<Destination>,
    /// File (or - for standard input) with a question on each line, SRC DST:PORT/PROTOCOL; blank lines and what
    /// follows a # are skipped. Prints a line of JSON for each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["src", "dst"])]
    pub batch: Option<PathBuf>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ExplainOutput,
    /// The manifests; without any, the running datapath is asked.
    #[command(flatten)]
    pub input: InputArgs,
    /// Pins and state.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// `explain -o`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// Step by step, for people
    #[default]
    Text,
    /// One object on one line
    Json,
}

const EXPLAIN_HELP: &str = "\
With -f the manifests and the node's flags are asked: no daemon, no interface, and nothing that runs is touched. Without
-f the running datapath is: a copy of its tables, its client affinity, and the very connection if SRC:PORT has one.

JSON: {\"verdict\":\"forward|drop|reject|pass\",\"service\":\"ns/name:port\"|null,\"backends\":[\"ip:port\",…],
\"chosen\":\"ip:port\"|null,\"masquerade\":true|false,\"reason\":\"…\"}. The port of a Service is its name, or its number
when it has none; where the Service has no such port, it is left out. `backends` are all that a new connection from SRC
may reach; `masquerade` is about the chosen one. A line of --batch that is no question gets {\"error\":\"line N: …\"}, and
the exit status is 1.

Needs root: it loads the program into maps of its own, in a network namespace of its own, and leaves no trace.";
