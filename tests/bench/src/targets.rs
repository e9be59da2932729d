//! What svcproxy is to reach, and whether it does.

use crate::report::Row;

/// How a target's figure comes out of the rows.
enum Figure {
    /// The median of a row.
    Value,
    /// Its ratio to the row that it was compared with.
    Ratio,
    /// Its median by that of another row.
    By(&'static str),
}

/// Which side of the limit is good.
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

struct Target {
    rows: Vec<String>,
    figure: Figure,
    limit: Limit,
}

/// Prints a line for each target that was measured; true when none of them is missed.
pub(crate) fn check(rows: &[Row]) -> bool {
    let mut passed = true;
    let (mut kept, mut checked) = (0, 0);
    for target in targets() {
        for name in &target.rows {
            let Some(figure) = rows
                .iter()
                .find(|row| row.name == *name)
                .and_then(|row| figure(&target, row, rows))
            else {
                continue; // not among the parts, or not in a quick run
            };
            let (good, sign, limit) = match target.limit {
                Limit::AtMost(limit) => (figure <= limit, "≤", limit),
                Limit::AtLeast(limit) => (figure >= limit, "≥", limit),
            };
            let verdict = if good { "PASS" } else { "MISS" };
            println!(
                "{verdict} {name}{} {figure:.2} {sign} {limit}",
                target.figure.describe()
            );
            passed &= good;
            kept += u32::from(good);
            checked += 1;
        }
    }
    println!("{kept} of {checked} targets are reached");
    passed && checked > 0
}

impl Figure {
    fn describe(&self) -> String {
        match self {
            Self::Value => String::new(),
            Self::Ratio => " (ratio)".to_owned(),
            Self::By(other) => format!(" ÷ {other}"),
        }
    }
}

fn figure(target: &Target, row: &Row, rows: &[Row]) -> Option<f64> {
    match target.figure {
        Figure::Value => Some(row.value.median),
        Figure::Ratio => row.versus.as_ref().map(|versus| versus.ratio.median),
        Figure::By(other) => {
            let other = rows.iter().find(|row| row.name == other)?;
            Some(row.value.median / other.value.median)
        }
    }
}

fn targets() -> Vec<Target> {
    let each = |hooks: &[&str], what: &[&str], rest: &dyn Fn(&str, &str, &str) -> String| {
        let mut names = Vec::new();
        for hook in hooks {
            for family in ["v4", "v6"] {
                names.extend(what.iter().map(|what| rest(hook, family, what)));
            }
        }
        names
    };
    let established = |hook: &'static str, limit| {
        let directions = ["request", "reply", "masqueraded-request", "masqueraded-reply"];
        let rows = [1, 16_384, 65_536].iter().flat_map(|flows| {
            each(&[hook], &directions, &|hook, family, what| {
                format!("packets/{hook}/{family}/{flows}-flows/{what}")
            })
        });
        Target {
            rows: rows.collect(),
            figure: Figure::Ratio,
            limit: Limit::AtMost(limit),
        }
    };
    let both = ["xdp", "tc"];
    let packets = |what: &str, limit| Target {
        rows: each(&both, &[what], &|hook, family, what| {
            format!("packets/{hook}/{family}/{what}")
        }),
        figure: Figure::Ratio,
        limit: Limit::AtMost(limit),
    };
    let one = |name: &str, figure, limit| Target {
        rows: vec![name.to_owned()],
        figure,
        limit,
    };
    let auto = |what: &str| format!("chain/{what}/auto/5000-services");
    vec![
        established("xdp", 1.15),
        established("tc", 1.0),
        packets("new", 1.5),
        packets("not-a-service", 2.0),
        packets("services/request/10000", 1.05),
        packets("services/new/10000", 1.05),
        one(&auto("connections"), Figure::Ratio, Limit::AtLeast(1.0)),
        one(
            &auto("connections"),
            Figure::By("chain/connections/nftables/5000-services"),
            Limit::AtLeast(1.2),
        ),
        one(&auto("datagrams"), Figure::Ratio, Limit::AtLeast(1.25)),
        one(&auto("bulk"), Figure::Ratio, Limit::AtLeast(1.0)),
        one(&auto("latency-p50"), Figure::Ratio, Limit::AtMost(1.0)),
        one("control/5000-services/start", Figure::Value, Limit::AtMost(1000.0)),
        one("control/20000-services/change", Figure::Value, Limit::AtMost(20.0)),
        one("control/5000-services/resident", Figure::Value, Limit::AtMost(60.0)),
    ]
}
