//! The cells of the table, for one backend at one MTU.

use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::backend::{Backend, Kind, PUBLISHED};
use crate::deadline;
use crate::figure::{Figures, Unit};
use crate::plan::Plan;
use crate::space::{POD, Space, WORLD};

/// The first port of what the world serves.
const SERVED: u16 = 5511;

/// Connections, one after the other, after which memory is looked at again.
const CHURN: usize = 20_000;

/// How long memory is given to become less once nobody is connected.
const SETTLE: Duration = Duration::from_secs(2);

/// What a cell may take beyond the time that is asked for.
const GRACE: Duration = Duration::from_secs(4);

/// The same of cells that are over when so many flows were made.
const COUNTED: Duration = Duration::from_secs(20);

/// Bytes in bulk: the name, where it is begun, and the words of the load.
const BULK: [(&str, bool, &[&str]); 6] = [
    ("up", false, &["up", "S", "1"]),
    ("down", false, &["down", "S", "1"]),
    ("up-4", false, &["up", "S", "4"]),
    ("down-4", false, &["down", "S", "4"]),
    ("both", false, &["both", "S"]),
    ("inbound", true, &["up", "S", "1"]),
];

/// What does not hang on the MTU, measured at the smaller.
const SMALL: [(&str, &str, Unit, &[&str]); 4] = [
    ("tcp-rtt", "p50 p95 p99", Unit::Micros, &["tcp", "S"]),
    ("udp-rtt", "p50 p95 p99", Unit::Micros, &["udp", "S"]),
    ("connect", "rate", Unit::Rate, &["connect", "S", "1"]),
    ("connect-16", "rate", Unit::Rate, &["connect", "S", "16"]),
];

/// A backend with a server at each end.
struct Stage<'a> {
    plan: &'a Plan,
    kind: Kind,
    space: Space,
    backend: Backend,
    servers: Vec<Server>,
}

/// A process that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures everything that is wanted, with `memory` what that is, too.
pub fn measure(
    plan: &Plan,
    kind: Kind,
    mtu: u16,
    memory: bool,
    figures: &mut Figures,
) -> Result<()> {
    let space = Space::new(mtu)?;
    let backend = Backend::start(kind, plan, &space, mtu)?;
    let mut stage = Stage { plan, kind, space, backend, servers: Vec::new() };
    stage.serve(true, SERVED)?;
    // In a microVM it is what the container runs.
    if kind != Kind::Vm {
        stage.serve(false, PUBLISHED)?;
    }
    let holds = memory && !kind.has_rules() && kind != Kind::Vm;
    if mtu == 1_500 && holds {
        // Before anything else has made it larger.
        stage.idle(figures)?;
    }
    for (name, inbound, words) in BULK {
        // What rules are there for costs nothing once a flow is decided.
        if !kind.has_rules() || matches!(name, "up" | "down") {
            stage.bulk(&format!("{name}/{mtu}"), inbound, words, figures)?;
        }
    }
    if mtu != 1_500 {
        return Ok(());
    }
    for (name, values, unit, words) in SMALL {
        stage.small(name, values, unit, words, figures)?;
    }
    if holds {
        stage.flows(figures)?;
    }
    Ok(())
}

impl Stage<'_> {
    fn at(&self, world: bool) -> Command {
        if world {
            self.space.command("world", &self.plan.toolbox)
        } else {
            self.backend.command(&self.space, &self.plan.toolbox)
        }
    }

    fn serve(&mut self, world: bool, port: u16) -> Result<()> {
        let mut child = self
            .at(world)
            .args(["load", "serve", &format!("0.0.0.0:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take();
        self.servers.push(Server(child));
        let line = deadline::line(out.context("no stdout")?, COUNTED)?;
        ensure!(line == "ready\n", "a server of the load did not start");
        Ok(())
    }

    fn load(&self, inbound: bool, words: &[&str]) -> Command {
        let (to, port) = if inbound { (POD, PUBLISHED) } else { (WORLD, SERVED) };
        let mut command = self.at(inbound);
        command.args(["load", words[0], &SocketAddr::new(to.into(), port).to_string()]);
        let seconds = self.plan.seconds.to_string();
        command.args(words.iter().skip(1).map(|word| if *word == "S" { &seconds } else { *word }));
        command
    }

    /// Runs a load to its end and answers with the values that it printed.
    fn run(&self, inbound: bool, words: &[&str]) -> Result<impl Fn(&str) -> Result<f64> + use<>> {
        let timed = Duration::from_secs_f64(self.plan.seconds) + GRACE;
        let limit = if words.contains(&"S") { timed } else { COUNTED };
        let out = deadline::output(&mut self.load(inbound, words), limit)?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(move |name: &str| value(&said, name))
    }

    fn bulk(&self, case: &str, inbound: bool, words: &[&str], figures: &mut Figures) -> Result<()> {
        if !self.plan.wants(case) {
            return Ok(());
        }
        let before = self.backend.cpu()?;
        let said = match self.run(inbound, words) {
            Ok(said) => said,
            Err(error) => {
                figures.fail(case, self.kind, &error);
                return Ok(());
            }
        };
        figures.add(case, self.kind, Unit::Gbit, said("gbit")?);
        if let (Some(before), Some(after)) = (before, self.backend.cpu()?) {
            let cost = (after - before) * 1e9 / said("bytes")?.max(1.0);
            figures.add(&format!("cpu/{case}"), self.kind, Unit::NanosPerByte, cost);
        }
        Ok(())
    }

    fn small(
        &self,
        name: &str,
        values: &str,
        unit: Unit,
        words: &[&str],
        figures: &mut Figures,
    ) -> Result<()> {
        if !self.plan.wants(name) {
            return Ok(());
        }
        let said = match self.run(false, words) {
            Ok(said) => said,
            Err(error) => {
                figures.fail(name, self.kind, &error);
                return Ok(());
            }
        };
        for value in values.split(' ') {
            let case = if values.contains(' ') { format!("{name}/{value}") } else { name.into() };
            figures.add(&case, self.kind, unit, said(value)?);
        }
        Ok(())
    }

    fn idle(&self, figures: &mut Figures) -> Result<()> {
        if let (true, Some(memory)) = (self.plan.wants("memory"), self.backend.memory()?) {
            figures.add("memory/idle", self.kind, Unit::Mebibytes, memory / 1024.0);
        }
        Ok(())
    }

    /// What flows that do nothing cost, and whether it is given back.
    fn flows(&self, figures: &mut Figures) -> Result<()> {
        if !self.plan.wants("memory") {
            return Ok(());
        }
        for (case, count, blocks) in [
            ("memory/flow-of-1000", 1_000, 0),
            ("memory/flow-of-4000", 4_000, 0),
            ("memory/flow-of-1000-after-1-kib", 1_000, 1),
            ("memory/flow-of-1000-after-64-kib", 1_000, 64),
        ] {
            let Some(before) = self.backend.memory()? else { return Ok(()) };
            let held = match self.hold(count, blocks) {
                Ok(held) => held,
                Err(error) => {
                    figures.fail(case, self.kind, &error);
                    continue;
                }
            };
            if let Some(after) = self.settled()? {
                let each = (after - before).max(0.0) / count as f64;
                figures.add(case, self.kind, Unit::Kibibytes, each);
            }
            drop(held);
        }
        if let Err(error) = self.run(false, &["churn", &CHURN.to_string()]) {
            figures.fail("memory/after-churn", self.kind, &error);
        } else if let Some(memory) = self.settled()? {
            figures.add("memory/after-churn", self.kind, Unit::Mebibytes, memory / 1024.0);
        }
        Ok(())
    }

    /// Memory once it does not become less any more.
    fn settled(&self) -> Result<Option<f64>> {
        let (start, mut least) = (Instant::now(), self.backend.memory()?);
        while start.elapsed() < SETTLE {
            std::thread::sleep(SETTLE / 10);
            let now = self.backend.memory()?;
            least = if now < least { now } else { least };
        }
        Ok(least)
    }

    fn hold(&self, count: usize, blocks: usize) -> Result<(Server, ChildStdin)> {
        let (count, blocks) = (count.to_string(), blocks.to_string());
        let mut child = self
            .load(false, &["hold", &count, &blocks])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (out, stdin) = (child.stdout.take(), child.stdin.take());
        let server = Server(child);
        let line = deadline::line(out.context("no stdout")?, COUNTED)?;
        ensure!(
            line.trim() == format!("held={count}"),
            "{} held no {count} flows",
            self.kind.name()
        );
        Ok((server, stdin.context("no stdin")?))
    }
}

/// A value of a line of `name=value`.
fn value(line: &str, name: &str) -> Result<f64> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
        .with_context(|| format!("the load did not say {name}: {line:?}"))
}
