//! The same random packets for the same random clusters through three judges: the decision code on the host, the real
//! programs, and for each connection's first packet the rules themselves (`svcproxy::conformance`).
//!
//! All must agree on verdict and bytes after every packet, on the packet's own table entries after every packet, on all
//! tables and counters after every scene; checksums are computed from scratch. `SVCPROXY_PACKETS` sets how many packets
//! (200 000 unless told), `SVCPROXY_SEED` which, `SVCPROXY_SCENE` a single scene of them; `cargo xtask fuzz` sets all.

mod clock;
mod scene;
mod traffic;
mod twin;
mod verdict;

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use fastrand::Rng;
use svcproxy::{datapath::links::Hook, model::Family};
use svcproxy_common::{
    Reason, Table,
    abi::{FlowKey, FlowState},
};

use self::{
    clock::{quiet_second, second},
    scene::Scene,
    traffic::Traffic,
    twin::both_families,
};
use crate::{
    model::{FamilyTables, Node, Outcome, Side, TcIn, TcOut, Xdp, flow_key},
    world::{World, least},
};

/// Packets of one scene.
const SCENE: u64 = 4_000;

/// What no packet brings about under test run: the kernel refuses neither an insert nor a rewrite within bounds.
const UNREACHED: [Reason; 5] = [
    Reason::FlowTableFull,
    Reason::RewriteFailed,
    Reason::Reordered,
    Reason::OtherHost,
    Reason::ReversePath,
];

#[test]
fn host_and_kernel_and_rules_agree_on_random_packets() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let (packets, seed) = (
        number("SVCPROXY_PACKETS").unwrap_or(200_000),
        number("SVCPROXY_SEED").unwrap_or(1),
    );
    let only = number("SVCPROXY_SCENE");
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = Run {
        seed,
        packets,
        next_scene: AtomicU64::new(only.unwrap_or(0)),
        done: AtomicU64::new(0),
        held_up: AtomicU64::new(0),
        other_second: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        reasons: Mutex::new([0; Reason::ALL.len()]),
    };
    let start = Instant::now();
    let failures: Vec<String> = thread::scope(|scope| {
        let workers = 0..if only.is_some() { 1 } else { threads };
        let workers: Vec<_> = workers.map(|_| scope.spawn(|| run.work(only.is_some()))).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap().err())
            .collect()
    });
    let (done, took) = (run.done.load(Ordering::Relaxed), start.elapsed());
    println!(
        "seed {seed}: {done} packets in {took:.1?}, {:.0} a second on {threads} processors",
        done as f64 / took.as_secs_f64()
    );
    let scenes = run.next_scene.into_inner() - only.unwrap_or(0);
    let (held_up, other_second) = (run.held_up.into_inner(), run.other_second.into_inner());
    println!("{scenes} scenes, of which {held_up} ended with the second and {other_second} in another one");
    let reasons = run.reasons.into_inner().unwrap();
    for (reason, count) in Reason::ALL.into_iter().zip(reasons) {
        println!("{count:>10}  {}", reason.name());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(other_second <= 10 + scenes / 10, "the kernel's clock is not ours");
    if only.is_none() && done >= 200_000 {
        let unreached: Vec<_> = (Reason::ALL.into_iter().zip(reasons))
            .filter(|(reason, count)| *count == 0 && !UNREACHED.contains(reason))
            .map(|(reason, _)| reason.name())
            .collect();
        assert!(unreached.is_empty(), "never reached: {unreached:?}");
    }
}

/// What the workers share.
struct Run {
    seed: u64,
    packets: u64,
    next_scene: AtomicU64,
    done: AtomicU64,
    /// Scenes that ended early because we were held up for so long that the kernel's second was in doubt.
    held_up: AtomicU64,
    /// Scenes that ended early because the kernel took a packet for another second.
    other_second: AtomicU64,
    failed: AtomicBool,
    reasons: Mutex<[u64; Reason::ALL.len()]>,
}

impl Run {
    /// Plays scenes in a world of its own until there were packets enough.
    fn work(&self, once: bool) -> Result<(), String> {
        let mut world = World::new();
        world.enter();
        while self.done.load(Ordering::Relaxed) < self.packets && !self.failed.load(Ordering::Relaxed) {
            let number = self.next_scene.fetch_add(1, Ordering::Relaxed);
            let mut random = Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
            let mut scene = Scene::random(&mut random);
            if number == 0 {
                // Not in others: for a second the kernel's programs would have answers out of the scene before.
                scene.model.node.destination_routed = vec![Family::V4, Family::V6];
            }
            let mut play = Play {
                node: twin::twin(&mut world, &scene),
                world: &mut world,
                random,
                packets: 0,
                other_second: false,
            };
            let outcome = play.run(&scene);
            self.done.fetch_add(play.packets, Ordering::Relaxed);
            let mut reasons = self.reasons.lock().unwrap();
            for (total, count) in reasons.iter_mut().zip(play.node.reasons.get()) {
                *total += count;
            }
            drop(reasons);
            match outcome {
                Ok(true) => play.clear(),
                // The kernel has done what nobody knows of.
                Ok(false) => {
                    let cause = if play.other_second {
                        &self.other_second
                    } else {
                        &self.held_up
                    };
                    cause.fetch_add(1, Ordering::Relaxed);
                    world.forget();
                }
                Err(what) => {
                    self.failed.store(true, Ordering::Relaxed);
                    let (seed, packet) = (self.seed, number * SCENE + play.packets);
                    return Err(format!(
                        "seed {seed}, packet {packet}: {what}\nto see it again: cargo xtask fuzz --seed {seed} --packet {packet}"
                    ));
                }
            }
            if once {
                break;
            }
        }
        Ok(())
    }
}

/// Both who answer to a scene's packets.
struct Play<'w> {
    world: &'w mut World,
    node: Node,
    random: Rng,
    packets: u64,
    /// Whether the kernel took a packet for another second.
    other_second: bool,
}

impl Play<'_> {
    /// Plays a scene; false when it was cut short.
    fn run(&mut self, scene: &Scene) -> Result<bool, String> {
        let before = self.world.reasons();
        let mut traffic = Traffic::new(scene, self.random.fork());
        while self.packets < SCENE {
            if self.random.u16(..500) == 0 {
                let seconds = *scene::choose(&mut self.random, &[1, 1, 1, 31, 61, 121, 201, 3601, 86_401]);
                both_families(
                    self.world,
                    &self.node,
                    |sides| sides.age(seconds),
                    |sides| sides.age(seconds),
                );
            }
            if self.random.u16(..4_000) == 0 {
                // At that time nothing is too old: what is there to save lookups is made anew, and all else stays.
                let swept = self.world.datapath.maps.sweep(0).expect("the tables can be read");
                assert_eq!(swept, 0);
            }
            if self.random.u16(..200) == 0 {
                let port = self.random.u16(traffic::PORTS);
                both_families(
                    self.world,
                    &self.node,
                    |sides| sides.lose(port),
                    |sides| sides.lose(port),
                );
            }
            let frame = traffic.next();
            let hook = *scene::choose(&mut self.random, scene.hooks);
            let segments = match self.random.u8(..16) {
                0 if hook != Hook::Xdp => *scene::choose(&mut self.random, &[100, 1300, 1340, 1400, 1448]),
                _ => 0,
            };
            if frame.len() < least(hook, &frame) {
                continue;
            }
            self.packets += 1;
            let told = self.packet(scene, &mut traffic, hook, &frame, segments);
            let told = told.map_err(|what| {
                let length = frame.len();
                format!("{hook}, {length} bytes in segments of {segments}: {what}\n  frame  {frame:02x?}")
            })?;
            if !told {
                return Ok(false);
            }
        }
        let [v4, v6] = both_families(self.world, &self.node, |sides| sides.compare(), |sides| sides.compare());
        v4.and(v6)?;
        twin::compare_reasons(&self.node.reasons.get(), &before, &self.world.reasons())?;
        Ok(true)
    }

    /// One packet. False when the kernel's second may have ended meanwhile: what it did then is nobody's guess.
    fn packet(
        &mut self,
        scene: &Scene,
        traffic: &mut Traffic<'_>,
        hook: Hook,
        frame: &[u8],
        segments: u32,
    ) -> Result<bool, String> {
        let now = quiet_second();
        self.node.now.set(now);
        let first = verdict::first(frame).filter(|first| hook != Hook::TcOut && self.is_first(first));
        let ours = match hook {
            Hook::Xdp => self.node.run_once::<Xdp>(frame, 0),
            Hook::TcIn | Hook::AfterXdp => self.node.run_bytes::<TcIn>(frame, segments),
            Hook::TcOut => self.node.run_bytes::<TcOut>(frame, segments),
        };
        let theirs = self.world.run_bytes(hook, frame, segments);
        if second() != (now, true) {
            return Ok(false);
        }
        let same_flow = self.same_flow(frame, &ours);
        if same_flow == Ok(false) {
            self.other_second = true;
            return Ok(false);
        }
        verdict::agree(hook, frame, &ours, &theirs, self.world.veth0)?;
        if let Some(first) = first.as_ref().filter(|_| ours.verdict != Err(Reason::NotPlain)) {
            verdict::conforms(scene, first, &ours)?;
        }
        match ours.verdict {
            Err(Reason::EndpointUnreachable) => self.closing(frame)?,
            Ok(_) => {
                verdict::checksums(frame, &ours.bytes)?;
                traffic.left(&ours.bytes);
            }
            Err(_) => {}
        }
        same_flow
    }

    /// Checks that the connection of a packet that was reset has ended.
    fn closing(&self, frame: &[u8]) -> Result<(), String> {
        let flow = verdict::first(frame).and_then(|first| self.node.flow(first.protocol, first.src, first.dst));
        match flow {
            Some((_, state)) if state != FlowState::CLOSING => Err(format!("{state:?} after a reset")),
            _ => Ok(()),
        }
    }

    /// Whether nothing is known of a packet's connection.
    fn is_first(&self, first: &verdict::First) -> bool {
        fn of<A: Side>(tables: &FamilyTables<A>, first: &verdict::First) -> bool {
            let key = flow_key::<A>(first.protocol, first.src, first.dst);
            [Table::Flows, Table::Pending]
                .iter()
                .all(|table| tables.table(*table).get(&key).is_none())
        }
        match first.layers.src.is_ipv4() {
            true => of(&self.node.tables.v4, first),
            false => of(&self.node.tables.v6, first),
        }
    }

    /// Compares the table entries of the packet's connection. False when the kernel took it for another second.
    fn same_flow(&mut self, frame: &[u8], ours: &Outcome) -> Result<bool, String> {
        let Some(first) = verdict::first(frame).filter(|_| ours.verdict.is_ok()) else {
            return Ok(true);
        };
        fn key<A: Side>(first: &verdict::First) -> FlowKey<A> {
            flow_key(first.protocol, first.src, first.dst)
        }
        let is_v4 = first.src.is_ipv4();
        let same = both_families(
            self.world,
            &self.node,
            |sides| is_v4.then(|| sides.compare_flow(key(&first))),
            |sides| (!is_v4).then(|| sides.compare_flow(key(&first))),
        );
        same.into_iter().flatten().next().unwrap_or(Ok(true))
    }

    /// Leaves the world's tables empty.
    fn clear(self) {
        both_families(self.world, &self.node, |sides| sides.clear(), |sides| sides.clear());
    }
}
