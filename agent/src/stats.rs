//! What a container has used: files of its cgroup, which the host reads.

use sandbox_agent_protocol::agent::CgroupFile;

use crate::cgroup::Cgroup;

/// Those that containerd's metrics are made from.
const FILES: &[&str] = &[
    "pids.current",
    "pids.max",
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.stat",
    "memory.events",
    "memory.pressure",
    "io.stat",
    "io.pressure",
];

/// Sizes of huge pages, as files of a cgroup name them.
const HUGE: &[&str] = &["2MB", "1GB"];

/// Files of the huge page controller for one size.
const HUGE_FILES: &[&str] = &["current", "max", "events"];

pub fn of(cgroup: &Cgroup) -> Vec<CgroupFile> {
    let huge = HUGE
        .iter()
        .flat_map(|size| HUGE_FILES.iter().map(move |file| format!("hugetlb.{size}.{file}")));
    let names = FILES.iter().map(|name| (*name).to_owned()).chain(huge);
    let file = |name: String| {
        let text = cgroup.read(&name)?;
        Some(CgroupFile { name, text, ..Default::default() })
    };
    names.filter_map(file).collect()
}
