#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn an_id_is_taken_once() {
    let table = Arc::new(Table::default());
    let first = table.reserve("a").unwrap();
    assert!(matches!(table.reserve("a"), Err(CallError::Exists(_))));
    assert!(matches!(table.get("a"), Err(CallError::Creating(_))));
    drop(first);
    assert!(matches!(table.get("a"), Err(CallError::NoContainer(_))));
    assert!(table.reserve("a").is_ok());
}

#[test]
fn the_number_of_containers_is_bounded() {
    let table = Arc::new(Table::default());
    let all: Vec<_> = (0..MAX_CONTAINERS).map(|n| table.reserve(&n.to_string()).unwrap()).collect();
    assert!(matches!(table.reserve("one-more"), Err(CallError::TooMany(_))));
    drop(all);
    assert!(table.reserve("one-more").is_ok());
}
