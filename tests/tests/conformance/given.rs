//! Scenes: objects and flags, and how they are judged.

use std::{
    io::Write as _,
    net::IpAddr,
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

use crate::table::{Masquerade, Outcome, Row};

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
