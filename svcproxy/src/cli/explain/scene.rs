//! What questions are asked of: manifests, or the datapath that is pinned and running.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use svcproxy_common::abi::{Network, Way};

use super::{
    answer::{Answer, agrees_with_maps, agrees_with_rules, answer, answer_of_flow},
    names::{self, Named},
    packet::first_packet,
    question::{Destination, Question},
};
use crate::{
    cli::{ExplainArgs, InputArgs, PlaceArgs},
    conformance::decide,
    datapath::{
        Maps,
        links::Hook,
        pins, preflight,
        rehearsal::{ExistingFlow, Finding, Memory, Rehearsal},
    },
    input::{self, Input},
    model::{Family, Model, NodePolicy, Options, Service},
    plan::{Limits, MapContents, Reach, plan},
    state::State,
};

/// What the manifests and the flags say.
pub(super) type Rules = (Model, NodePolicy);

/// How often maps that change are read before what they hold is taken as it is.
const READS: u32 = 5;

/// Contents of the maps, what is known about them, and the program in maps of its own that hold them.
pub(super) struct Scene {
    /// As read back from the program's own maps.
    contents: MapContents,
    /// Names for what is in them.
    state: State,
    /// What the manifests and flags say, when they are given.
    rules: Option<Rules>,
    /// The pinned datapath, when they are not.
    live: Option<Live>,
    rehearsal: Rehearsal,
}

/// The running datapath.
struct Live {
    maps: Maps,
    /// The hooks that take incoming packets, as `xdp of eth0`.
    hooks: Vec<String>,
}

/// What is known besides the question.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) contents: &'a MapContents,
    pub(super) state: &'a State,
    /// What the manifests and flags say, when they are given.
    pub(super) rules: Option<&'a Rules>,
    /// The hooks of the running datapath, when they are not.
    pub(super) hooks: Option<&'a [String]>,
}

/// An answer, and what it was found by.
pub(super) struct Explanation<'a> {
    pub(super) question: Question,
    pub(super) answer: Answer,
    pub(super) reach: Reach,
    pub(super) memory: Memory,
    pub(super) service: Option<Named<'a>>,
    pub(super) known: Known<'a>,
    /// `--cluster-cidr` of the question's family.
    pub(super) pod_networks: Vec<IpNet>,
}

impl<'a> Explanation<'a> {
    /// Puts names to what the program and the maps have said.
    pub(super) fn new(question: Question, finding: &Finding, reach: Reach, memory: Memory, known: Known<'a>) -> Self {
        let Destination { socket, protocol } = question.dst;
        let way = reach.entry.map(|entry| entry.way);
        let service = way.and_then(|way| names::find(known.state, socket, protocol, way));
        let qualified = match (&service, way) {
            (Some(service), _) => Some(service.qualified()),
            // In the maps, but not in the state file.
            (None, Some(Way::OTHER_PORT)) => Some("<unknown>".to_owned()),
            (None, Some(_)) => Some(format!("<unknown>:{}", socket.port())),
            (None, None) => None,
        };
        let family = Family::of(socket.ip());
        let mut explained = Self {
            question,
            answer: answer(finding, &reach, qualified),
            pod_networks: known.contents.networks_of(Network::PODS, family),
            reach,
            memory,
            service,
            known,
        };
        if let Some(flow) = explained.flow() {
            explained.answer = answer_of_flow(&flow, explained.answer);
        }
        explained
    }

    /// The Service in the manifests, where there are any.
    pub(super) fn model_service(&self) -> Option<&'a Service> {
        let (model, _) = self.known.rules?;
        let name = self.service?.name;
        let mut services = model.services.iter().map(|service| &**service);
        services.find(|service| service.name.to_string() == name)
    }

    /// Whether the client is a pod or this node.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.reach.client, Some((_, Network::PODS | Network::NODE)))
    }

    /// The connection, where it exists. Without a source port the question is about a new one.
    pub(super) fn flow(&self) -> Option<ExistingFlow> {
        self.memory.flow().filter(|_| self.question.src.port.is_some())
    }

    /// Name of the Pod at an address.
    pub(super) fn pod(&self, address: IpAddr) -> Option<&'a str> {
        self.service?.record.pods.get(&address).map(String::as_str)
    }
}

impl Scene {
    /// The scene that the flags describe. `None` when the manifests have errors, which are printed.
    pub(super) fn set(args: &ExplainArgs) -> anyhow::Result<Option<Self>> {
        let planned = match args.input.filenames.is_empty() {
            true => {
                refuse_node_flags(&args.input)?;
                None
            }
            false => match plan_of(&args.input)? {
                Some(planned) => Some(planned),
                None => return Ok(None),
            },
        };
        preflight::capabilities()?;
        preflight::btf()?;
        let (contents, state, rules, live) = match planned {
            Some((contents, state, rules)) => (contents, state, Some(rules), None),
            None => {
                let (contents, state, live) = running(&args.places)?;
                (contents, state, None, Some(live))
            }
        };
        let rehearsal = Rehearsal::of(&contents)?;
        Ok(Some(Self {
            contents: rehearsal.contents()?,
            state,
            rules,
            live,
            rehearsal,
        }))
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, and when the program, the maps and the rules do not agree.
    pub(super) fn explain(&mut self, question: Question) -> anyhow::Result<Explanation<'_>> {
        let connection = question.connection();
        let reach = Reach::read(
            &self.contents,
            question.src.address,
            connection.dst,
            connection.protocol,
        )?;
        let number = reach.entry.map(|entry| entry.service);
        let memory = match &mut self.live {
            Some(live) => live.maps.memory_of(&connection, number)?,
            None => Memory::default(),
        };
        let frame = first_packet(&connection);
        let finding = self.rehearsal.ask(&connection, &frame, number, &memory)?;
        agrees_with_maps(&question, &finding, &reach)?;
        if let Some((model, policy)) = &self.rules {
            let expected = decide(model, policy, question.src.address, connection.dst, connection.protocol);
            agrees_with_rules(&question, &finding, &reach, &expected)?;
        }
        Ok(Explanation::new(question, &finding, reach, memory, self.known()))
    }

    fn known(&self) -> Known<'_> {
        Known {
            contents: &self.contents,
            state: &self.state,
            rules: self.rules.as_ref(),
            hooks: self.live.as_ref().map(|live| &live.hooks[..]),
        }
    }
}

/// What the maps hold for manifests, starting from empty ones.
fn plan_of(input: &InputArgs) -> anyhow::Result<Option<(MapContents, State, Rules)>> {
    let (policy, options) = (input.node.policy()?, input.node.options()?);
    let Input {
        model,
        state,
        diagnostics,
        ..
    } = input::read(&input.filenames, &options, &State::default());
    let Some(model) = model else {
        for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            eprintln!("{diagnostic}");
        }
        return Ok(None);
    };
    let limits = Limits {
        backend_slots: u32::MAX,
    };
    let contents = plan(&model, &policy, &MapContents::default(), &limits)?;
    Ok(Some((contents, state, (model, policy))))
}

/// What the pinned maps hold, and what the state file knows of them.
fn running(places: &PlaceArgs) -> anyhow::Result<(MapContents, State, Live)> {
    let maps = Maps::pinned(&places.pin_dir)
        .context("without -f the question is for the running datapath; with -f it is for manifests")?;
    // A daemon may be changing them: what is read twice is whole.
    let mut contents = maps.contents()?;
    for _ in 0..READS {
        let again = maps.contents()?;
        if again == contents {
            break;
        }
        contents = again;
    }
    let state = State::peek(&places.state_dir).unwrap_or_default();
    let attached = pins::attached(&places.pin_dir.join("links")).unwrap_or_default();
    let incoming = attached
        .iter()
        .filter(|(_, hook)| matches!(hook, Hook::Xdp | Hook::TcIn));
    let hooks = incoming.map(|(link, hook)| format!("{hook} of {link}")).collect();
    Ok((contents, state, Live { maps, hooks }))
}

/// The running datapath has flags of its own.
fn refuse_node_flags(input: &InputArgs) -> anyhow::Result<()> {
    let options = input.node.options()?;
    let usual = Options::default();
    let is_usual = input.node.policy()? == NodePolicy::default()
        && input.node.hostname_override.is_none()
        && options.node_ips.is_empty()
        && options.node_ports == usual.node_ports;
    if !is_usual {
        bail!(
            "the running datapath was told about its node when it was started: name manifests with -f to ask what other flags would do"
        );
    }
    Ok(())
}
