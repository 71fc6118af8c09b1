use std::io::{self, IsTerminal};

use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{FlowRow, Reply, Request};

use super::called;
use crate::show::{age, bytes, json, plain};
use crate::table::table;

#[cfg(test)]
#[path = "flows/tests.rs"]
mod tests;

/// Has a terminal begin at its top, with nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What is open now. One of many views is in one line of JSON, or has the
/// terminal to itself.
pub fn text(
    client: &mut Client,
    as_json: bool,
    many: bool,
) -> Result<String, Box<dyn std::error::Error>> {
    let Reply::Flows { flows } = client.ask(&Request::Flows)? else {
        return Err(ClientError::Odd.into());
    };
    if as_json {
        return Ok(json(&flows, !many)?);
    }
    let clear = if many && io::stdout().is_terminal() { CLEAR } else { "" };
    Ok(format!("{clear}{}", shown(&flows)))
}

fn shown(flows: &[FlowRow]) -> String {
    let head = [
        "FLOW", "DIR", "PROTO", "GUEST", "REMOTE", "NAME", "STATE", "SENT", "RECEIVED", "AGE",
        "IDLE", "RULE",
    ];
    table(head, flows.iter().map(cells))
}

fn cells(flow: &FlowRow) -> [String; 12] {
    [
        flow.id.to_string(),
        plain(&flow.dir),
        plain(&flow.proto),
        flow.guest.to_string(),
        flow.remote.to_string(),
        called(&flow.names),
        plain(&flow.state),
        bytes(flow.sent),
        bytes(flow.received),
        age(flow.age_ms),
        age(flow.idle_ms),
        plain(&format!("{}:{}", flow.tier, flow.rule)),
    ]
}
