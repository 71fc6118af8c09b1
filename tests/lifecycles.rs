//! How long the calls of containerd take: `make bench-shim` runs this with our
//! runtime and with runc's, in turns.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sandbox_tests::{Bed, Shim, spec, tests};
use serde_json::json;

tests![Any one_after_another, Any many_at_once];

/// Lifecycles in a row.
fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(5, |text| text.parse().expect("ROUNDS is a number"))
}

/// Lifecycles at once.
fn crowds() -> Vec<usize> {
    let text = std::env::var("CROWDS").unwrap_or("4 16".to_owned());
    text.split_whitespace().map(|size| size.parse().expect("CROWDS are numbers")).collect()
}

fn tell(call: &str, took: Duration) {
    println!("figure: sample {call} {:.3}", took.as_secs_f64() * 1e3);
}

/// The life of a container whose process sleeps, as containerd leads it: how
/// long each call took, and all of them.
fn life(bed: &Bed, name: &str, root: PathBuf) -> Vec<(&'static str, Duration)> {
    let mut took = Vec::new();
    let mut last = Instant::now();
    let began = last;
    let mut lap = |call| {
        let now = Instant::now();
        took.push((call, now - last));
        last = now;
    };
    let shim = bed.shim(name, spec(&["sleep", "1000"]));
    lap("shim");
    shim.create(&shim.request(root)).unwrap();
    lap("create");
    shim.rpc().start().unwrap();
    lap("start");
    exec_of_true(&shim);
    lap("exec-first");
    exec_of_true(&shim);
    lap("exec");
    // The shim's program, run for another container of the same pod.
    let mut member = spec(&["true"]);
    member["annotations"] = json!({"io.kubernetes.cri.sandbox-id": bed.id(name)});
    drop(bed.shim(&format!("{name}-member"), member));
    lap("shim-of-member");
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    lap("kill");
    shim.rpc().delete().unwrap();
    lap("delete");
    shim.shutdown();
    lap("shutdown");
    took.push(("lifecycle", began.elapsed()));
    took
}

fn exec_of_true(shim: &Shim) {
    let exec = shim.rpc().exec("x");
    exec.run(&spec(&["true"])["process"]).unwrap();
    assert_eq!(exec.wait().unwrap().exit_status, 0);
    exec.delete().unwrap();
}

fn one_after_another(bed: &Bed) {
    for round in 0..rounds() {
        let name = format!("r{round}");
        let root = bed.rootfs(&name);
        for (call, took) in life(bed, &name, root) {
            tell(call, took);
        }
    }
}

fn many_at_once(bed: &Bed) {
    for size in crowds() {
        let names: Vec<String> = (0..size).map(|n| format!("c{size}-{n}")).collect();
        let roots: Vec<PathBuf> = names.iter().map(|name| bed.rootfs(name)).collect();
        let all = thread::scope(|scope| {
            let lives = names.iter().zip(roots);
            let lives: Vec<_> =
                lives.map(|(name, root)| scope.spawn(move || life(bed, name, root))).collect();
            lives.into_iter().flat_map(|life| life.join().unwrap()).collect::<Vec<_>>()
        });
        for (call, took) in all {
            tell(&format!("{call}-of-{size}"), took);
        }
    }
}

fn main() -> std::process::ExitCode {
    sandbox_tests::main(&[TESTS])
}
