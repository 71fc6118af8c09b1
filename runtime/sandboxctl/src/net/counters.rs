use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{Reply, Request};

use crate::show::{json, plain};
use crate::table::table;

/// The counters as a table, or as one JSON object.
pub fn text(client: &mut Client, as_json: bool) -> Result<String, Box<dyn std::error::Error>> {
    let Reply::Counters { counters } = client.ask(&Request::Counters)? else {
        return Err(ClientError::Odd.into());
    };
    if as_json {
        let counters: std::collections::BTreeMap<_, _> = counters.into_iter().collect();
        return Ok(json(&counters, true)?);
    }
    let cells = |(name, count): &(String, u64)| [plain(name), count.to_string()];
    Ok(table(["COUNTER", "COUNT"], counters.iter().map(cells)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tests::fake::Fake;

    #[test]
    fn counters_are_a_table_or_json() {
        let counters = vec![("audit.lost".to_owned(), 3), ("flows.opened".to_owned(), 12)];
        let mut fake = Fake::new(vec![Reply::Counters { counters: counters.clone() }]);
        let shown = text(&mut fake.client, false).unwrap();
        assert_eq!(fake.asked(), [Request::Counters]);
        assert_eq!(shown, "COUNTER       COUNT\naudit.lost    3\nflows.opened  12\n");
        let mut fake = Fake::new(vec![Reply::Counters { counters }]);
        let shown = text(&mut fake.client, true).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown, serde_json::json!({"audit.lost": 3, "flows.opened": 12}));
    }
}
