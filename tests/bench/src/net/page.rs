//! The figures as tables, for a terminal and as a page.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::backend::Kind;
use crate::figure::{Figure, Figures};
use crate::plan::Plan;

const OURS: Kind = Kind::Netstack { offload: true, rules: None };
const PLAIN: Kind = Kind::Netstack { offload: false, rules: None };

/// Tables: title, description, backends, cases.
const TABLES: [(&str, &str, &[Kind], &[&str]); 5] = [
    (
        "Bytes",
        "Gbit/s; more is better. The number after the slash is the MTU of the guest's link.",
        &[Kind::Veth, Kind::Pasta, Kind::Slirp, OURS, PLAIN, Kind::Vm],
        &["up", "down", "both", "inbound"],
    ),
    (
        "CPU of the backend",
        "ns per byte of payload; less is better. Kernel time on behalf of the backend is included.",
        &[Kind::Pasta, Kind::Slirp, OURS, PLAIN, Kind::Vm],
        &["cpu/"],
    ),
    (
        "Round trips and connections",
        "One byte there and back in µs, less is better; connections made and ended per second, \
         by one caller and by 16, more is better.",
        &[Kind::Veth, Kind::Pasta, Kind::Slirp, OURS, PLAIN, Kind::Vm],
        &["tcp-rtt", "udp-rtt", "connect"],
    ),
    (
        "Memory",
        "Resident memory of the backend in MiB, and what each idle flow adds in KiB; less is better. \
         pasta and slirp4netns leave bytes in the kernel's sockets or hold fewer flows.",
        &[Kind::Pasta, Kind::Slirp, OURS, PLAIN, Kind::Vm],
        &["memory/"],
    ),
    (
        "Rules",
        "`netstack` with policies of 10, 1,000 and 10,000 rules, of which the last one allows.",
        &[OURS, rules(10), rules(1_000), rules(10_000)],
        &["up/1500", "down/1500", "tcp-rtt", "udp-rtt", "connect"],
    ),
];

const fn rules(count: usize) -> Kind {
    Kind::Netstack { offload: true, rules: Some(count) }
}

/// All tables.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for (title, about, kinds, cases) in TABLES {
        let cases = figures.cases(cases);
        let there = |kind: &&Kind| cases.iter().any(|case| figures.get(case, **kind).is_some());
        let kinds: Vec<_> = kinds.iter().filter(there).copied().collect();
        if kinds.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {title}\n\n{about}\n\n| |");
        kinds.iter().for_each(|kind| text += &format!(" {} |", kind.name()));
        text += " ours / best tool |\n| --- |";
        kinds.iter().for_each(|_| text += " ---: |");
        text += " ---: |\n";
        for case in cases {
            row(&mut text, figures, case, &kinds);
        }
    }
    text
}

fn row(text: &mut String, figures: &Figures, case: &str, kinds: &[Kind]) {
    let _ = write!(text, "| {case} |");
    for kind in kinds {
        let stalls = figures.stalls(case, *kind);
        let said = match (figures.get(case, *kind), stalls) {
            (Some(figure), 0) => cell(figure),
            (Some(figure), _) => format!("{}, stalled × {stalls}", cell(figure)),
            (None, 0) => "–".to_owned(),
            (None, _) => "stalled".to_owned(),
        };
        let _ = write!(text, " {said} |");
    }
    let ratio = figures.get(case, OURS).and_then(|ours| {
        let peer = figures.peer(ours).filter(|peer| peer.median() > 0.0)?;
        Some(format!("{:.2}", ours.median() / peer.median()))
    });
    let _ = writeln!(text, " {} |", ratio.unwrap_or_else(|| "–".to_owned()));
}

/// The median, with the least and the most.
fn cell(figure: &Figure) -> String {
    let (least, most) = figure.range();
    format!("{} ({}–{})", short(figure.median()), short(least), short(most))
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The page in the documentation.
pub fn page(plan: &Plan, rounds: usize, figures: &Figures) -> String {
    format!(
        "# What the network costs\n\n\
         Written by `make bench-net`: {rounds} of {} interleaved runs in rotated order, {} s for each cell; \
         medians, with minimum and maximum in brackets. Machine: {}. Peers: {}.\n\n\
         The guest is a network namespace for every backend; for `veth` it is the pod's \
         namespace itself, as for a container of runc. The peers are at the other end of the pod's \
         veth. `netstack-plain` is `netstack` without checksum and segmentation offload; `vm` is a \
         container in a microVM on this machine's engine, its CPU that of the `io` process. Congestion control is Reno everywhere.\n\n\
         ![Throughput beside its peers](img/bench-net.svg)\n{}",
        plan.runs,
        plan.seconds,
        machine(),
        peers(),
        table(figures),
    )
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{cpus} × {}, Linux {}", model.unwrap_or("CPU"), kernel.trim())
}

fn peers() -> String {
    let version = |program: &str| {
        let out = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    // Debian's build of pasta does not know its own version.
    let package = |name: &str| {
        let out =
            Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]).output().ok()?;
        out.status.success().then(|| format!("pasta {}", String::from_utf8_lossy(&out.stdout)))
    };
    let pasta = version("pasta").filter(|said| !said.contains("unknown"));
    [pasta.or_else(|| package("passt")), version("slirp4netns")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}
