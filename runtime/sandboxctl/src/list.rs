use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use sandbox_runtime::{Config, State};
use serde::Serialize;

use crate::show::age;
use crate::table::table;

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;

/// A sandbox, as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    namespace: String,
    id: String,
    /// `running`, or `stale`: its shim is gone and its remains are not cleaned.
    status: &'static str,
    engine: String,
    engine_reason: String,
    vcpus: u8,
    memory_mib: u32,
    age_seconds: u64,
    processes: Vec<Process>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Process {
    role: String,
    pid: u32,
}

/// Prints the sandboxes of this host.
pub fn run(json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load()?;
    let states = sandbox_runtime::list(&config).map_err(|error| unreadable(&config, &error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let rows: Vec<_> = states.into_iter().map(|state| row(state, now)).collect();
    let text =
        if json { format!("{}\n", serde_json::to_string_pretty(&rows)?) } else { text(&rows) };
    Ok(super::print(&text)?)
}

pub fn unreadable(config: &Config, error: &io::Error) -> io::Error {
    let dir = config.state_dir.display();
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => "; only root may see sandboxes: sudo sandboxctl list",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot read {dir}: {error}{help}"))
}

fn row(state: State, now: u64) -> Row {
    let status = if state.is_running() { "running" } else { "stale" };
    let processes = state
        .processes
        .into_iter()
        .map(|member| Process { role: member.role, pid: member.process.pid })
        .collect();
    Row {
        namespace: state.pod.namespace,
        id: state.pod.id,
        status,
        engine: state.pod.engine,
        engine_reason: state.pod.engine_reason,
        vcpus: state.pod.vcpus,
        memory_mib: state.pod.memory_mib,
        age_seconds: now.saturating_sub(state.pod.started),
        processes,
    }
}

fn text(rows: &[Row]) -> String {
    let head = ["NAMESPACE", "ID", "STATUS", "ENGINE", "VCPUS", "MEMORY", "AGE", "PIDS"];
    table(head, rows.iter().map(cells))
}

fn cells(row: &Row) -> [String; 8] {
    let pids: Vec<_> =
        row.processes.iter().map(|process| format!("{}:{}", process.role, process.pid)).collect();
    [
        row.namespace.clone(),
        row.id.clone(),
        row.status.to_owned(),
        row.engine.clone(),
        row.vcpus.to_string(),
        format!("{} MiB", row.memory_mib),
        age(row.age_seconds.saturating_mul(1000)),
        pids.join(" "),
    ]
}
