//! What a container has used, from files of its cgroup (cgroup v2,
//! `Documentation/admin-guide/cgroup-v2.rst`) to containerd's metrics.
//!
//! The text comes from the guest: what is not as expected counts as 0.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};

#[cfg(test)]
mod tests;

/// Most block devices that are reported.
const MAX_DEVICES: usize = 256;

/// Sizes of huge pages that a cgroup may have files of.
const HUGE: [&str; 2] = ["2MB", "1GB"];

/// As a Stats response has them.
pub fn any(metrics: &Metrics) -> Any {
    Any {
        type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
        value: metrics.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    }
}

/// The metrics of these files.
pub fn of(files: &HashMap<String, String>) -> Metrics {
    let text = |name: &str| files.get(name).map(String::as_str).unwrap_or_default();
    Metrics {
        pids: MessageField::some(PidsStat {
            current: number(text("pids.current")),
            limit: limit(text("pids.max")),
            ..Default::default()
        }),
        cpu: MessageField::some(cpu(&pairs(text("cpu.stat")), text("cpu.pressure"))),
        memory: MessageField::some(MemoryStat {
            usage: number(text("memory.current")),
            usage_limit: limit(text("memory.max")),
            max_usage: number(text("memory.peak")),
            psi: pressure(text("memory.pressure")),
            ..memory(&pairs(text("memory.stat")))
        }),
        io: MessageField::some(IOStat {
            usage: text("io.stat").lines().take(MAX_DEVICES).filter_map(device).collect(),
            psi: pressure(text("io.pressure")),
            ..Default::default()
        }),
        memory_events: MessageField::some(events(&pairs(text("memory.events")))),
        hugetlb: HUGE.into_iter().filter_map(|size| huge(size, files)).collect(),
        ..Default::default()
    }
}

/// Files as of one cgroup that has those of `all` in it: what was used is added
/// up. Limits, peaks and pressure of several are not those of all.
pub fn sum(all: &[Arc<HashMap<String, String>>]) -> HashMap<String, String> {
    let mut files = HashMap::new();
    for name in ["pids.current", "memory.current"] {
        let numbers = all.iter().filter_map(|files| files.get(name)).map(|text| number(text));
        files.insert(name.to_owned(), numbers.fold(0, u64::saturating_add).to_string());
    }
    for name in ["cpu.stat", "memory.stat", "memory.events"] {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, value) in
            all.iter().filter_map(|files| files.get(name)).flat_map(|text| pairs(text))
        {
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(value);
        }
        let lines = sums.into_iter().map(|(key, sum)| format!("{key} {sum}\n"));
        files.insert(name.to_owned(), lines.collect());
    }
    for name in ["pids.max", "memory.max"] {
        files.insert(name.to_owned(), "max".to_owned());
    }
    files
}

type Pairs<'a> = HashMap<&'a str, u64>;

/// Lines of a name and a number.
fn pairs(text: &str) -> Pairs<'_> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name, number(value)))
        .collect()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// No limit is the highest number, as for containerd itself.
fn limit(text: &str) -> u64 {
    if text.trim() == "max" { u64::MAX } else { number(text) }
}

fn cpu(of: &Pairs<'_>, pressed: &str) -> CPUStat {
    let get = |name| of.get(name).copied().unwrap_or(0);
    CPUStat {
        usage_usec: get("usage_usec"),
        user_usec: get("user_usec"),
        system_usec: get("system_usec"),
        nr_periods: get("nr_periods"),
        nr_throttled: get("nr_throttled"),
        throttled_usec: get("throttled_usec"),
        nr_bursts: get("nr_bursts"),
        burst_usec: get("burst_usec"),
        psi: pressure(pressed),
        ..Default::default()
    }
}

fn memory(of: &Pairs<'_>) -> MemoryStat {
    let get = |name| of.get(name).copied().unwrap_or(0);
    MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        // One number of old, two since Linux 5.9.
        workingset_refault: get("workingset_refault")
            .saturating_add(get("workingset_refault_anon"))
            .saturating_add(get("workingset_refault_file")),
        workingset_activate: get("workingset_activate")
            .saturating_add(get("workingset_activate_anon"))
            .saturating_add(get("workingset_activate_file")),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        ..Default::default()
    }
}

fn events(of: &Pairs<'_>) -> MemoryEvents {
    let get = |name| of.get(name).copied().unwrap_or(0);
    MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        oom_group_kill: get("oom_group_kill"),
        ..Default::default()
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn device(line: &str) -> Option<IOEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let counts: Pairs<'_> =
        words.filter_map(|word| word.split_once('=')).map(|(name, n)| (name, number(n))).collect();
    let get = |name| counts.get(name).copied().unwrap_or(0);
    Some(IOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: get("rbytes"),
        wbytes: get("wbytes"),
        rios: get("rios"),
        wios: get("wios"),
        ..Default::default()
    })
}

/// Two lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; nothing
/// where the kernel does not count it.
fn pressure(text: &str) -> MessageField<PSIStats> {
    if text.is_empty() {
        return MessageField::none();
    }
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let words = found.unwrap_or_default().split_ascii_whitespace();
        let values: HashMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        let average = |name| {
            let value = values.get(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
            if f64::is_finite(value) { value } else { 0.0 }
        };
        MessageField::some(PSIData {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: values.get("total").map_or(0, |text| number(text)),
            ..Default::default()
        })
    };
    MessageField::some(PSIStats { some: line("some"), full: line("full"), ..Default::default() })
}

fn huge(size: &str, files: &HashMap<String, String>) -> Option<HugeTlbStat> {
    let text = |file: &str| files.get(&format!("hugetlb.{size}.{file}")).map(String::as_str);
    Some(HugeTlbStat {
        current: number(text("current")?),
        max: limit(text("max").unwrap_or_default()),
        pagesize: size.to_owned(),
        failcnt: pairs(text("events").unwrap_or_default()).get("max").copied().unwrap_or(0),
        ..Default::default()
    })
}
