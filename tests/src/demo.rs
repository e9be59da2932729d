//! What `cargo xtask demo` shows: the examples at work on real packets, each claim checked as it is made.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use anyhow::{Context, Result, bail};

mod text;

use self::text::{Tally, cluster_ip, list, quote, replace_pod};
use crate::{
    daemon::Daemon,
    examples,
    lab::Lab,
    manifest,
    topology::{PodSpec, Topology},
};

/// How many requests make a spread.
const REQUESTS: u32 = 30;

/// Runs the demo; an error if anything shown is not as it should be.
pub fn run() -> Result<()> {
    let mut demo = Demo::default();
    let start = Instant::now();
    let done = demo.show();
    println!();
    for check in &demo.failed {
        println!("✗ failed: {check}");
    }
    done?;
    if !demo.failed.is_empty() {
        bail!("{} of {} checks failed", demo.failed.len(), demo.checks);
    }
    println!(
        "✓ all {} checks passed in {:.0} s; the lab is gone",
        demo.checks,
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

#[derive(Default)]
struct Demo {
    steps: u32,
    checks: u32,
    failed: Vec<String>,
}

impl Demo {
    fn show(&mut self) -> Result<()> {
        self.step("A lab: a client, a node and the pods of manifests/examples, each a network namespace");
        let mut lab = Lab::new(&Topology {
            pods: examples::pods(),
            ..Topology::default()
        })?;
        let mut files = examples::files()?;
        write(&lab, &files)?;
        println!(
            "  client 10.0.0.2 ── 10.0.0.1 node ── {}",
            list(lab.pods.iter().map(|pod| pod.addresses[0]))
        );
        let first = &lab.pods[0];
        let direct = curl(&lab, &format!("http://{}:8080", first.addresses[0]))?;
        self.check(
            direct == first.name,
            "without svcproxy the client reaches a pod by the pod's own address",
        );

        self.step("svcproxy starts in the node");
        let daemon = self.start(&lab, &[])?;
        let kubia = self.services(&lab)?;
        self.spread(&lab)?;
        self.affinity(&lab)?;
        self.ports(&lab)?;
        self.external(&lab)?;
        self.maps(&lab, kubia)?;
        let daemon = self.replace(&mut lab, daemon, &mut files, kubia)?;
        self.xdp(&lab, daemon)
    }

    /// Starts svcproxy as a user would, or with more flags.
    fn start(&mut self, lab: &Lab, flags: &[&str]) -> Result<Daemon> {
        let flags = [&["--iface", "eth0"], flags].concat();
        println!("  node$ svcproxy {} -f manifests/examples", flags.join(" "));
        let daemon = lab.start_daemon_with(&flags)?;
        quote(&daemon.log(), usize::MAX);
        self.check(true, "it is ready");
        Ok(daemon)
    }

    fn services(&mut self, lab: &Lab) -> Result<IpAddr> {
        self.step("Every Service has an address");
        println!("  node$ svcproxy get services");
        let table = lab.get(&["services"])?;
        quote(&table, usize::MAX);
        for name in [
            "external",
            "kubia",
            "kubia-affinity",
            "kubia-named-ports",
            "kubia-ports",
        ] {
            let address = cluster_ip(&table, name);
            let assigned = address.is_some_and(|address| address.to_string().starts_with("10."));
            self.check(assigned, &format!("{name} has a cluster IP"));
        }
        cluster_ip(&table, "kubia").context("no cluster IP for kubia in the table")
    }

    fn spread(&mut self, lab: &Lab) -> Result<()> {
        self.step(&format!("{REQUESTS} connections spread over the pods of kubia"));
        let tally = self.ask(lab, "kubia", 0, 80)?;
        self.check(
            tally.answered_by(&["kubia-1", "kubia-2", "kubia-3"]),
            "each of the three pods answered",
        );
        self.check(tally.total() == REQUESTS, "no request failed");
        Ok(())
    }

    fn affinity(&mut self, lab: &Lab) -> Result<()> {
        self.step("sessionAffinity: ClientIP keeps a client with one pod, over IPv4 and IPv6");
        for family in [0, 1] {
            let tally = self.ask(lab, "kubia-affinity", family, 80)?;
            self.check(tally.0.len() == 1 && tally.total() == REQUESTS, "all by one pod");
        }
        Ok(())
    }

    fn ports(&mut self, lab: &Lab) -> Result<()> {
        self.step("A Service with two ports");
        for port in [80, 443] {
            let tally = self.ask(lab, "kubia-ports", 0, port)?;
            let pods = ["kubia-ports-1", "kubia-ports-2", "kubia-ports-3"];
            self.check(
                tally.answered_by(&pods),
                &format!("port {port}: each of the three pods answered"),
            );
        }
        self.step("A targetPort by name, 8080 in one pod and 9080 in the other");
        for port in [80, 443] {
            let tally = self.ask(lab, "kubia-named-ports", 0, port)?;
            let pods = ["kubia-named-ports-1", "kubia-named-ports-2"];
            self.check(
                tally.answered_by(&pods),
                &format!("port {port}: both pods answered, each on its own number"),
            );
        }
        Ok(())
    }

    fn external(&mut self, lab: &Lab) -> Result<()> {
        self.step("A Service without a selector, its endpoints written by hand");
        let tally = self.ask(lab, "external", 0, 80)?;
        self.check(
            tally.answered_by(&["external-1", "external-2"]),
            "both endpoints answered",
        );
        Ok(())
    }

    fn maps(&mut self, lab: &Lab, kubia: IpAddr) -> Result<()> {
        self.step("What the kernel holds, for anyone to read");
        for map in ["services_v4", "backends_v4"] {
            println!("  node$ bpftool map dump pinned …/svcproxy/{map}");
            let path = lab.pin_dir().join(map).to_string_lossy().into_owned();
            let dump = lab.node.run("bpftool", &["map", "dump", "pinned", &path])?;
            quote(&dump, 24);
            self.check(dump.contains("\"address\""), &format!("{map} reads by field names"));
            let address = if map == "services_v4" {
                kubia
            } else {
                lab.pods[0].addresses[0]
            };
            let octets: Vec<_> = address.to_string().split('.').map(str::to_owned).collect();
            let digits: String = dump.chars().filter(|c| c.is_ascii_digit() || *c == ',').collect();
            self.check(digits.contains(&octets.join(",")), &format!("{map} holds {address}"));
        }
        Ok(())
    }

    /// The story of the pod that moves, while its Service stays.
    fn replace(
        &mut self,
        lab: &mut Lab,
        daemon: Daemon,
        files: &mut [(String, String)],
        kubia: IpAddr,
    ) -> Result<Daemon> {
        self.step("kubia-1 is replaced by kubia-4 at another address; the Service stays where it is");
        println!("  node$ kill svcproxy");
        daemon.stop()?;
        let tally = self.ask(lab, "kubia", 0, 80)?;
        self.check(tally.total() == REQUESTS, "with svcproxy stopped, its datapath goes on");
        let new = PodSpec::new("kubia-4", 14);
        lab.remove_pod("kubia-1")?;
        lab.add_pod(&new)?;
        let (_, text) = files
            .iter_mut()
            .find(|(name, _)| name == "kubia.yaml")
            .context("no kubia.yaml")?;
        *text = replace_pod(text, "kubia-1", &manifest::pod(&new.name, &new.addresses(), &[]))?;
        write(lab, files)?;
        let daemon = self.start(lab, &[])?;
        let ips = lab.cluster_ips("default/kubia")?;
        self.check(ips.first() == Some(&kubia), &format!("kubia is still {kubia}"));
        let tally = self.ask(lab, "kubia", 0, 80)?;
        self.check(
            tally.answered_by(&["kubia-2", "kubia-3", "kubia-4"]),
            "kubia-4 has taken the place of kubia-1",
        );
        self.check(tally.total() == REQUESTS, "no request failed");
        Ok(daemon)
    }

    fn xdp(&mut self, lab: &Lab, daemon: Daemon) -> Result<()> {
        self.step("The same over XDP, on the driver's own receive path");
        daemon.stop()?;
        let _daemon = self.start(lab, &["--mode", "xdp"])?;
        let tally = self.ask(lab, "kubia", 0, 80)?;
        self.check(
            tally.answered_by(&["kubia-2", "kubia-3", "kubia-4"]),
            "each of the three pods answered",
        );
        self.check(tally.total() == REQUESTS, "no request failed");
        Ok(())
    }

    /// Asks the Service [`REQUESTS`] times with curl, over the family of its cluster IP number `family`.
    fn ask(&self, lab: &Lab, service: &str, family: usize, port: u16) -> Result<Tally> {
        let ips = lab.cluster_ips(&format!("default/{service}"))?;
        let address = *ips
            .get(family)
            .with_context(|| format!("{service} has only the cluster IPs {ips:?}"))?;
        let url = format!("http://{}", SocketAddr::new(address, port));
        println!("  client$ curl {url}   # {REQUESTS} times");
        let mut tally = Tally::default();
        for _ in 0..REQUESTS {
            match curl(lab, &url) {
                Ok(name) => *tally.0.entry(name).or_default() += 1,
                Err(error) => println!("    {error:#}"),
            }
        }
        print!("{tally}");
        Ok(tally)
    }

    fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
    }

    fn check(&mut self, holds: bool, claim: &str) {
        self.checks += 1;
        println!("  {} {claim}", if holds { '✓' } else { '✗' });
        if !holds {
            self.failed.push(format!("step {}: {claim}", self.steps));
        }
    }
}

fn curl(lab: &Lab, url: &str) -> Result<String> {
    let answer = lab
        .client
        .run("curl", &["--silent", "--show-error", "--max-time", "5", url])?;
    Ok(answer.trim().to_owned())
}

fn write(lab: &Lab, files: &[(String, String)]) -> Result<()> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    lab.set_manifests(&files).map(drop)
}
