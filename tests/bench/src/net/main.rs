//! What each way out of a namespace costs: the kernel's own veth, pasta,
//! slirp4netns and ours, interleaved in one run, in namespaces of its own.
//!
//! `NAME=value` arguments: `RUNS`, `SECONDS` (of each cell), `ONLY` (part of a
//! case's name), `BACKENDS` (names with commas), `TAP`, `TOOLBOX`, `BIN`
//! and `GUEST` (what is measured), `PAGE` and `PLOT` (files to write). `SMOKE=yes` is one short run of the most telling.
#![allow(clippy::print_stdout)]

mod backend;
mod cells;
mod deadline;
mod figure;
mod page;
mod plan;
mod plot;
mod space;
mod vm;

use anyhow::{Context, Result};

use figure::Figures;
use plan::Plan;

/// How much worse than the better tool a figure of a smoke run may be. One
/// short run on a busy machine is off by half; what is broken, by more.
const WORST: f64 = 4.0;

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    let mut figures = Figures::default();
    for run in 0..plan.runs {
        for turn in 0..plan.backends.len() {
            // Rotated, so that none is always the one after an idle machine.
            let kind = plan.backends[(run + turn) % plan.backends.len()];
            for mtu in plan.mtus(kind) {
                eprintln!("bench net: run {} of {}: {} at {mtu}", run + 1, plan.runs, kind.name());
                // Memory does not hang on who else is running.
                let memory = run == 0 && !plan.smoke;
                let measured = cells::measure(&plan, kind, mtu, memory, &mut figures);
                if let Err(error) = measured {
                    figures.fail(&format!("at {mtu}"), kind, &error);
                }
            }
        }
        // What is cut later leaves what was finished.
        write(&plan, run + 1, &figures)?;
    }
    print!("{}", page::table(&figures));
    for line in figures.lines() {
        println!("{line}");
    }
    figures.whole()?;
    if plan.smoke { figures.fair(WORST) } else { Ok(()) }
}

fn write(plan: &Plan, rounds: usize, figures: &Figures) -> Result<()> {
    if let Some(path) = &plan.page {
        std::fs::write(path, page::page(plan, rounds, figures)).context("writing the page")?;
    }
    if let Some(path) = &plan.plot {
        std::fs::write(path, plot::svg(figures)).context("writing the plot")?;
    }
    Ok(())
}
