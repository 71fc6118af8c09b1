use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{ListenerRow, Reply, Request};

use crate::show::{json, plain};
use crate::table::table;

#[cfg(test)]
#[path = "listeners/tests.rs"]
mod tests;

/// What the guest listens on now.
pub fn text(client: &mut Client, as_json: bool) -> Result<String, Box<dyn std::error::Error>> {
    let Reply::Listeners { listeners } = client.ask(&Request::Listening)? else {
        return Err(ClientError::Odd.into());
    };
    if as_json {
        return Ok(json(&listeners, true)?);
    }
    let head = ["PROTO", "GUEST", "HOST", "STATE"];
    Ok(table(head, listeners.iter().map(cells)))
}

fn cells(row: &ListenerRow) -> [String; 4] {
    let at = row.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let state = match &row.error {
        None => "bound".to_owned(),
        Some(error) => format!("not bound: {}", plain(error)),
    };
    [plain(&row.proto), row.guest.to_string(), at, state]
}
