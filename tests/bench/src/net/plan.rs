//! What is measured, and how often.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::backend::Kind;

/// Rules of the policies that are compared.
const RULES: [usize; 3] = [10, 1_000, 10_000];

/// Cases of a smoke run.
const TELLING: [&str; 4] = ["up/1500", "down/1500", "tcp-rtt", "connect"];

/// See `main`.
pub struct Plan {
    /// How often everything is measured.
    pub runs: usize,
    /// How long each cell takes.
    pub seconds: f64,
    /// In the order of the first run.
    pub backends: Vec<Kind>,
    /// One short run.
    pub smoke: bool,
    /// `netstack-tap`.
    pub tap: PathBuf,
    /// The static program that makes the load.
    pub toolbox: PathBuf,
    /// The shim and the VMM.
    pub bin: PathBuf,
    /// The guest's kernel and initramfs.
    pub guest: PathBuf,
    /// Where the page goes.
    pub page: Option<PathBuf>,
    /// Where the plot goes.
    pub plot: Option<PathBuf>,
    only: String,
}

impl Plan {
    /// Of the command line.
    pub fn from_arguments() -> Result<Self> {
        let named = |name: &str| {
            let prefix = format!("{name}=");
            env::args()
                .skip(1)
                .filter_map(|a| a.strip_prefix(&prefix).map(str::to_owned))
                .next_back()
                .filter(|value| !value.is_empty())
        };
        let number = |name: &str, default: f64| {
            named(name).map_or(Ok(default), |text| {
                text.parse().with_context(|| format!("{name}={text} is no number"))
            })
        };
        let smoke = named("SMOKE").is_some_and(|value| !matches!(value.as_str(), "no" | "0"));
        let path = |name: &str, default: &str| {
            named(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Ok(Self {
            runs: number("RUNS", if smoke { 1.0 } else { 5.0 })?.max(1.0) as usize,
            seconds: number("SECONDS", if smoke { 0.3 } else { 1.0 })?.max(0.05),
            backends: backends(named("BACKENDS"), smoke)?,
            bin: path("BIN", "target/release"),
            guest: path("GUEST", "build/guest"),
            smoke,
            tap: path("TAP", "target/release/netstack-tap"),
            toolbox: path("TOOLBOX", "target/x86_64-unknown-linux-gnu/release/toolbox"),
            page: named("PAGE").map(PathBuf::from),
            plot: named("PLOT").map(PathBuf::from),
            only: named("ONLY").unwrap_or_default(),
        })
    }

    /// Whether a case is wanted.
    pub fn wants(&self, case: &str) -> bool {
        case.contains(&self.only) && (!self.smoke || TELLING.contains(&case))
    }

    /// The MTUs of the guest's link at which a backend is measured.
    pub fn mtus(&self, kind: Kind) -> Vec<u16> {
        match kind {
            Kind::Vm | Kind::Netstack { rules: Some(_), .. } => vec![1_500],
            _ if self.smoke => vec![1_500],
            _ => vec![1_500, 65_520],
        }
    }
}

fn backends(names: Option<String>, smoke: bool) -> Result<Vec<Kind>> {
    let mut all =
        vec![Kind::Veth, Kind::Pasta, Kind::Slirp, Kind::Netstack { offload: true, rules: None }];
    if !smoke {
        all.push(Kind::Netstack { offload: false, rules: None });
        all.push(Kind::Vm);
        all.extend(RULES.map(|rules| Kind::Netstack { offload: true, rules: Some(rules) }));
    }
    let Some(names) = names else { return Ok(all) };
    let of = |name: &str| all.iter().copied().find(|kind| kind.name() == name);
    let chosen: Option<Vec<_>> = names.split(',').map(of).collect();
    match chosen {
        Some(chosen) => Ok(chosen),
        None => {
            let known: Vec<_> = all.iter().map(Kind::name).collect();
            bail!("BACKENDS={names}: there are {}", known.join(", "))
        }
    }
}
