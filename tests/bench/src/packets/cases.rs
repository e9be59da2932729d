//! What is measured of packets.

use super::*;

impl World {
    /// Packets of connections that are there, at so many of them: beside a floor that does no more than translate.
    pub(super) fn established<A: Ip>(
        &mut self,
        hook: Hook,
        scene: &Scene,
        floors: &Floors,
        flows: &[u32],
        time: Duration,
        series: &mut Vec<Series>,
    ) -> Result<()>
    where
        FlowKey<A>: Pod,
    {
        let Scene { plain, masquerade } = scene;
        let plain = &plain[0];
        for &count in flows {
            let mut cases = Vec::new();
            let requests = plain.requests.take(count);
            cases.push(floor("parse", floors.parse, requests, parsed(hook)));
            cases.push(floor("floor", floors.nat, requests, sent(hook)));
            let directions = [
                ("request", &self.plain[0], plain.requests),
                ("reply", &self.plain[0], plain.replies),
                ("masqueraded-request", &self.masquerade, masquerade.requests),
                ("masqueraded-reply", &self.masquerade, masquerade.replies),
            ];
            for (name, proxy, tuples) in directions {
                let tuples = tuples.take(count);
                cases.push(ours(hook, name, proxy, tuples, sent(hook), Reason::Translated, "floor"));
            }
            if hook == Hook::Tc {
                let reply = cases[3].clone();
                cases.push(Case {
                    name: "reply-out".into(),
                    target: self.plain[0].tc_out,
                    verdict: passed(hook),
                    ..reply
                });
            }
            for case in &mut cases {
                case.flags = ACK;
            }
            let prefix = format!("packets/{}/{}/{count}-flows", hook.name(), A::NAME);
            series.extend(measure::<A>(
                &mut self.bench,
                self.empty[hook as usize],
                &cases,
                time,
                &prefix,
            )?);
        }
        Ok(())
    }

    /// New connections, packets that are none of ours, refusals; and what the number of Services changes.
    pub(super) fn others<A: Ip>(
        &mut self,
        hook: Hook,
        scene: &Scene,
        floors: &Floors,
        time: Duration,
        series: &mut Vec<Series>,
    ) -> Result<()>
    where
        FlowKey<A>: Pod,
    {
        let bench = &mut self.bench;
        let to = |bench: &mut Bench, count, to: &dyn Fn(u32) -> (A, u16)| {
            bench.place(&tuples::<A>(network::NEW_CLIENTS, count, to))
        };
        let new = to(bench, NEW_FLOWS, &|_| service_key(0))?;
        let affine = {
            // One connection each of many clients, again and again.
            let mut tuples = tuples::<A>(network::NEW_CLIENTS, NEW_FLOWS, |_| service_key(AFFINITY));
            for (index, tuple) in (0..).zip(&mut tuples) {
                tuple.src = A::address(network::NEW_CLIENTS, 1 + index % AFFINE_FLOWS);
                tuple.src_port = (index / AFFINE_FLOWS + 1024) as u16;
            }
            bench.place(&tuples)?
        };
        let elsewhere = to(bench, FLOWS, &|_| (A::address(network::ELSEWHERE, 1), 80))?;
        let nowhere = to(bench, FLOWS, &|_| service_key(EMPTY))?;
        let proxy = &self.plain[0];
        let mut cases = vec![
            floor("parse", floors.parse, elsewhere, parsed(hook)),
            floor("two-inserts", floors.open, new, sent(hook)),
            ours(hook, "new", proxy, new, sent(hook), Reason::Translated, "two-inserts"),
            ours(
                hook,
                "new-affinity",
                proxy,
                affine,
                sent(hook),
                Reason::Translated,
                "two-inserts",
            ),
            ours(
                hook,
                "not-a-service",
                proxy,
                elsewhere,
                passed(hook),
                Reason::NotAService,
                "parse",
            ),
        ];
        cases.push(match hook {
            Hook::Xdp => ours(hook, "reject", proxy, nowhere, passed(hook), Reason::NotPlain, "parse"),
            Hook::Tc => Case {
                single: true,
                ..ours(hook, "reject", proxy, nowhere, sent(hook), Reason::NoEndpoint, "parse")
            },
        });
        let prefix = format!("packets/{}/{}", hook.name(), A::NAME);
        series.extend(measure::<A>(bench, self.empty[hook as usize], &cases, time, &prefix)?);

        let (mut requests, mut opened) = (Vec::new(), Vec::new());
        for (proxy, connections) in self.plain.iter().zip(&scene.plain).skip(1) {
            let [name, versus] = [proxy, &self.plain[1]].map(|proxy| proxy.services.to_string());
            let case = |tuples| ours(hook, &name, proxy, tuples, sent(hook), Reason::Translated, &versus);
            requests.push(Case {
                flags: ACK,
                ..case(connections.requests.take(FLOWS))
            });
            opened.push(case(to(bench, NEW_FLOWS, &|index| {
                service_key(index % proxy.services)
            })?));
        }
        // Apart from each other: what opens connections empties the caches.
        for (what, cases) in [("request", requests), ("new", opened)] {
            let prefix = format!("{prefix}/services/{what}");
            series.extend(measure::<A>(bench, self.empty[hook as usize], &cases, time, &prefix)?);
        }
        Ok(())
    }
}

/// A floor, before SYNs.
fn floor<'a>(name: &str, target: Target, tuples: Tuples, verdict: i32) -> Case<'a> {
    Case {
        name: name.into(),
        target,
        tuples,
        flags: SYN,
        single: false,
        verdict,
        counted: None,
        versus: None,
    }
}

/// svcproxy's program, before SYNs.
fn ours<'a>(
    hook: Hook,
    name: &str,
    proxy: &'a Proxy,
    tuples: Tuples,
    verdict: i32,
    reason: Reason,
    versus: &str,
) -> Case<'a> {
    Case {
        counted: Some((proxy, reason)),
        versus: Some(versus.into()),
        ..floor(name, proxy.at(hook), tuples, verdict)
    }
}

/// The verdict of the floor that only reads a packet.
fn parsed(hook: Hook) -> i32 {
    match hook {
        Hook::Xdp => sent(hook),
        Hook::Tc => passed(hook),
    }
}
