//! Scenes and their tables.
//!
//! A table has a row for each connection: client, destination, and what becomes of it. Its words are
//!
//! | word | means |
//! |---|---|
//! | `out`, `pod`, `node` (`out6`, …) | a client outside, a pod, this node |
//! | `drop`, `reject`, `pass` | that verdict |
//! | `a` … `h` (`a6`, …) | forwarded to one of these: port 8080 of 10.1.0.1 … 10.1.0.8 (fd00:1::1, …) |
//! | `masq` | with a source address of the node; without it, with the client's |
//! | `self-masq` | masqueraded if the endpoint chosen is the client itself |
//!
//! Anything else is an address as it stands.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use clap::Parser as _;
use serde_json::Value;
use svcproxy::{
    cli::{Cli, Command as Asked, ExplainArgs, explain::Destination},
    conformance::decide,
    input,
    manifest::{self, Source},
    state::State,
};

/// Objects and flags.
pub(crate) struct Scene {
    documents: Vec<String>,
    flags: Vec<String>,
}

/// Where the pods are, in both families.
pub(crate) const CLUSTER_CIDR: &str = "--cluster-cidr=10.1.0.0/16,fd00:1::/64";

/// These objects, on a node `here` in zone `z1` whose pods are in [`CLUSTER_CIDR`].
pub(crate) fn scene(documents: impl IntoIterator<Item = impl Into<String>>) -> Scene {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: here, labels: {topology.kubernetes.io/zone: z1}}, status: {\
                addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8:2::1'}]}}";
    let documents = documents.into_iter().map(Into::into);
    Scene {
        documents: documents.chain([node.to_owned()]).collect(),
        flags: vec!["--hostname-override=here".into(), CLUSTER_CIDR.into()],
    }
}

/// A Service with port 80 for 8080, unless its spec has other ports.
pub(crate) fn service(name: &str, spec: &str) -> String {
    let ports = match spec.contains("ports:") {
        true => "",
        false => ", ports: [{port: 80, targetPort: 8080}]",
    };
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}{ports}}}}}")
}

/// A Service of type LoadBalancer that can be reached in every way: cluster IP 10.96.0.N, external IP 198.18.0.N, load
/// balancer's IP 203.0.113.N, nodePort 30000 + N; and the same in IPv6.
pub(crate) fn exposed(name: &str, n: u16, spec: &str) -> String {
    let separator = if spec.is_empty() { "" } else { ", " };
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, \
         clusterIPs: [10.96.0.{n}, 'fd00:10:96::{n}'], externalIPs: [198.18.0.{n}, '2001:db8:18::{n}'], \
         ports: [{{port: 80, targetPort: 8080, nodePort: {}}}]{separator}{spec}}}, \
         status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.{n}}}, {{ip: '2001:db8:113::{n}'}}]}}}}}}",
        30_000 + n
    )
}

/// An EndpointSlice of a Service for its port without a name, on 8080. An endpoint is its address, then more fields:
/// `10.1.0.1, nodeName: here`.
pub(crate) fn slice(service: &str, endpoints: &[&str]) -> String {
    slice_of(service, "{port: 8080}", endpoints)
}

/// The same with other ports.
pub(crate) fn slice_of(service: &str, ports: &str, endpoints: &[&str]) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let family = match endpoints.first() {
        Some(first) if first.contains("::") => "IPv6",
        _ => "IPv4",
    };
    let endpoint = |text: &&str| match text.split_once(", ") {
        None => format!("{{addresses: ['{text}']}}"),
        Some((address, fields)) => format!("{{addresses: ['{address}'], {fields}}}"),
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {service}-{number}, labels: \
         {{kubernetes.io/service-name: {service}}}}}, addressType: {family}, ports: [{ports}], endpoints: [{}]}}",
        endpoints.join(", ")
    )
}

/// One endpoint here, `a`, and one elsewhere, `b`, in both families.
pub(crate) fn here_and_there(service: &str) -> String {
    let v4 = slice(service, &["10.1.0.1, nodeName: here", "10.1.0.2, nodeName: there"]);
    let v6 = slice(service, &["fd00:1::1, nodeName: here", "fd00:1::2, nodeName: there"]);
    format!("{v4}\n---\n{v6}")
}

impl Scene {
    /// With one flag more.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Without `--cluster-cidr`.
    pub(crate) fn without_cluster_cidr(mut self) -> Self {
        self.flags.retain(|flag| flag != CLUSTER_CIDR);
        self
    }

    /// Judges every row of a table, twice.
    #[track_caller]
    pub(crate) fn judges(&self, table: &str) {
        let rows: Vec<Row> = table.lines().filter_map(Row::parse).collect();
        let answers = self.explain(
            &rows
                .iter()
                .map(|row| format!("{} {}", row.src, row.dst))
                .collect::<Vec<_>>(),
        );
        let of_rules = self.rules(&rows);
        let mut wrong = Vec::new();
        for ((row, answer), rules) in rows.iter().zip(&answers).zip(&of_rules) {
            for (who, found) in [("explain", row.read(answer)), ("the rules", rules.clone())] {
                if found.as_ref() != Ok(&row.wanted) {
                    wrong.push(format!("{}\n  {who}: {found:?}\n  wanted: {:?}", row.text, row.wanted));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {} rows:\n{}",
            wrong.len(),
            rows.len(),
            wrong.join("\n")
        );
    }

    /// What `svcproxy explain --batch -` prints for these questions.
    #[track_caller]
    pub(crate) fn explain(&self, questions: &[String]) -> Vec<Value> {
        let (status, answers) = self.batch(&(questions.join("\n") + "\n"));
        assert!(status.success(), "{status}: {answers:?}");
        assert_eq!(answers.len(), questions.len(), "one answer a line");
        answers
    }

    /// How `svcproxy explain --batch -` ends on this text, and what it prints.
    #[track_caller]
    pub(crate) fn batch(&self, text: &str) -> (ExitStatus, Vec<Value>) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let manifests = std::env::temp_dir().join(format!("svcproxy-conformance-{}-{number}.yaml", std::process::id()));
        std::fs::write(&manifests, self.documents.join("\n---\n")).unwrap();
        let mut explain = Command::new(svcproxy_tests::built_executable("svcproxy").unwrap())
            .args(["explain", "--batch", "-", "-f"])
            .arg(&manifests)
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, text) = (explain.stdin.take().unwrap(), text.to_owned());
        // A process that has refused to start does not read.
        let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let output = explain.wait_with_output().unwrap();
        writer.join().unwrap();
        std::fs::remove_file(&manifests).unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let answers = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (output.status, answers)
    }

    fn rules(&self, rows: &[Row]) -> Vec<Result<Outcome, String>> {
        let words = ["svcproxy", "explain", "--batch=-"].into_iter();
        let cli = Cli::try_parse_from(words.chain(self.flags.iter().map(String::as_str))).unwrap();
        let Some(Asked::Explain(args)) = cli.command else {
            unreachable!("the word is there");
        };
        let ExplainArgs { input: flags, .. } = *args;
        let (options, policy) = (flags.node.options().unwrap(), flags.node.policy().unwrap());
        let source = Source {
            name: "f.yaml".into(),
            text: self.documents.join("\n---\n"),
        };
        let input = input::join(manifest::parse(&[source]), &options, &State::default());
        let said: Vec<_> = input.diagnostics.iter().map(ToString::to_string).collect();
        let model = input.model.unwrap_or_else(|| panic!("no model:\n{}", said.join("\n")));
        let judge = |row: &Row| {
            let dst: Destination = row.dst.parse()?;
            let src: IpAddr = row.src.parse().map_err(|_| "no client".to_owned())?;
            let expected = decide(&model, &policy, src, dst.socket, dst.protocol);
            let masquerade = match row.wanted.masquerade {
                Masquerade::IfSelf if !expected.masquerade => Masquerade::IfSelf,
                _ if expected.backends.iter().all(|backend| expected.masquerades(*backend)) => {
                    Masquerade::of(!expected.backends.is_empty())
                }
                _ => Masquerade::of(expected.masquerade),
            };
            Ok(Outcome {
                verdict: expected.verdict.name().into(),
                backends: expected.backends.into_iter().collect(),
                masquerade,
            })
        };
        rows.iter().map(judge).collect()
    }
}

/// A row of a table.
struct Row {
    text: String,
    src: String,
    dst: String,
    wanted: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    verdict: String,
    backends: BTreeSet<SocketAddr>,
    masquerade: Masquerade,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masquerade {
    Never,
    Always,
    IfSelf,
}

impl Masquerade {
    fn of(masquerade: bool) -> Self {
        if masquerade { Self::Always } else { Self::Never }
    }
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let text = line.split('#').next()?.trim();
        let mut words = text.split_whitespace();
        let src = match words.next()? {
            "out" => "198.51.100.7",
            "pod" => "10.1.0.9",
            "node" => "192.0.2.1",
            "out6" => "2001:db8:99::7",
            "pod6" => "fd00:1::9",
            "node6" => "2001:db8:2::1",
            address => address,
        };
        let dst = words.next().expect("a destination");
        let mut wanted = Outcome {
            verdict: "forward".into(),
            backends: BTreeSet::new(),
            masquerade: Masquerade::Never,
        };
        for word in words {
            match word {
                "masq" => wanted.masquerade = Masquerade::Always,
                "self-masq" => wanted.masquerade = Masquerade::IfSelf,
                "drop" | "reject" | "pass" => wanted.verdict = word.into(),
                _ => drop(wanted.backends.insert(endpoint(word))),
            }
        }
        Some(Self {
            text: text.into(),
            src: src.into(),
            dst: dst.into(),
            wanted,
        })
    }

    /// What an answer says. It must not contradict itself.
    fn read(&self, answer: &Value) -> Result<Outcome, String> {
        let text = |key: &str| answer[key].as_str().map(ToOwned::to_owned);
        let socket = |value: &Value| value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        let listed = answer["backends"].as_array().ok_or_else(|| answer.to_string())?;
        let sorted: Vec<_> = listed.iter().filter_map(socket).collect();
        if sorted.len() != listed.len() || !sorted.is_sorted() {
            return Err(format!("not sorted: {answer}"));
        }
        let backends: BTreeSet<_> = sorted.into_iter().collect();
        let chosen = socket(&answer["chosen"]);
        if chosen.is_some() == backends.is_empty() || chosen.is_some_and(|chosen| !backends.contains(&chosen)) {
            return Err(format!("chosen is not of the set: {answer}"));
        }
        let masquerade = answer["masquerade"].as_bool().ok_or_else(|| answer.to_string())?;
        let is_self = chosen.is_some_and(|chosen| Ok(chosen.ip()) == self.src.parse());
        let masquerade = match self.wanted.masquerade {
            Masquerade::IfSelf if masquerade == is_self => Masquerade::IfSelf,
            _ => Masquerade::of(masquerade),
        };
        Ok(Outcome {
            verdict: text("verdict").ok_or_else(|| answer.to_string())?,
            backends,
            masquerade,
        })
    }
}

/// `a` to `h`, `a6` to `h6`, or an address and port.
fn endpoint(word: &str) -> SocketAddr {
    let mut letters = word.chars();
    let socket = match (letters.next(), letters.as_str()) {
        (Some(letter @ 'a'..='h'), "") => format!("10.1.0.{}:8080", letter as u8 - b'a' + 1),
        (Some(letter @ 'a'..='h'), "6") => format!("[fd00:1::{}]:8080", letter as u8 - b'a' + 1),
        _ => word.to_owned(),
    };
    socket
        .parse()
        .unwrap_or_else(|_| panic!("{word:?} is no word of a table"))
}
