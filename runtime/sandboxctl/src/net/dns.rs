use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{NameRow, Reply, Request};

use crate::show::{age, json, plain};
use crate::table::table;

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;

/// The names that are known now.
pub fn text(client: &mut Client, as_json: bool) -> Result<String, Box<dyn std::error::Error>> {
    let Reply::Names { names } = client.ask(&Request::Names)? else {
        return Err(ClientError::Odd.into());
    };
    if as_json {
        return Ok(json(&names, true)?);
    }
    Ok(table(["NAME", "ADDRESS", "FORGOTTEN IN", "ALIASES"], names.iter().map(cells)))
}

fn cells(row: &NameRow) -> [String; 4] {
    [
        plain(&row.name),
        row.address.to_string(),
        age(row.seconds.saturating_mul(1000)),
        plain(&row.aliases.join(" ")),
    ]
}
