//! What the stack shows, as it is told to clients.

use sandbox_netstack::listing;
use sandbox_vm_spec::network::{FlowRow, NameRow};
use smoltcp::time::Instant;

/// A flow as it is now.
pub fn flow(row: listing::FlowRow, now: Instant) -> FlowRow {
    let since = |then: Instant| if now > then { (now - then).total_millis() } else { 0 };
    let rule = match row.rule {
        Some(rule) => rule.to_string(),
        None => row.reason.to_string(),
    };
    let names = row.names.live.iter().map(|known| known.asked.to_string());
    FlowRow {
        id: row.id,
        dir: row.direction.to_string(),
        proto: row.protocol.to_string(),
        guest: row.ends.guest,
        remote: row.ends.remote,
        state: row.state.to_owned(),
        rule,
        tier: row.tier.to_string(),
        names: names.collect(),
        sent: row.sent,
        received: row.received,
        age_ms: since(row.since),
        idle_ms: since(row.used),
    }
}

/// A name as it is now.
pub fn name(row: listing::NameRow) -> NameRow {
    NameRow {
        address: row.address,
        name: row.known.asked.to_string(),
        aliases: row.known.chain.iter().map(ToString::to_string).collect(),
        seconds: row.seconds,
    }
}
