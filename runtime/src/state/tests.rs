#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn state(id: &str, started: u64) -> State {
    let mut state = State::new(Description {
        namespace: "default".into(),
        id: id.into(),
        bundle: "/bundle".into(),
        engine: "qemu".into(),
        engine_reason: "asked".into(),
        vcpus: 1,
        memory_mib: 128,
        started,
        network: "developer".to_owned(),
    });
    let me = ProcessId::of(std::process::id()).unwrap();
    state.processes.push(Member { role: "shim".into(), process: me });
    state
}

#[test]
fn what_is_written_is_read_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let written = state("a", 1);
    written.write(&path).unwrap();
    written.write(&path).unwrap();
    assert_eq!(State::read(&path).unwrap(), written);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    assert!(written.is_running());
}

#[test]
fn cut_off_foreign_and_large_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let whole = serde_json::to_vec(&state("a", 1)).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(State::read(&path).is_err(), "{len} bytes");
    }
    std::fs::write(&path, b"{\"version\":1}").unwrap();
    assert!(State::read(&path).is_err());
    let text = String::from_utf8(whole).unwrap().replace("\"version\":1", "\"version\":2");
    std::fs::write(&path, text).unwrap();
    assert!(State::read(&path).unwrap_err().to_string().contains("version 2"));
    std::fs::write(&path, vec![b' '; 2 * MAX_LEN as usize]).unwrap();
    assert!(State::read(&path).is_err());
}

#[test]
fn pods_are_listed_by_age_and_broken_ones_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
    for (directory, id, started) in [("1", "young", 2), ("2", "old", 1)] {
        std::fs::create_dir(dir.path().join(directory)).unwrap();
        state(id, started).write(&dir.path().join(directory).join("state.json")).unwrap();
    }
    std::fs::create_dir(dir.path().join("3")).unwrap();
    std::fs::write(dir.path().join("kvm-probe.json"), "{}").unwrap();
    let ids: Vec<String> = list(&config).unwrap().into_iter().map(|s| s.pod.id).collect();
    assert_eq!(ids, ["old", "young"]);
    let none = Config { state_dir: dir.path().join("none"), ..Config::default() };
    assert!(list(&none).unwrap().is_empty());
}
