#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn files(all: &[(&str, &str)]) -> HashMap<String, String> {
    all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn each_file_is_read() {
    let metrics = of(&files(&[
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("cpu.stat", "usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_throttled 2\n"),
        ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=99\n"),
        ("memory.current", "4096\n"),
        ("memory.max", "1048576\n"),
        ("memory.peak", "8192\n"),
        ("memory.stat", "anon 1\nfile 2\nworkingset_refault_anon 3\nworkingset_refault_file 4\n"),
        ("memory.events", "low 0\noom 1\noom_kill 2\n"),
        ("memory.pressure", "some avg10=0.00 total=1\nfull avg10=0.25 avg60=0 avg300=0 total=4\n"),
        ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.events", "max 5\n"),
    ]));
    assert_eq!((metrics.pids.current, metrics.pids.limit), (3, u64::MAX));
    let cpu = &metrics.cpu;
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (12, 7, 5));
    assert_eq!((cpu.nr_throttled, cpu.psi.some.avg10, cpu.psi.some.total), (2, 1.5, 99));
    let memory = &metrics.memory;
    assert_eq!((memory.usage, memory.usage_limit, memory.max_usage), (4096, 1_048_576, 8192));
    assert_eq!((memory.anon, memory.file, memory.workingset_refault), (1, 2, 7));
    assert_eq!((memory.psi.full.avg10, memory.psi.full.total), (0.25, 4));
    assert_eq!((metrics.memory_events.oom, metrics.memory_events.oom_kill), (1, 2));
    let [entry] = metrics.io.usage.as_slice() else { panic!("{:?}", metrics.io) };
    assert_eq!((entry.major, entry.minor, entry.rbytes, entry.wios), (254, 0, 10, 2));
    let [huge] = metrics.hugetlb.as_slice() else { panic!("{:?}", metrics.hugetlb) };
    assert_eq!((huge.pagesize.as_str(), huge.max, huge.failcnt), ("2MB", u64::MAX, 5));
}

#[test]
fn what_is_missing_or_odd_counts_as_nothing() {
    let metrics = of(&files(&[]));
    assert_eq!(metrics.memory.usage, 0);
    assert!(metrics.cpu.psi.is_none() && metrics.hugetlb.is_empty());
    let metrics = of(&files(&[
        ("pids.current", "-1"),
        ("cpu.stat", "usage_usec\nuser_usec x\n\u{0}"),
        ("cpu.pressure", "some avg10=inf avg60=NaN total=18446744073709551616"),
        ("io.stat", "254:x rbytes=1\n:\n1:2"),
        (
            "memory.stat",
            "workingset_refault_anon 18446744073709551615\nworkingset_refault_file 9\n",
        ),
    ]));
    assert_eq!((metrics.pids.current, metrics.cpu.user_usec), (0, 0));
    assert_eq!((metrics.cpu.psi.some.avg10, metrics.cpu.psi.some.total), (0.0, 0));
    assert_eq!(metrics.io.usage.len(), 1);
    assert_eq!(metrics.memory.workingset_refault, u64::MAX);
    assert_eq!(any(&metrics).type_url, "io.containerd.cgroups.v2.Metrics");
}

#[test]
fn what_several_used_is_added_up() {
    let one = |memory: &str, cpu: &str| {
        Arc::new(HashMap::from([
            ("memory.current".to_owned(), memory.to_owned()),
            ("memory.max".to_owned(), "7".to_owned()),
            ("cpu.stat".to_owned(), cpu.to_owned()),
        ]))
    };
    let all = [one("5\n", "usage_usec 3\nuser_usec 1\n"), one("6", "usage_usec 4"), one("x", "y")];
    let metrics = of(&sum(&all));
    assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (11, u64::MAX));
    assert_eq!((metrics.cpu.usage_usec, metrics.cpu.user_usec), (7, 1));
    let most = one(&u64::MAX.to_string(), "");
    assert_eq!(of(&sum(&[most.clone(), most])).memory.usage, u64::MAX);
    assert_eq!(of(&sum(&[])).memory.usage, 0);
}
