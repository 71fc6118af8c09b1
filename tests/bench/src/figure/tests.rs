#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn case(name: &str, wholes: &[u64]) -> Case {
    let boot = |ms: &u64| Boot {
        marks: vec![
            ("first".to_owned(), Duration::from_millis(ms / 2)),
            ("second".to_owned(), Duration::from_millis(*ms)),
        ],
    };
    Case { name: name.to_owned(), boots: wholes.iter().map(boot).collect() }
}

#[test]
fn ours_is_compared_with_the_best_of_the_others() {
    let cases = [case("kvm/ready", &[90]), case("a/ready", &[200]), case("b/ready", &[100])];
    let lines = lines("boot", &cases);
    let ours: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(ours["peer"], "b");
    assert_eq!(ours["peer_value"], 0.1);
    assert_eq!(ours["ratio"], 0.9);
    let other: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(other["peer"], Value::Null);
}

#[test]
fn stages_add_up_to_the_whole() {
    let case = case("kvm/ready", &[10, 30, 20]);
    let line: Value = serde_json::from_str(&lines("boot", &[case])[0]).unwrap();
    assert_eq!(line["value"], 0.02);
    assert_eq!(
        line["stages"]["first"].as_f64().unwrap() + line["stages"]["second"].as_f64().unwrap(),
        0.02
    );
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let hundred: Vec<_> = (1..=100).rev().collect();
    let case = case("kvm/ready", &hundred);
    assert_eq!([50, 95, 99].map(|p| (case.percentile(p) * 1e3).round()), [50.0, 95.0, 99.0]);
    assert_eq!([50, 99].map(|p| rank(1, p)), [0, 0]);
}
