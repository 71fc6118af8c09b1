#![allow(clippy::unwrap_used)]

use super::*;

const OURS: Kind = Kind::Netstack { offload: true, rules: None };

fn figures(unit: Unit, of: &[(Kind, &[f64])]) -> Figures {
    let mut figures = Figures::default();
    for (kind, values) in of {
        values.iter().for_each(|value| figures.add("case", *kind, unit, *value));
    }
    figures
}

fn line(figures: &Figures, kind: Kind) -> Value {
    figures.line(figures.get("case", kind).unwrap())
}

#[test]
fn the_peer_is_the_better_tool_and_never_the_kernel() {
    let of: [(_, &[f64]); 4] =
        [(Kind::Veth, &[40.0]), (Kind::Pasta, &[4.0]), (Kind::Slirp, &[5.0]), (OURS, &[10.0])];
    let more = line(&figures(Unit::Gbit, &of), OURS);
    assert_eq!((&more["peer"], &more["ratio"]), (&json!("slirp4netns"), &json!(2.0)));
    assert_eq!(more["kernel_value"], 40.0);
    let less = line(&figures(Unit::Micros, &of), OURS);
    assert_eq!((&less["peer"], &less["ratio"]), (&json!("pasta"), &json!(2.5)));
    assert_eq!(line(&figures(Unit::Gbit, &of), Kind::Pasta)["peer"], Value::Null);
}

#[test]
fn rules_are_compared_with_none() {
    let ruled = Kind::Netstack { offload: true, rules: Some(10) };
    let of: [(_, &[f64]); 3] = [(Kind::Pasta, &[9.0]), (OURS, &[10.0]), (ruled, &[8.0])];
    let line = line(&figures(Unit::Gbit, &of), ruled);
    assert_eq!((&line["peer"], &line["ratio"]), (&json!("netstack"), &json!(0.8)));
}

#[test]
fn runs_are_told_by_their_middle_and_their_ends() {
    let figures = figures(Unit::Rate, &[(OURS, &[5.0, 1.0, 9.0, 2.0, 3.0])]);
    let line = line(&figures, OURS);
    let said = ["value", "min", "max", "runs"].map(|name| line[name].as_f64().unwrap());
    assert_eq!(said, [3.0, 1.0, 9.0, 5.0]);
}

#[test]
fn what_stalled_is_told_of_all_its_figures() {
    let mut figures = Figures::default();
    figures.fail("tcp-rtt", Kind::Slirp, &Stalled.into());
    figures.fail("connect-16", Kind::Slirp, &Stalled.into());
    figures.fail("up/1500", Kind::Slirp, &anyhow::anyhow!("refused"));
    let stalls = ["tcp-rtt/p95", "connect-16", "connect", "up/1500"];
    assert_eq!(stalls.map(|case| figures.stalls(case, Kind::Slirp)), [1, 1, 0, 0]);
    assert_eq!((figures.stalls("tcp-rtt", OURS), figures.lines().len()), (0, 2));
}

#[test]
fn a_smoke_run_is_fair_or_says_what_is_not() {
    let more = figures(Unit::Gbit, &[(Kind::Pasta, &[9.0]), (OURS, &[3.0])]);
    assert!(more.fair(4.0).is_ok() && more.fair(2.0).is_err());
    let less = figures(Unit::Micros, &[(Kind::Pasta, &[3.0]), (OURS, &[9.0])]);
    assert!(less.fair(4.0).is_ok() && less.fair(2.0).is_err());
}
