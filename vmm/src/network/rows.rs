//! Rows of the stack as clients read them.

use std::net::SocketAddr;

use sandbox_netstack::host::Errno;
use sandbox_netstack::listeners::{self, Listen, ListenerState, Reported};
use sandbox_netstack::listing;
use sandbox_netstack::policy::{Answer, Names, Protocol};
use sandbox_vm_spec::network::{FlowRow, Listener, ListenerRow, NameRow, OutlookRow, Transport};
use smoltcp::time::Instant;

/// Most bytes of names in a reply. The guest chooses the names, and a client
/// takes only replies of [`MAX_REPLY`](sandbox_vm_spec::network::MAX_REPLY).
const TEXT: usize = 4 << 20;
/// Names of one row, for the same reason.
const NAMES: usize = 8;

pub fn flows(rows: Vec<listing::FlowRow>, now: Instant) -> Vec<FlowRow> {
    let mut left = TEXT;
    let row = |row| {
        let mut row = flow(row, now);
        // The flow itself is always shown.
        row.names.retain(|name| spend(&mut left, name.len()));
        row
    };
    rows.into_iter().map(row).collect()
}

pub fn names(rows: Vec<listing::NameRow>) -> Vec<NameRow> {
    let mut left = TEXT;
    let long = |row: &NameRow| row.name.len() + row.aliases.iter().map(String::len).sum::<usize>();
    rows.into_iter().map(name).take_while(|row| spend(&mut left, long(row))).collect()
}

pub fn reported(listener: Listener) -> Reported {
    let protocol = match listener.transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    Reported { protocol, at: listener.at }
}

/// Listeners that could not be bound.
pub fn failed(failed: Vec<(Listen, Errno)>) -> Vec<(Transport, SocketAddr, String)> {
    let row = |(listen, error): (Listen, Errno)| {
        let transport = match listen.protocol {
            // There is no listener for echo.
            Protocol::Tcp | Protocol::Icmp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        (transport, listen.at, error.to_string())
    };
    failed.into_iter().map(row).collect()
}

pub fn listeners(rows: Vec<listeners::ListenerRow>) -> Vec<ListenerRow> {
    let row = |row: listeners::ListenerRow| listener(row.reported, row.at, why(row.state));
    rows.into_iter().map(row).collect()
}

/// Listeners that are bound when the guest's driver is ready.
pub fn waiting(reported: &[Reported]) -> Vec<ListenerRow> {
    let why = "the guest's network driver is not ready".to_owned();
    reported.iter().map(|reported| listener(*reported, None, Some(why.clone()))).collect()
}

fn listener(reported: Reported, at: Option<SocketAddr>, error: Option<String>) -> ListenerRow {
    ListenerRow { proto: reported.protocol.to_string(), guest: reported.at, at, error }
}

fn why(state: ListenerState) -> Option<String> {
    match state {
        ListenerState::Bound => None,
        ListenerState::Failed(error) => Some(error.to_string()),
        ListenerState::TooMany => {
            Some(format!("there are {} listeners, the most that may be", listeners::MOST))
        }
        ListenerState::Loopback => Some("UDP at the guest's loopback is not passed on".into()),
        ListenerState::Foreign => Some("the pod has no such address".into()),
    }
}

/// The rows are few, and so are the names of a row.
pub fn outlook(rows: Vec<listing::OutlookRow>) -> Vec<OutlookRow> {
    let row = |listing::OutlookRow { address, names, told }: listing::OutlookRow| OutlookRow {
        address,
        names: called(&names),
        answer: answer(told.answer).to_owned(),
        tier: told.tier.to_string(),
        rule: told.rule.map(|rule| rule.to_string()),
        reason: told.reason,
        text: told.text,
    };
    rows.into_iter().map(row).collect()
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Allowed => "allowed",
        Answer::Denied => "denied",
        Answer::Depends => "depends",
    }
}

fn called(names: &Names) -> Vec<String> {
    names.live.iter().take(NAMES).map(|known| known.asked.to_string()).collect()
}

fn spend(left: &mut usize, bytes: usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

fn flow(row: listing::FlowRow, now: Instant) -> FlowRow {
    let since = |then: Instant| if now > then { (now - then).total_millis() } else { 0 };
    let rule = match row.rule {
        Some(rule) => rule.to_string(),
        None => row.reason.to_string(),
    };
    FlowRow {
        id: row.id,
        dir: row.direction.to_string(),
        proto: row.protocol.to_string(),
        guest: row.ends.guest,
        remote: row.ends.remote,
        state: row.state.to_owned(),
        rule,
        tier: row.tier.to_string(),
        names: called(&row.names),
        sent: row.sent,
        received: row.received,
        age_ms: since(row.since),
        idle_ms: since(row.used),
    }
}

fn name(row: listing::NameRow) -> NameRow {
    NameRow {
        address: row.address,
        name: row.known.asked.to_string(),
        aliases: row.known.chain.iter().take(NAMES).map(ToString::to_string).collect(),
        seconds: row.seconds,
    }
}
