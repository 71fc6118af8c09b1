//! What a container may use, and what a guest is given.

use sandbox_tests::{Bed, spec, tests};
use serde_json::json;

tests![
    Any memory_limit_ends_the_container,
    Any pids_limit_is_enforced,
    Any cpu_quota_and_memory_limit_are_in_the_cgroup,
    Ours one_vcpu_and_128_mib,
    Ours two_vcpus_and_512_mib,
    Ours four_vcpus_and_4_gib,
    Ours sixteen_vcpus_and_1_gib,
    Ours a_limit_that_needs_more_makes_a_larger_guest,
];

/// R28: the OOM killer's victim has exit code 137.
fn memory_limit_ends_the_container(bed: &Bed) {
    let out =
        bed.run("a").flags(&["--memory-limit=33554432"]).foreground(&["toolbox", "eat", "200"]);
    let out = out.exits(137);
    let last: u32 = out.text().lines().last().unwrap_or("0").parse().unwrap();
    assert!((8..=32).contains(&last), "it took {last} MiB of 32");
}

fn pids_limit_is_enforced(bed: &Bed) {
    let line = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; echo started them all";
    let mut spec = spec(&["sh", "-c", line]);
    spec["linux"]["resources"]["pids"] = json!({ "limit": 6 });
    let out = bed.run_spec("a", spec, &[]);
    assert!(out.errors().contains("can't fork"), "stderr: {}", out.errors());
    assert!(!out.text().contains("all"), "stdout: {}", out.text());
}

/// Seen from inside, in either version of cgroups.
fn cpu_quota_and_memory_limit_are_in_the_cgroup(bed: &Bed) {
    let line = "cd /sys/fs/cgroup; cat cpu.max memory.max 2>/dev/null || \
                echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us) $(cat memory/memory.limit_in_bytes)";
    let mut spec = spec(&["sh", "-c", line]);
    spec["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    let cgroup = sandbox_tests::mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    spec["mounts"].as_array_mut().unwrap().push(cgroup);
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    let out = bed.run_spec("a", spec, &[]).ok();
    let text = out.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["50000", "100000", "67108864"]);
}

/// Runs a guest of this size and checks that it is what the container sees.
fn size(bed: &Bed, vcpus: u32, mib: u64) {
    let flags = [
        format!("--annotation=io.sandbox.vcpus={vcpus}"),
        format!("--annotation=io.sandbox.memory_mib={mib}"),
    ];
    let out =
        bed.run("a").flags(&flags).shell("nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo").ok();
    let text = out.text();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), vcpus.to_string(), "vCPUs");
    let seen: u64 = lines.next().unwrap().parse().unwrap();
    let given = mib << 10;
    // The kernel keeps its image, page structures and the initramfs for itself.
    assert!(seen < given && seen + (40 << 10) + given / 25 > given, "{seen} of {given} KiB");
}

fn one_vcpu_and_128_mib(bed: &Bed) {
    size(bed, 1, 128);
}

fn two_vcpus_and_512_mib(bed: &Bed) {
    size(bed, 2, 512);
}

/// Memory on both sides of the hole below 4 GiB, and pages of the upper part
/// hold what is written to them.
fn four_vcpus_and_4_gib(bed: &Bed) {
    size(bed, 4, 4096);
}

/// As many as a sandbox may have.
fn sixteen_vcpus_and_1_gib(bed: &Bed) {
    size(bed, 16, 1024);
}

/// A quota of 2 CPUs needs two vCPUs, a limit of 1 GiB that much memory.
fn a_limit_that_needs_more_makes_a_larger_guest(bed: &Bed) {
    let flags = ["--cpu-quota=200000", "--cpu-period=100000", "--memory-limit=1073741824"];
    let out =
        bed.run("a").flags(&flags).shell("nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo").ok();
    let text = out.text();
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers[0], 2, "vCPUs");
    assert!(numbers[1] > 1 << 20, "{} KiB of memory for a limit of 1 GiB", numbers[1]);
}
