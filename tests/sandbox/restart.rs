//! A sandbox across a restart of containerd. `make test-versions` runs this with
//! the newest containerd; before 2.0 it has no Sandbox service.

use std::fs;

use sandbox_tests::{Bed, spec, tests};

tests![Ours a_sandbox_and_its_containers_outlive_containerd];

fn has_sandboxes(bed: &Bed) -> bool {
    let version = bed.ctr(&["--version"]).ok().text();
    let mut numbers = version
        .split_whitespace()
        .filter_map(|word| word.trim_start_matches('v').split_once('.')?.0.parse::<u32>().ok());
    numbers.next_back().is_some_and(|major| major >= 2)
}

fn a_sandbox_and_its_containers_outlive_containerd(bed: &Bed) {
    if !has_sandboxes(bed) {
        println!("this containerd has no Sandbox service");
        return;
    }
    let id = bed.id("sandbox");
    let config = bed.dir().join("pod.json");
    fs::write(&config, spec(&["pause"]).to_string()).unwrap();
    let runtime = ["sandboxes", "run", "--runtime", "io.sandbox.v1"];
    bed.ctr(&[&runtime[..], &[config.to_str().unwrap(), &id]].concat()).ok();
    let lives = bed.run("lives").flags(&["--sandbox", &id]).detached(&["sleep", "1000"]);

    bed.kill_containerd();
    bed.start_containerd();

    assert_eq!(bed.task_status(&lives).as_deref(), Some("RUNNING"));
    let fifos = bed.dir().join("fifos").display().to_string();
    let exec = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", "e", &lives, "echo", "goes on"];
    assert_eq!(bed.ctr(&exec).ok().text(), "goes on");
    bed.remove(&lives);
    bed.ctr(&["sandboxes", "remove", "--force", &id]).ok();
}
