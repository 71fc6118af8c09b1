#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn any(type_url: &str, value: &[u8]) -> Any {
    Any { type_url: type_url.to_owned(), value: value.to_vec(), ..Default::default() }
}

#[test]
fn both_names_of_a_process_are_known() {
    for name in PROCESS {
        assert_eq!(process(Some(any(name, b"{}"))).unwrap(), b"{}");
    }
}

#[test]
fn other_payloads_are_refused() {
    let [wanted, _] = PROCESS;
    assert_eq!(process(None), Err(PayloadError::Missing { wanted }));
    let other = any("containerd.runc.v1.Options", b"{}");
    let found = other.type_url.clone();
    assert_eq!(process(Some(other)), Err(PayloadError::Unknown { found, wanted }));
    assert!(resources(Some(any(wanted, b"{}"))).is_err());
    let longest = any(PROCESS[0], &vec![b' '; MAX_PROCESS]);
    assert_eq!(process(Some(longest)).unwrap().len(), MAX_PROCESS);
    let longest = any(RESOURCES[0], &vec![b' '; MAX_RESOURCES]);
    assert_eq!(resources(Some(longest)).unwrap().len(), MAX_RESOURCES);
    let longer = any(RESOURCES[0], &vec![b' '; MAX_RESOURCES + 1]);
    assert!(matches!(resources(Some(longer)), Err(PayloadError::TooLong { .. })));
}

#[test]
fn only_an_exec_has_details() {
    assert_eq!(details(None), None);
    let found = details(ExecId::new("shell")).unwrap();
    let read = ProcessDetails::parse_from_bytes(&found.value).unwrap();
    assert_eq!(read.exec_id, "shell");
}
